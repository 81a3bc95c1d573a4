"""Forward throughput of our modules against the plain definition of the network.

The plain definition is written here from the papers, with functions on the same weights and
nothing clever: it concatenates what there is at every layer, and applies BN, ReLU and convolution
one after another. Both run in eval mode on the CPU, in turns, so that what else the machine does
meets both alike. The ratio is the median over pairs of neighbouring runs; above 1, ours is faster.

    python benchmarks/throughput.py [--rounds N] [--threads N]
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import Any

import click
import torch
from torch import Tensor
from torch.nn import functional as F

from edgedense.densenet import zoo
from edgedense.densenet.family import initialised
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.densenet.spec import DenseNetSpec

CASES = (
    ("densenet121", 1),
    ("densenet121", 8),
    ("densenet-bc-100-12", 32),
    ("fc-densenet56", 1),
)
Weights = dict[str, Tensor]


def plain_classifier(spec: DenseNetSpec, weights: Weights, x: Tensor) -> Tensor:
    """DenseNet as in arXiv 1608.06993: logits (N, classes) of images."""
    imagenet = spec.stem == "imagenet"
    x = F.conv2d(x, weights["features.conv0.weight"], None, *((2, 3) if imagenet else (1, 1)))
    if imagenet:
        x = F.max_pool2d(bn_relu(x, weights, "features.norm0"), 3, 2, 1)
    for b, block in enumerate(spec.blocks, start=1):
        if b > 1:
            name = f"features.transition{b - 1}"
            x = bn_relu(x, weights, f"{name}.norm")
            x = F.avg_pool2d(F.conv2d(x, weights[f"{name}.conv.weight"]), 2)
        for i in range(1, len(block) + 1):
            name = f"features.denseblock{b}.denselayer{i}"
            y = F.conv2d(bn_relu(x, weights, f"{name}.norm1"), weights[f"{name}.conv1.weight"])
            y = bn_relu(y, weights, f"{name}.norm2")
            x = torch.cat([x, F.conv2d(y, weights[f"{name}.conv2.weight"], None, 1, 1)], 1)
    x = bn_relu(x, weights, "features.norm5").mean((2, 3))
    return F.linear(x, weights["classifier.weight"], weights["classifier.bias"])


def plain_tiramisu(spec: FCDenseNetSpec, weights: Weights, x: Tensor) -> Tensor:
    """FC-DenseNet as in arXiv 1611.09326: logits (N, classes, H, W) of images."""
    x = conv(x, weights, "firstconv", 1)
    skips = []
    for d, growths in enumerate(spec.down):
        x = plain_block(x, weights, f"denseBlocksDown.{d}", len(growths))
        skips.append(x)
        name = f"transDownBlocks.{d}"
        x = F.max_pool2d(conv(bn_relu(x, weights, f"{name}.norm"), weights, f"{name}.conv"), 2)
    width = x.shape[1]
    x = plain_block(x, weights, "bottleneck.bottleneck", len(spec.middle))
    for u, growths in enumerate(spec.up):
        name = f"transUpBlocks.{u}.convTrans"
        up = F.conv_transpose2d(
            x[:, width:], weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2
        )
        skip = skips.pop()
        top, left = ((up.shape[k] - skip.shape[k]) // 2 for k in (2, 3))
        up = up[:, :, top : top + skip.shape[2], left : left + skip.shape[3]]
        x = torch.cat([up, skip], 1)
        width = x.shape[1]
        x = plain_block(x, weights, f"denseBlocksUp.{u}", len(growths))
    return conv(x, weights, "finalConv")


def plain_block(x: Tensor, weights: Weights, block: str, layers: int) -> Tensor:
    for i in range(layers):
        name = f"{block}.layers.{i}"
        y = conv(bn_relu(x, weights, f"{name}.norm"), weights, f"{name}.conv", 1)
        x = torch.cat([x, y], 1)
    return x


def conv(x: Tensor, weights: Weights, name: str, padding: int = 0) -> Tensor:
    return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], 1, padding)


def bn_relu(x: Tensor, weights: Weights, name: str) -> Tensor:
    mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    return F.relu(F.batch_norm(x, mean, var, weights[f"{name}.weight"], weights[f"{name}.bias"]))


@torch.no_grad()
def compare(name: str, batch: int, rounds: int) -> dict[str, Any]:
    """Images a second of both, and how many times faster ours is, with its quartiles."""
    entry = next(entry for entry in zoo.ENTRIES if entry.name == name)
    network = initialised(zoo.find(name), 0).eval()
    weights, spec = dict(network.state_dict()), network.spec
    images = torch.randn(batch, spec.in_channels, *entry.input_size)

    def plain() -> Tensor:
        if isinstance(spec, DenseNetSpec):
            return plain_classifier(spec, weights, images)
        return plain_tiramisu(spec, weights, images)

    def ours() -> Tensor:
        logits: Tensor = network(images)
        return logits

    torch.testing.assert_close(ours(), plain(), rtol=1e-4, atol=1e-4)  # warms up, too
    pairs = [_pair(ours, plain, ours_first=bool(number % 2)) for number in range(rounds)]
    ratios = [slow / fast for fast, slow in pairs]
    low, _, high = quantiles(ratios, n=4)
    return {
        "name": name,
        "batch": batch,
        "ours_ips": batch / median(fast for fast, _ in pairs),
        "plain_ips": batch / median(slow for _, slow in pairs),
        "ratio": median(ratios),
        "ratio_quartiles": [low, high],
        "rounds": rounds,
        "threads": torch.get_num_threads(),
    }


def _pair(
    ours: Callable[[], Tensor], plain: Callable[[], Tensor], *, ours_first: bool
) -> tuple[float, float]:
    """Seconds of one run of each, one right behind the other."""
    if ours_first:
        first = _seconds(ours)
        return first, _seconds(plain)
    second = _seconds(plain)
    return _seconds(ours), second


def _seconds(run: Callable[[], Tensor]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


@click.command()
@click.option("--rounds", default=30, show_default=True, help="Runs of each, in turns.")
@click.option("--threads", type=int, help="Threads of PyTorch; its own choice by default.")
@click.option("--json", "as_json", is_flag=True)
def main(rounds: int, threads: int | None, as_json: bool) -> None:
    if threads:
        torch.set_num_threads(threads)
    if not as_json:
        head = "| network | batch | ours, images/s | plain, images/s | ratio | its quartiles |"
        click.echo(f"{head}\n| --- |{' ---: |' * 5}")
    for name, batch in CASES:
        row = compare(name, batch, rounds)
        if as_json:
            click.echo(json.dumps(row))
            continue
        low, high = row["ratio_quartiles"]
        speeds = f"{row['ours_ips']:.1f} | {row['plain_ips']:.1f}"
        click.echo(f"| {name} | {batch} | {speeds} | {row['ratio']:.3f} | {low:.3f}-{high:.3f} |")


if __name__ == "__main__":
    main()
