"""What an engine launches for a network, with the work and the traffic of each launch.

A convolution takes its bias, a BN that folds into it, its ReLU and the quantization of its output
along. BN and ReLU behind a concat fold into nothing: they are a pass over it, which also quantizes.
A concat itself is free, as its producers write into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from edgedense.densenet.specs import Spec
from edgedense.densenet.wiring import Grid, Wire, grids, private, wires
from edgedense.errors import InputError

Kind = Literal["conv", "transposed", "linear", "pass", "pool", "call"]
Precision = Literal["int8", "fp16", "fp32"]
Placement = Literal["conv", "block"]

BYTES: dict[Precision, int] = {"int8": 1, "fp16": 2, "fp32": 4}
PLACEMENTS = ("conv", "block")


@dataclass(frozen=True)
class Form:
    """In what form a network runs: ``precision`` of convolutions, ``batch`` images at once.

    ``placement`` has a say with INT8 only: ``block`` keeps concats in INT8 too, ``conv`` in
    ``rest``, the floating-point type of what INT8 leaves alone. Errors: InputError for a value that
    there is not.
    """

    precision: Precision = "int8"
    placement: Placement = "conv"
    batch: int = 1
    rest: Precision = "fp16"

    def __post_init__(self) -> None:
        if self.precision not in BYTES:
            raise InputError(f"precision {self.precision}: unknown", f"Use {', '.join(BYTES)}.")
        if self.placement not in PLACEMENTS:
            raise InputError(f"placement {self.placement}: unknown", "Use conv or block.")
        if self.batch < 1:
            raise InputError(f"batch {self.batch} is less than 1", "Give 1 or more.")

    @property
    def floating(self) -> Precision:
        """The floating-point type of the engine."""
        return self.rest if self.precision == "int8" else self.precision

    @property
    def concat(self) -> Precision:
        """The type of the concats."""
        whole = self.precision == "int8" and self.placement == "block"
        return "int8" if whole else self.floating


@dataclass(frozen=True)
class Kernel:
    """One launch: ``read`` and ``written`` elements of types ``reads`` and ``writes``.

    ``precision`` is that of its products: ``fan_in`` times ``out`` channels, ``side`` squared, at
    each of ``positions`` (of all images); passes and pools have none, ``side`` is 0. Kernels that
    differ in ``name`` alone are equal.
    """

    name: str = field(compare=False)
    kind: Kind
    precision: Precision
    fan_in: int
    out: int
    side: int
    positions: int
    read: int
    reads: Precision
    written: int
    writes: Precision

    @property
    def weights(self) -> int:
        """Elements of the weights."""
        return self.fan_in * self.out * self.side**2

    @property
    def bytes(self) -> int:
        """Traffic, each element once."""
        own = self.weights * BYTES[self.precision]
        return own + self.read * BYTES[self.reads] + self.written * BYTES[self.writes]

    def macs(self, multiple: int) -> int:
        """Products, with the channels of INT8 padded to a ``multiple`` as TensorRT pads them.

        The image's few channels are padded to 4 alone, which its CHW4 format is for.
        """
        fan_in, out = self.fan_in, self.out
        if self.precision == "int8":
            image = self.reads == "fp32"
            fan_in = _padded(fan_in, min(4, multiple) if image else multiple)
            out = _padded(out, multiple)
        return fan_in * out * self.side**2 * self.positions


def kernels(spec: Spec, input_size: Grid, form: Form) -> Iterator[Kernel]:
    """Launches of ``spec`` for images of ``input_size`` pixels, in order, named by their modules.

    timm's blur counts as one with the pool in front of it. Errors: InputError where the image is
    too small for the network.
    """
    found = wires(spec)
    places = _Places(
        form,
        input_size[0] * input_size[1] * form.batch,
        tuple(height * width * form.batch for height, width in grids(spec, input_size)),
        # a BN folds into the convolution that it alone reads, but not through a pool
        private(found) - {wire.name for wire in found if wire.pools},
        found[-1].name,
    )
    for wire in found:
        yield from places.launches(wire)


@dataclass(frozen=True)
class _Places:
    """Where the layers of one network work: positions of the image and of each grid."""

    form: Form
    image: int
    grids: tuple[int, ...]
    folded: frozenset[str]
    last: str

    def launches(self, wire: Wire) -> Iterator[Kernel]:
        """One layer: the pass in front of it, its own kernel, its pool."""
        form = self.form
        here = self.grids[-1 if wire.grid is None else wire.grid]
        flat = wire.grid is None
        if wire.reads and wire.reads[0] not in self.folded:
            needed = (wire.norm and wire.relu) or form.concat != form.precision
            into = form.floating if flat else form.precision
            if needed:
                name, count = wire.norm or f"{wire.name}.input", here * wire.fan_in
                yield _moved(name, "pass", wire.fan_in, (count, form.concat), (count, into))
        if flat:
            ends = (here * wire.fan_in, form.floating), (form.batch * wire.fan_in, form.precision)
            yield _moved("global_pool", "pool", wire.fan_in, *ends)
        yield self._layer(wire, form.batch if flat else here)
        if wire.pools and wire.grid is not None:
            after = self.grids[wire.grid + 1]
            ends = (here * wire.out, form.concat), (after * wire.out, form.concat)
            yield _moved(f"{wire.name}.pool", "pool", wire.out, *ends)

    def _layer(self, wire: Wire, here: int) -> Kernel:
        form = self.form
        after = self.grids[wire.grid - 1] if wire.transposed and wire.grid else here
        writes = form.concat
        if wire.name in self.folded:
            writes = form.precision
        elif wire.name == self.last:
            writes = form.floating
        kind: Kind = "transposed" if wire.transposed else "conv"
        return Kernel(
            name=wire.name,
            kind="linear" if wire.grid is None else kind,
            precision=form.precision,
            fan_in=wire.fan_in,
            out=wire.out,
            side=wire.kernel,
            positions=here,
            read=wire.fan_in * (here if wire.reads else self.image),
            reads=form.precision if wire.reads else "fp32",
            written=wire.out * after,
            writes=writes,
        )


def _moved(
    name: str,
    kind: Kind,
    channels: int,
    read: tuple[int, Precision],
    written: tuple[int, Precision],
) -> Kernel:
    ends = (0, *read, *written)
    return Kernel(name, kind, read[1], channels, channels, 0, *ends)


def _padded(channels: int, multiple: int) -> int:
    return -(-channels // multiple) * multiple
