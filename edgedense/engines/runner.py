"""What every engine looks like from outside, whatever runs it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Interface:
    """Names and shapes of a network's one input and one output, without the batch axis.

    ``input_shape`` is (channels, height, width) in pixels, layout NCHW, float32, normalised as the
    artifact's ``preprocess`` says. ``output_shape`` is (classes,), or (classes, height, width)
    with an answer a pixel: raw logits, float32. ``activation`` is what the trained network
    applied to them, and whoever wants its probabilities has to: ``softmax``, ``sigmoid``, …
    ``batch`` is the range (min, opt, max) that the engine accepts; None leaves it open.
    """

    input_name: str
    input_shape: tuple[int, int, int]
    output_name: str
    output_shape: tuple[int, ...]
    batch: tuple[int, int, int] | None = None
    layout: str = "NCHW"
    dtype: str = "float32"
    activation: str = "none"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Interface:
        """From what :meth:`to_dict` gave, after a round trip through JSON."""
        batch = raw.get("batch")
        return cls(
            input_name=raw["input_name"],
            input_shape=tuple(raw["input_shape"]),
            output_name=raw["output_name"],
            output_shape=tuple(raw["output_shape"]),
            batch=tuple(batch) if batch else None,
            layout=raw.get("layout", "NCHW"),
            dtype=raw.get("dtype", "float32"),
            activation=raw.get("activation", "none"),
        )


class Runner(Protocol):
    """A network that can be run: a torch module, an ONNX Runtime session, a TensorRT engine.

    Runners own what they opened and free it in ``close`` (safe to call twice). They are not
    shared between threads unless their own docstring allows it.
    """

    name: str
    interface: Interface

    def __call__(self, images: Floats) -> Floats:
        """Logits (N, *output_shape) of normalised images (N, channels, height, width)."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...
