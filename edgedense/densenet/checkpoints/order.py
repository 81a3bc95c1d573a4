"""A DenseNet from tensors whose names tell nothing: by their order, their kinds and their widths.

It serves Lua exports, Keras' automatic names, Caffe's numbered layers and Hinge, whose modules are
all called after their places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from edgedense.densenet.checkpoints.readings import Pair, read_widths
from edgedense.densenet.checkpoints.recognised import Facts, Recognised
from edgedense.errors import InputError

ASSUMED = "Read by order: concats are taken as [input, new features], with a ReLU after every BN."


@dataclass(frozen=True)
class Step:
    """One operator with weights.

    ``tensors`` of a ``conv`` are its weight (out, in, kh, kw); of a ``norm`` gamma, beta, mean and
    variance (C); of a ``linear`` the weight (out, in) and the bias (out). ``name`` is for messages.
    """

    kind: Literal["conv", "norm", "linear"]
    name: str
    tensors: tuple[Tensor, ...]


def recognise_order(tensors: Mapping[str, Tensor], path: Path) -> Recognised:
    """Recognise an ordered collection of tensors, layouts as in PyTorch; ``path`` for messages.

    Errors: InputError where they are no chain of a DenseNet's convolutions, BNs and classifier, or
    where their widths fit two structures.
    """
    state, notes = arrange(steps_of(tensors, path), path)
    notes = (ASSUMED, "eps 1e-5 and symmetric padding are assumed.", *notes)
    return Recognised("order", state, Facts(notes=notes))


def steps_of(tensors: Mapping[str, Tensor], path: Path) -> list[Step]:
    """Group tensors into operators; scalars (BN's counters) are left out."""
    waiting = [(name, value) for name, value in tensors.items() if value.ndim]
    waiting.reverse()
    steps = []
    while waiting:
        name, value = waiting.pop()
        if value.ndim == 4:
            steps.append(Step("conv", name, (value,)))
        elif value.ndim == 2:
            steps.append(Step("linear", name, (value, _bias(waiting, name, value, path))))
        else:
            four = [(name, value), *(waiting.pop() for _ in range(min(3, len(waiting))))]
            steps.append(Step("norm", name, _norm(four, path)))
    return steps


def arrange(steps: Sequence[Step], path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """(state dict with torchvision's names, notes) of operators in the order of the data.

    Errors: InputError as :func:`recognise_order`.
    """
    stem, body, head = _parts(list(steps), path)
    pairs = _pairs(body, path)
    first, last = (int(step.tensors[0].shape[0]) for step in (stem[0], head[0]))
    letters, notes = read_widths(pairs, first, last, path)
    state = dict(named("features.conv0", stem[0]))
    for norm in stem[1:]:
        state |= named("features.norm0", norm)
    for name, step in _places(letters, body):
        state |= named(name, step)
    state |= named("features.norm5", head[0]) | named("classifier", head[1])
    return state, notes


def named(name: str, step: Step) -> dict[str, Tensor]:
    """The step's tensors under our names, for the module ``name``."""
    parts = _PARTS[step.kind]
    return {f"{name}.{part}": t for part, t in zip(parts, step.tensors, strict=True)}


_PARTS = {
    "conv": ("weight",),
    "norm": ("weight", "bias", "running_mean", "running_var"),
    "linear": ("weight", "bias"),
}
# the last word of a BN tensor's name; the file's own order counts where names tell nothing
_ROLES = {
    **{"weight": 0, "bias": 1, "running_mean": 2, "running_var": 3},
    **{"gamma": 0, "beta": 1, "moving_mean": 2, "moving_variance": 3},
}


def _norm(four: Sequence[tuple[str, Tensor]], path: Path) -> tuple[Tensor, ...]:
    first, value = four[0]
    if value.ndim != 1 or {tuple(t.shape) for _, t in four} != {tuple(value.shape)}:
        raise InputError(
            f"{path}: {first} {tuple(value.shape)} does not start the four vectors of a BN",
            "Convolutions with biases, BNs without gamma and beta, and other orders of the "
            "tensors are unknown.",
        )
    roles = [_ROLES.get(name.replace("/", ".").rpartition(".")[2]) for name, _ in four]
    known = [role for role in roles if role is not None]
    if len(four) < 4 or (known and sorted(known) != [0, 1, 2, 3]):
        raise InputError(
            f"{path}: the BN that starts at {first} is not gamma, beta, mean and variance",
            "Save the tensors of each BN together, in this order.",
        )
    order = [known.index(role) for role in range(4)] if known else range(4)
    norm = tuple(four[place][1] for place in order)
    if bool((norm[3] < 0).any()):
        raise InputError(
            f"{path}: the BN that starts at {first} would have a negative variance",
            "The order of its tensors must be gamma, beta, mean, variance.",
        )
    return norm


def _bias(waiting: list[tuple[str, Tensor]], name: str, weight: Tensor, path: Path) -> Tensor:
    if waiting and tuple(waiting[-1][1].shape) == tuple(weight.shape[:1]):
        return waiting.pop()[1]
    raise InputError(
        f"{path}: no bias of {weight.shape[0]} follows the classifier's weight {name}",
        "The file is cut short, or the weight is (in, out): (out, in) is expected.",
    )


def _parts(steps: list[Step], path: Path) -> tuple[list[Step], list[Step], list[Step]]:
    kinds: list[str] = [step.kind for step in steps]
    if kinds[-2:] != ["norm", "linear"] or kinds[0] != "conv":
        found = ", ".join([*kinds[:2], "…", *kinds[-2:]]) if steps else "nothing"
        raise InputError(
            f"{path}: from convolution to BN and classifier is expected, found {found}",
            "Give the whole network's weights, in the order in which it computes.",
        )
    kernel = tuple(steps[0].tensors[0].shape[2:])
    if kernel not in ((3, 3), (7, 7)):
        raise InputError(
            f"{path}: a stem with a {kernel[0]}x{kernel[1]} kernel ({steps[0].name}) is unknown",
            "edgedense knows the 7x7 stem for ImageNet and the 3x3 stem for CIFAR.",
        )
    cut = 2 if kernel == (7, 7) else 1
    return steps[:cut], steps[cut:-2], steps[-2:]


def _pairs(body: Sequence[Step], path: Path) -> list[Pair]:
    for step, kind in zip(body, ("norm", "conv") * len(body), strict=False):
        if step.kind != kind:
            raise InputError(
                f"{path}: {step.name} is a {step.kind}, where a {kind} would come in a DenseNet",
                "BN, ReLU and convolution must alternate; other layers are unknown.",
            )
    pairs = []
    for norm, conv in zip(body[::2], body[1::2], strict=False):
        out, fan_in, *kernel = conv.tensors[0].shape
        if fan_in != norm.tensors[0].shape[0] or kernel not in ([1, 1], [3, 3]):
            raise InputError(
                f"{path}: {conv.name} {tuple(conv.tensors[0].shape)} does not read the "
                f"{norm.tensors[0].shape[0]} channels of {norm.name}",
                "Grouped, pruned-by-index and other convolutions cannot be read by order.",
            )
        pairs.append(Pair(conv.name, fan_in, out, kernel[0]))
    return pairs


def _places(letters: str, body: Sequence[Step]) -> Iterator[tuple[str, Step]]:
    steps, block, layer = iter(body), 1, 0
    for letter in letters:
        if letter == "t":
            names = [f"features.transition{block}.{part}" for part in ("norm", "conv")]
            block, layer = block + 1, 0
        else:
            layer += 1
            parts = ("norm1", "conv1", "norm2", "conv2")[: 4 if letter == "b" else 2]
            names = [f"features.denseblock{block}.denselayer{layer}.{part}" for part in parts]
        for name in names:
            yield name, next(steps)
