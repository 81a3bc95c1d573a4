"""An engine as the rules see it: its layers, who makes each value, times, and what was asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from edgedense.insight.layers import Layer, Tensor
from edgedense.insight.read import Inspected


@dataclass(frozen=True)
class Asked:
    """What the engine was built for, as far as it is known.

    ``precision`` is the build's (int8, fp16, fp32), ``rest`` that of what INT8 leaves alone;
    ``nodes`` are the names of the ONNX nodes between Q/DQ. None where nobody tells.
    """

    precision: str | None = None
    rest: str | None = None
    nodes: frozenset[str] | None = None


@dataclass(frozen=True, eq=False)
class Engine:
    """``times`` are milliseconds of a call by name of layer, empty without a profile."""

    inspected: Inspected
    asked: Asked = field(default_factory=Asked)
    times: Mapping[str, float] = field(default_factory=dict)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers of which more than a name is told."""
        return self.inspected.layers

    @cached_property
    def weighted(self) -> tuple[Layer, ...]:
        """Convolutions and matrix products."""
        return tuple(layer for layer in self.layers if layer.role == "weighted")

    @cached_property
    def makers(self) -> Mapping[str, Layer]:
        """The layer that makes each value."""
        return {end.name: layer for layer in self.layers for end in layer.outputs}

    @cached_property
    def total_ms(self) -> float | None:
        """Milliseconds of a call, all layers; None without a profile."""
        return sum(self.times.values()) if self.times else None

    def time_ms(self, layer: Layer) -> float | None:
        """Milliseconds of one layer; None where the profile does not tell."""
        return self.times.get(layer.name)

    def share(self, layer: Layer) -> float | None:
        """Share of a call's time; None without a profile."""
        time_ms = self.time_ms(layer)
        return time_ms / self.total_ms if time_ms is not None and self.total_ms else None

    def behind(self, end: Tensor) -> Iterator[Layer]:
        """The layer that makes ``end``, and those before it as long as they only change layouts."""
        name, seen = end.name, set[str]()
        while name in self.makers and name not in seen:
            seen.add(name)
            layer = self.makers[name]
            yield layer
            if layer.role not in ("reformat", "nothing") or not layer.inputs:
                return
            name = layer.inputs[0].name

    def is_image(self, end: Tensor) -> bool:
        """Whether ``end`` is an input of the engine, in whatever layout."""
        first = end.name
        for layer in self.behind(end):
            if layer.role not in ("reformat", "nothing") or not layer.inputs:
                return False
            first = layer.inputs[0].name
        return first in self.inspected.inputs or (
            not self.inspected.inputs and first not in self.makers
        )

    def asks_int8(self, layer: Layer) -> bool:
        """Whether a weighted layer was to run in INT8.

        By the ONNX file where it is known; else by what is left of Q/DQ in its name or in front
        of it; else a build for INT8 is supposed to have asked it of all.
        """
        if self.asked.nodes is not None:
            return any(node in self.asked.nodes for node in layer.nodes)
        if self.asked.precision in ("fp16", "fp32"):
            return False
        return self.asked.precision == "int8" or self.shows_quantization(layer)

    def shows_quantization(self, layer: Layer) -> bool:
        """Whether Q/DQ was fused into a layer, or stands unfused in front of it."""
        return layer.quantized_by_name or any(
            before.role == "quantizer" for end in layer.inputs for before in self.behind(end)
        )

    @cached_property
    def fallen(self) -> tuple[Layer, ...]:
        """Weighted layers that were to run in INT8 and do not."""
        return tuple(
            layer
            for layer in self.weighted
            if layer.precision not in ("INT8", None) and self.asks_int8(layer)
        )
