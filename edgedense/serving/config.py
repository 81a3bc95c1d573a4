"""The text of a config.pbtxt: ``inference.ModelConfig`` in protobuf's text format.

Source: triton-inference-server/common, protobuf/model_config.proto, and what Triton checks beyond
it when it loads a model (triton-inference-server/core, model_config_utils.cc).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgedense.engines.runner import Interface

LABELS_FILE = "labels.txt"
DATA_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16"}


@dataclass(frozen=True)
class Backend:
    """A backend of Triton: its names there, the file it loads, and where its instances run."""

    name: str
    platform: str
    file: str
    kind: str


@dataclass(frozen=True)
class Enum:
    """A value that is written without quotes."""

    name: str


Value = str | int | Enum | dict[str, "Value"] | list["Value"]


@dataclass(frozen=True)
class Model:
    """What a configuration says of one model.

    Batch sizes count images. Shapes are those of ``interface``, without the batch axis, which is
    how Triton wants them of a model whose ``max_batch_size`` is not 0.
    """

    name: str
    backend: Backend
    interface: Interface
    max_batch_size: int
    preferred_batch_sizes: tuple[int, ...]
    warmup_batch_sizes: tuple[int, ...]
    instances: int
    max_queue_delay_us: int | None
    has_labels: bool
    parameters: Mapping[str, str]

    def text(self) -> str:
        """The whole file."""
        return "".join(f"{line}\n" for line in _lines(self._fields(), ""))

    def _fields(self) -> dict[str, Value]:
        fields: dict[str, Value] = {
            "name": self.name,
            "backend": self.backend.name,
            "platform": self.backend.platform,
            "default_model_filename": self.backend.file,
            "max_batch_size": self.max_batch_size,
            "input": [self._input()],
            "output": [self._output()],
            "version_policy": {"latest": {"num_versions": 1}},
            "instance_group": [{"count": self.instances, "kind": Enum(self.backend.kind)}],
        }
        if self.max_batch_size > 1:
            fields["dynamic_batching"] = self._batching()
        fields["model_warmup"] = [self._warmup(size) for size in self.warmup_batch_sizes]
        fields["parameters"] = [
            {"key": key, "value": {"string_value": value}} for key, value in self.parameters.items()
        ]
        return fields

    @property
    def _data_type(self) -> Enum:
        return Enum(DATA_TYPES[self.interface.dtype])

    def _input(self) -> dict[str, Value]:
        return {
            "name": self.interface.input_name,
            "data_type": self._data_type,
            "format": Enum("FORMAT_NCHW"),
            "dims": list(self.interface.input_shape),
        }

    def _output(self) -> dict[str, Value]:
        fields: dict[str, Value] = {
            "name": self.interface.output_name,
            "data_type": self._data_type,
            "dims": list(self.interface.output_shape),
        }
        return fields | ({"label_filename": LABELS_FILE} if self.has_labels else {})

    def _batching(self) -> dict[str, Value]:
        fields: dict[str, Value] = {"preferred_batch_size": list(self.preferred_batch_sizes)}
        if self.max_queue_delay_us is not None:
            fields["max_queue_delay_microseconds"] = self.max_queue_delay_us
        return fields

    def _warmup(self, size: int) -> dict[str, Value]:
        tensor: dict[str, Value] = {
            "data_type": self._data_type,
            "dims": list(self.interface.input_shape),
            "zero_data": Enum("true"),
        }
        entry: dict[str, Value] = {"key": self.interface.input_name, "value": tensor}
        return {"name": f"batch_{size}", "batch_size": size, "inputs": [entry]}


def as_parameter(value: object) -> str:
    """A parameter's text: strings as they are, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _lines(fields: Mapping[str, Value], indent: str) -> Iterator[str]:
    for name, value in fields.items():
        several = value if isinstance(value, list) else [value]
        plain = [_scalar(one) for one in several if not isinstance(one, dict)]
        if plain:
            yield f"{indent}{name}: " + (f"[{', '.join(plain)}]" if value is several else plain[0])
        for one in several:
            if isinstance(one, dict):
                yield f"{indent}{name} {{"
                yield from _lines(one, indent + "  ")
                yield f"{indent}}}"


def _scalar(value: Value) -> str:
    if isinstance(value, Enum):
        return value.name
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    """A string literal: quotes, backslashes and control characters escaped, UTF-8 as it is."""
    return '"' + "".join(map(_character, text)) + '"'


def _character(c: str) -> str:
    if c in '"\\':
        return f"\\{c}"
    return (
        c if c.isprintable() else "".join(f"\\{byte:03o}" for byte in c.encode("utf-8", "replace"))
    )
