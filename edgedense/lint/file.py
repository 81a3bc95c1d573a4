"""An ONNX graph as the rules see it: who makes and who reads each value, and its constants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
CONVOLUTIONS = ("Conv", "ConvTranspose")
WEIGHTED = (*CONVOLUTIONS, "Gemm", "MatMul")
ACTIVATIONS = frozenset(
    {"Relu", "Clip", "Max", "Min", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish"}
)
# Q and DQ pass through these exactly: Q(op(x)) = op(Q(x))
COMMUTING = frozenset(
    {
        *("Identity", "Dropout", "MaxPool", "Flatten", "Reshape", "Transpose", "Slice", "Squeeze"),
        *("Unsqueeze", "Split", "DepthToSpace", "SpaceToDepth"),
    }
)


@dataclass(frozen=True, eq=False)
class Op:
    """One node; an input that is left out is ""."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""

    @property
    def output(self) -> str:
        """The first output, "" where there is none."""
        return self.outputs[0] if self.outputs else ""

    def input(self, position: int) -> str:
        """The input at ``position``, "" where it is left out."""
        return self.inputs[position] if position < len(self.inputs) else ""


@dataclass(frozen=True, eq=False)
class Constant:
    """An initializer or Constant node; its values are only loaded by ``read``."""

    name: str
    type: str
    shape: tuple[int, ...]
    read: Callable[[], NDArray[Any]]

    @cached_property
    def value(self) -> NDArray[Any]:
        """The values, kept: for scales and zero-points."""
        return self.read()

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=object)) if self.shape else 1


@dataclass(frozen=True)
class Input:
    """A graph input; an axis is a number of elements, or None where it is free."""

    name: str
    type: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class File:
    """The graph of one file; ``ops`` are in an order in which they can run."""

    ops: tuple[Op, ...]
    constants: Mapping[str, Constant]
    inputs: tuple[Input, ...]
    outputs: frozenset[str]
    opset: int
    unseen: tuple[Op, ...] = ()
    producer: str = ""

    @cached_property
    def makers(self) -> Mapping[str, Op]:
        """The op that makes each value."""
        return {name: op for op in self.ops for name in op.outputs}

    @cached_property
    def readers(self) -> Mapping[str, tuple[Op, ...]]:
        """The ops that read each value."""
        found: dict[str, dict[Op, None]] = {}
        for op in self.ops:
            for name in op.inputs:
                found.setdefault(name, {})[op] = None
        return {name: tuple(ops) for name, ops in found.items()}

    @cached_property
    def fixed(self) -> frozenset[str]:
        """Values that do not depend on the images: constants and what is computed from them."""
        found = set(self.constants)
        for op in self.ops:
            known = [name for name in op.inputs if name]
            if known and all(name in found for name in known):
                found.update(op.outputs)
        return frozenset(found)

    @cached_property
    def quantizers(self) -> tuple[Op, ...]:
        """QuantizeLinear and DequantizeLinear."""
        return tuple(op for op in self.ops if op.kind in (QUANTIZE, DEQUANTIZE))

    @cached_property
    def heads(self) -> tuple[Op, ...]:
        """The quantizers, without a DequantizeLinear that repeats the numbers of its Q."""
        return tuple(op for op in self.quantizers if not self._repeats(op))

    @cached_property
    def weighted(self) -> tuple[Op, ...]:
        """Convolutions and matrix products with weights (not of two activations)."""
        return tuple(op for op in self.ops if op.kind in WEIGHTED and op.input(1) in self.fixed)

    def maker(self, name: str, *kinds: str) -> Op | None:
        """The op that makes ``name``; None where there is none, or none of ``kinds``."""
        op = self.makers.get(name)
        return op if op is not None and (not kinds or op.kind in kinds) else None

    def read_by(self, name: str) -> tuple[Op, ...]:
        """The ops that read ``name``."""
        return self.readers.get(name, ())

    def constant(self, name: str) -> Constant | None:
        """The constant called ``name``, or None."""
        return self.constants.get(name)

    def scale(self, op: Op) -> NDArray[np.float64] | None:
        """Scales of a quantizer; None where they are computed."""
        found = self.constant(op.input(1))
        return None if found is None else np.asarray(found.value, np.float64)

    def dequantizer(self, name: str) -> Op | None:
        """The DequantizeLinear that ``name`` comes from, by way of ops that commute with it."""
        op = self.maker(name)
        while op is not None and op.kind in COMMUTING:
            op = self.maker(op.input(0))
        return op if op is not None and op.kind == DEQUANTIZE else None

    def is_int8(self, op: Op) -> bool:
        """Whether data and weights of a weighted op both come from a DequantizeLinear."""
        weight = self.maker(op.input(1), DEQUANTIZE)
        return weight is not None and self.dequantizer(op.input(0)) is not None

    def stored(self, name: str) -> Constant | None:
        """The constant behind ``name``, by way of quantizers."""
        op = self.maker(name, QUANTIZE, DEQUANTIZE)
        while op is not None:
            name = op.input(0)
            op = self.maker(name, QUANTIZE, DEQUANTIZE)
        return self.constant(name)

    def beyond(self, op: Op) -> Iterator[Op]:
        """For a QuantizeLinear: the ops that read what its DequantizeLinear gives."""
        for pair in self.read_by(op.output):
            yield from self.read_by(pair.output) if pair.kind == DEQUANTIZE else (pair,)

    def _repeats(self, op: Op) -> bool:
        before = self.maker(op.input(0), QUANTIZE) if op.kind == DEQUANTIZE else None
        if before is None:
            return False
        pairs = zip(before.inputs[1:], op.inputs[1:], strict=False)
        return len(before.inputs) == len(op.inputs) and all(self._same(*pair) for pair in pairs)

    def _same(self, one: str, other: str) -> bool:
        """Whether two names stand for the same numbers."""
        first, second = self.constant(one), self.constant(other)
        if one == other or first is None or second is None:
            return one == other
        return first.type == second.type and np.array_equal(first.value, second.value)
