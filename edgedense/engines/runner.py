"""What every engine looks like from outside, whatever runs it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from edgedense.errors import InputError

Floats = NDArray[np.float32]
Images = NDArray[np.float32 | np.float16]

DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class Interface:
    """Names and shapes of a network's one input and one output, without the batch axis.

    ``input_shape`` is (channels, height, width) in pixels, layout NCHW, normalised as the
    artifact's ``preprocess`` says. ``output_shape`` is (classes,), or (classes, height, width)
    with an answer a pixel: raw logits. ``dtype`` is the type of both ends, ``float32`` or
    ``float16``. ``activation`` is what the trained network applied to the logits, and whoever
    wants its probabilities has to: ``softmax``, ``sigmoid``, …
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

    def of(self, payload: str) -> Interface:
        """The interface of one file of a quantize artifact, such as ``int8.fp16.onnx``.

        ``dtype`` is that of the FP16 files: FP32 files have FP32 ends.
        """
        half = payload.removesuffix(".onnx").endswith("fp16")
        return self if half else replace(self, dtype="float32")

    def fed(self, images: Images) -> Images:
        """``images`` in the type that the engine takes. Errors: InputError where they are none."""
        if images.dtype not in DTYPES:
            raise InputError(
                f"images of type {images.dtype}, where the engine takes {self.dtype}",
                "Use the preprocessing that is recorded in the engine's artifact.",
            )
        return images.astype(self.dtype, copy=False)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Interface:
        """From what :meth:`to_dict` gave, after a round trip through JSON.

        Errors: KeyError, TypeError or ValueError where it is something else.
        """
        batch, dtype = raw.get("batch"), raw.get("dtype", "float32")
        if dtype not in DTYPES:
            raise ValueError(f"dtype {dtype!r}")
        found = cls(
            input_name=raw["input_name"],
            input_shape=tuple(raw["input_shape"]),
            output_name=raw["output_name"],
            output_shape=tuple(raw["output_shape"]),
            batch=tuple(batch) if batch else None,
            layout=raw.get("layout", "NCHW"),
            dtype=dtype,
            activation=raw.get("activation", "none"),
        )
        found._check()
        return found

    def _check(self) -> None:
        """Raise ValueError for what no network has: a manifest may say anything."""
        texts = (self.input_name, self.output_name, self.layout, self.activation)
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(f"{text!r} is no text")
        for size in (*self.input_shape, *self.output_shape, *(self.batch or ())):
            if type(size) is not int or size < 1:
                raise ValueError(f"{size!r} is no size")
        if len(self.input_shape) != 3 or not self.output_shape:
            raise ValueError(f"shapes {self.input_shape} and {self.output_shape}")
        batch = list(self.batch or (1, 1, 1))
        if len(batch) != 3 or batch != sorted(batch):
            raise ValueError(f"batch {self.batch}")


class Runner(Protocol):
    """A network that can be run: a torch module, an ONNX Runtime session, a TensorRT engine.

    Runners own what they opened and free it in ``close`` (safe to call twice). They are not
    shared between threads unless their own docstring allows it.
    """

    name: str
    interface: Interface

    def __call__(self, images: Images) -> Floats:
        """Logits (N, *output_shape) of normalised images (N, channels, height, width).

        Images of another type than ``interface.dtype`` are converted; logits come in float32.
        """
        ...

    def close(self) -> None:
        """Free everything."""
        ...


@dataclass(frozen=True)
class Phases:
    """What one call took on the device's clock, in milliseconds, summed over its parts."""

    copy_in_ms: float
    compute_ms: float
    copy_out_ms: float


class PhasedRunner(Runner, Protocol):
    """A runner on a device that copies in, computes and copies out, and can tell them apart."""

    def timed(self, images: Images) -> tuple[Floats, Phases]:
        """The logits of a call, and what its phases took."""
        ...

    def fork(self) -> PhasedRunner:
        """Another context on the same engine, with its own stream and buffers.

        It may run beside this one. Closing it leaves the engine alone; close forks first.
        """
        ...


def is_phased(runner: Runner) -> TypeGuard[PhasedRunner]:
    """Whether ``runner`` can time its phases and be forked."""
    return hasattr(runner, "timed") and hasattr(runner, "fork")
