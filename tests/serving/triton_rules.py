"""Triton's schema as a message class, and what the server checks beyond it when it loads a model.

The rules are those of triton-inference-server/core, model_config_utils.cc (ValidateModelConfig,
ValidateInstanceGroup, ValidateModelInput) and model_repository_manager.cc.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, text_format
from google.protobuf.message_factory import GetMessageClass

SCHEMA = Path(__file__).parents[1] / "recorded" / "triton-config" / "model-config.json"
PAIRS = {("tensorrt", "tensorrt_plan"), ("onnxruntime", "onnxruntime_onnx")}
KIND_GPU, KIND_CPU = 1, 2


@cache
def message_class() -> Any:
    proto = json_format.Parse(SCHEMA.read_text(), descriptor_pb2.FileDescriptorProto())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    return GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def parse(text: str) -> Any:
    """A config.pbtxt as the server reads it: an unknown field or enum value is an error."""
    return text_format.Parse(text, message_class()())


def refusals(model: Path) -> list[str]:
    """Why Triton would not load the model directory; empty where it would."""
    config = parse((model / "config.pbtxt").read_text(encoding="utf-8"))
    ends = [*config.input, *config.output]
    batching = config.dynamic_batching
    checks = {
        "directory name must equal model name": config.name == model.name,
        "platform and backend pair": (config.backend, config.platform) in PAIRS,
        "no model file": (model / "1" / config.default_model_filename).is_file(),
        "version policy": config.HasField("version_policy"),
        "max_batch_size": config.max_batch_size >= 1,
        "preferred size": all(
            0 < n <= config.max_batch_size for n in batching.preferred_batch_size
        ),
        "instance group": len(config.instance_group) >= 1,
        "kind": all(g.kind in (KIND_GPU, KIND_CPU) and g.count >= 1 for g in config.instance_group),
        "dims": all(len(end.dims) and min(end.dims) >= 1 for end in ends),
        "NCHW requires 3 dims": all(len(end.dims) == 3 for end in config.input),
        "names": all(end.name for end in ends),
        "label file": all(
            not end.label_filename or (model / end.label_filename).is_file()
            for end in config.output
        ),
        "warm-up": all(
            1 <= w.batch_size <= config.max_batch_size
            and {k: list(v.dims) for k, v in w.inputs.items()}
            == {end.name: list(end.dims) for end in config.input}
            for w in config.model_warmup
        ),
    }
    return [rule for rule, kept in checks.items() if not kept]
