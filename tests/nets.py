"""Small DenseNets of every kind, with weights and BN statistics like those of trained ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from edgedense.data import ImageSet, load_set
from edgedense.densenet.family import Spec, initialised
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.densenet.spec import DenseNetSpec
from edgedense.graph.nodes import Graph
from edgedense.graph.run import GraphRunner
from edgedense.quantize.equalize import producers
from edgedense.quantize.spans import ChannelHistograms

Floats = NDArray[np.float32]


STEMS = ("cifar", "imagenet", "deep", "deep-blur")


@st.composite
def specs(draw: st.DrawFn, bottleneck: bool | None = None) -> DenseNetSpec:
    blocks = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    rates = draw(st.lists(st.integers(1, 5), min_size=len(blocks), max_size=len(blocks)))
    spec = DenseNetSpec.build(
        blocks,
        rates,
        num_classes=draw(st.integers(1, 5)),
        stem=draw(st.sampled_from(STEMS)),
        in_channels=draw(st.sampled_from((1, 3))),
        stem_width=draw(st.sampled_from((None, 3, 8))),
        bottleneck=draw(st.booleans()) if bottleneck is None else bottleneck,
        bn_size=draw(st.integers(1, 4)),
        compression=draw(st.sampled_from((0.5, 0.7, 1.0))),
        pool=draw(st.sampled_from(("avg", "max"))),
        dropout=draw(st.sampled_from((0.0, 0.3))),
    )
    imagenet = spec.stem == "imagenet"
    return replace(
        spec,
        stem_hidden=(2, 5) if spec.stem.startswith("deep") else (),
        padding=draw(st.sampled_from(("symmetric", "same"))) if imagenet else "symmetric",
        transition_relu=draw(st.booleans()),
        eps=draw(st.sampled_from((1e-5, 1e-3))),
    )


@st.composite
def tiramisus(draw: st.DrawFn) -> FCDenseNetSpec:
    """Every layer and transition has a width of its own, as after pruning."""
    depth = draw(st.integers(1, 2))
    few, block = st.integers(1, 5), st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)

    def some(values: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        return tuple(draw(st.lists(values, min_size=depth, max_size=depth)))

    return FCDenseNetSpec(
        in_channels=draw(st.sampled_from((1, 3))),
        stem_width=draw(few),
        down=some(block),
        middle=draw(block),
        up=some(block),
        transitions_down=some(few),
        transitions_up=some(few),
        num_classes=draw(st.integers(1, 4)),
    )


@st.composite
def sizes(draw: st.DrawFn, spec: Spec) -> tuple[int, int]:
    """Input sizes, odd ones too, of which the transitions leave at least one pixel."""
    if isinstance(spec, FCDenseNetSpec):
        least = 2 ** len(spec.down)
    else:
        least = 2 ** (len(spec.blocks) - 1) * {"cifar": 1, "deep-blur": 8}.get(spec.stem, 4)
    return draw(st.integers(least, least + 9)), draw(st.integers(least, least + 9))


def tiny(blocks: Sequence[int] = (2, 2), growth: int = 4, **changes: Any) -> DenseNetSpec:
    return DenseNetSpec.build(blocks, growth, **{"num_classes": 3, **changes})


def trained(spec: Spec, seed: int = 0) -> Any:
    """Every BN has its own scale (some negative), shift and statistics; none is left fresh."""
    network = initialised(spec, seed)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.weight.shape
            sign = torch.where(torch.rand(shape, generator=generator) < 0.2, -1.0, 1.0)
            module.weight.data = sign * (torch.rand(shape, generator=generator) + 0.5)
            module.bias.data = torch.randn(shape, generator=generator) / 2
            module.running_mean = torch.randn(shape, generator=generator) / 2
            module.running_var = torch.rand(shape, generator=generator) + 0.5
            module.num_batches_tracked = torch.tensor(7)
        elif getattr(module, "bias", None) is not None:
            module.bias.data = torch.randn(module.bias.shape, generator=generator)
    return network.eval()


def images(spec: Spec, size: tuple[int, int] = (8, 8), count: int = 3) -> Floats:
    shape = (count, spec.in_channels, *size)
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


@torch.no_grad()
def logits(network: nn.Module, x: Floats) -> Floats:
    return network.eval()(torch.from_numpy(x.copy())).numpy()


def relative_error(wanted: Floats, found: Floats) -> float:
    assert wanted.shape == found.shape
    return float(np.abs(wanted - found).max() / np.abs(wanted).max())


def grey_set(folder: Path, count: int, size: tuple[int, int]) -> ImageSet:
    """Grey noise with three classes, as an .npz file in ``folder``."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, *size), dtype=np.uint8)
    np.savez(folder / "calib.npz", images=pixels, labels=np.arange(count) % 3)
    return load_set(folder / "calib.npz")


def histograms(graph: Graph, x: Floats, size: int = 8) -> dict[str, ChannelHistograms]:
    """What the producers of concats give for ``x``, ``size`` images at once."""
    found: dict[str, ChannelHistograms] = {}
    wanted = set(producers(graph))

    def observe(name: str, value: torch.Tensor) -> None:
        if name in wanted:
            if name not in found:
                found[name] = ChannelHistograms(value)
            found[name].add(value)

    runner = GraphRunner(graph)
    for start in range(0, len(x), size):
        runner(x[start : start + size].copy(), observe)
    return found
