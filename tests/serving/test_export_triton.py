"""Model repositories for Triton: its schema, its rules, the bytes, and what is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from triton_rules import parse, refusals

from edgedense import artifact
from edgedense.engines.runner import Interface
from edgedense.errors import InputError
from edgedense.serving import TritonOptions, export_triton
from edgedense.serving.config import Backend, Model

PLAN = b"a plan, which nothing here opens" * 40
INTERFACE = Interface("images", (3, 224, 224), "logits", (1000,), batch=(1, 4, 16))
PREPROCESS = {"name": "imagenet", "input_size": [224, 224], "resize": 256}


def engine(
    path: Path, interface: Interface = INTERFACE, backend: str = "tensorrt", stage: str = ""
) -> artifact.Artifact:
    with artifact.create(
        path, stage or "build-engine", parents={}, options={}, preprocess=PREPROCESS
    ) as draft:
        (draft.path / "model.engine").write_bytes(PLAN)
        draft.interface = interface.to_dict()
        draft.report = {
            "backend": backend,
            "target": "jetson-agx-orin",
            "precision": "int8",
            "runtime_version": "10.3.0",
        }
    return artifact.read(path)


def test_plan_is_served_as_the_profile_allows(tmp_path: Path) -> None:
    source = engine(tmp_path / "engine")
    options = TritonOptions(
        "densenet121", instances=2, max_queue_delay_us=500, labels=tuple(map(str, range(1000)))
    )
    found = export_triton(source, tmp_path / "repository", options)
    model = tmp_path / "repository" / "densenet121"
    assert refusals(model) == []
    assert (model / "1" / "model.plan").read_bytes() == PLAN
    config = parse((model / "config.pbtxt").read_text())
    assert (config.backend, config.max_batch_size) == ("tensorrt", 16)
    assert list(config.input[0].dims) == [3, 224, 224]  # without the batch
    assert list(config.output[0].dims) == [1000]
    assert config.input[0].data_type == config.output[0].data_type == 11  # TYPE_FP32
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 16]
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert [(g.count, g.kind) for g in config.instance_group] == [(2, 1)]
    assert [w.batch_size for w in config.model_warmup] == [1, 4, 16]
    known = {key: value.string_value for key, value in config.parameters.items()}
    assert known["edgedense.engine_sha256"] == hashlib.sha256(PLAN).hexdigest()
    assert known["edgedense.manifest_sha256"] == source.sha256
    assert json.loads(known["edgedense.preprocess"]) == PREPROCESS
    assert known["edgedense.runtime"] == "tensorrt 10.3.0"
    assert "10.3.0" in found.warnings[0]
    assert (model / "labels.txt").read_text().splitlines() == list(options.labels)
    written = artifact.read(model)  # the model is an artifact, and knows where it comes from
    assert written.manifest.parents == {"engine": source.sha256}
    assert written.manifest.report == found.to_dict()
    assert written.data("1/model.plan") == PLAN


def test_half_precision_ends_and_a_smaller_batch(tmp_path: Path) -> None:
    source = engine(tmp_path / "engine", replace(INTERFACE, dtype="float16"))
    found = export_triton(source, tmp_path, TritonOptions("m", max_batch=3), dry_run=True)
    config = parse(found.config)
    assert config.input[0].data_type == config.output[0].data_type == 10  # TYPE_FP16
    assert {v.data_type for w in config.model_warmup for v in w.inputs.values()} == {10}
    assert list(config.dynamic_batching.preferred_batch_size) == [3]  # not the profile's 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["engine"]  # a dry run writes nothing


def test_a_batch_of_one_is_not_batched(tmp_path: Path) -> None:
    source = engine(tmp_path / "engine", replace(INTERFACE, batch=(1, 1, 1)))
    found = export_triton(source, tmp_path / "r", TritonOptions("m"))
    config = parse(found.config)
    assert not config.HasField("dynamic_batching")
    assert found.preferred_batch_sizes == ()
    assert refusals(tmp_path / "r" / "m") == []


def test_segmentation_has_an_answer_for_each_pixel(tmp_path: Path) -> None:
    source = engine(tmp_path / "engine", replace(INTERFACE, output_shape=(12, 224, 224)))
    found = export_triton(source, tmp_path / "r", TritonOptions("m"))
    assert list(parse(found.config).output[0].dims) == [12, 224, 224]
    assert refusals(tmp_path / "r" / "m") == []


def test_cpu_engine_by_the_command_line_runs_as_configured(
    made: Any, tiny: Any, edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    import onnxruntime

    words = ["export-triton", made.engine, "-o", tmp_path, "--labels", tiny.test]
    ended = edgedense(*words, "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    model = tmp_path / found["name"]
    assert refusals(model) == []
    assert found["artifact"] == str(model)
    assert (model / "labels.txt").read_text() == "blue\ngreen\nred\n"
    served, built = model / "1" / "model.onnx", made.engine / "model.onnx"
    assert served.read_bytes() == built.read_bytes()
    config = parse((model / "config.pbtxt").read_text())
    session = onnxruntime.InferenceSession(served, providers=["CPUExecutionProvider"])
    for warmup in config.model_warmup:
        shape = (warmup.batch_size, *config.input[0].dims)
        (out,) = session.run(
            [config.output[0].name], {config.input[0].name: np.zeros(shape, np.float32)}
        )
        assert out.shape == (warmup.batch_size, *config.output[0].dims)


def test_command_line_refuses_to_overwrite_and_adds_beside(
    made: Any, edgedense: Callable[..., Any], tmp_path: Path
) -> None:
    words = ["export-triton", made.engine, "-o", tmp_path / "r"]
    assert edgedense(*words).code == 0
    before = (tmp_path / "r" / "engine" / "config.pbtxt").read_bytes()
    again = edgedense(*words, "--max-batch", 2)
    assert again.code == 2
    assert "--name" in again.error[1]
    assert (tmp_path / "r" / "engine" / "config.pbtxt").read_bytes() == before
    assert edgedense(*words, "--name", "other").code == 0
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == ["engine", "other"]
    shown = edgedense(*words, "--name", "third", "--dry-run")
    assert (shown.code, shown.out) == (0, "")
    assert "max_batch_size: 8" in shown.err
    assert not (tmp_path / "r" / "third").exists()


def test_changed_bytes_are_not_served(tmp_path: Path) -> None:
    source = engine(tmp_path / "engine")
    (source.path / "model.engine").write_bytes(PLAN[::-1])
    with pytest.raises(InputError, match="SHA-256"):
        export_triton(source, tmp_path / "r", TritonOptions("m"))
    assert not (tmp_path / "r").exists()


def test_nothing_stays_of_a_write_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = engine(tmp_path / "engine")
    (tmp_path / "r").mkdir()

    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(Exception, match="disk is full"):
        export_triton(source, tmp_path / "r", TritonOptions("m"))
    assert list((tmp_path / "r").iterdir()) == []


LABELS = tuple(map(str, range(1000)))
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "the smallest batch is not 1": ({"batch": (2, 4, 16)}, {}, "--batch 1:4:16"),
    "a larger batch than the engine's": ({}, {"max_batch": 17}, "--batch 1:4:17"),
    "a delay and nothing to wait for": (
        {"batch": (1, 1, 1)},
        {"max_queue_delay_us": 5},
        "Leave it away",
    ),
    "labels of other classes": ({}, {"labels": ("cat", "dog")}, "1000 classes"),
    "labels of pixels": ({"output_shape": (1000, 8, 8)}, {"labels": LABELS}, "each pixel"),
    "a label of two lines": ({}, {"labels": (*LABELS[1:], "a\nb")}, "one line"),
    "an empty label": ({}, {"labels": (*LABELS[1:], " ")}, "one line"),
    "no batch": ({}, {"max_batch": 0}, "--max-batch 0"),
    "no instance": ({}, {"instances": 0}, "--instances 0"),
    "more instances than the schema holds": ({}, {"instances": 2**31}, "--instances"),
    "a negative delay": ({}, {"max_queue_delay_us": -1}, "delay-us -1"),
    "a name that leads away": ({}, {"name": "../m"}, "--name"),
    "a name of two directories": ({}, {"name": "a/b"}, "--name"),
    "a hidden name": ({}, {"name": ".m"}, "--name"),
    "no name": ({}, {"name": ""}, "--name"),
    "a name with a line end": ({}, {"name": "m\n"}, "--name"),
    "no dimension": ({"input_shape": (3, 0, 8)}, {}, "damaged"),
    "a dimension that is no number": ({"output_shape": ("10",)}, {}, "damaged"),
    "two dimensions": ({"input_shape": (3, 8)}, {}, "damaged"),
    "an input without a name": ({"input_name": ""}, {}, "damaged"),
    "a name that is no text": ({"output_name": "\ud800"}, {}, "damaged"),
    "another layout": ({"layout": "NHWC"}, {}, "damaged"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_triton_would_refuse_is_refused_here(case: str, tmp_path: Path) -> None:
    changes, asked, told = REFUSED[case]
    source = engine(tmp_path / "engine", replace(INTERFACE, **changes))
    with pytest.raises(InputError) as error:
        export_triton(source, tmp_path / "r", TritonOptions(**({"name": "m"} | asked)))
    assert told in str(error.value)
    assert not (tmp_path / "r").exists()


def test_only_engines_that_triton_runs(tmp_path: Path) -> None:
    for number, (backend, stage, told) in enumerate(
        (
            ("tensorrt-rtx", "", "TensorRT for RTX"),
            ("mystery", "", "unknown backend"),
            ("tensorrt", "quantize", "not an engine"),
        )
    ):
        source = engine(tmp_path / str(number), backend=backend, stage=stage)
        with pytest.raises(InputError, match=told):
            export_triton(source, tmp_path / "r", TritonOptions("m"))


def test_the_schema_check_can_fail() -> None:
    for wrong in ("max_batch: 8", "input { data_type: TYPE_FLOAT }", 'max_batch_size: "8"'):
        with pytest.raises(text_format.ParseError):
            parse(wrong)


@given(
    name=st.text(st.characters(exclude_categories=("Cs",)), min_size=1),
    key=st.text(st.characters(exclude_categories=("Cs",)), min_size=1),
    value=st.text(st.characters(exclude_categories=("Cs",))),
    size=st.integers(1, 1 << 30),
    delay=st.none() | st.integers(0, (1 << 64) - 1),
)
def test_any_text_and_number_survives_the_file(
    name: str, key: str, value: str, size: int, delay: int | None
) -> None:
    model = Model(
        name="m",
        backend=Backend("tensorrt", "tensorrt_plan", "model.plan", "KIND_GPU"),
        interface=Interface(name, (1, size, 2), "out", (size,)),
        max_batch_size=size,
        preferred_batch_sizes=(size,),
        warmup_batch_sizes=(size,),
        instances=1,
        max_queue_delay_us=delay,
        has_labels=False,
        parameters={key: value},
    )
    config = parse(model.text())
    assert (config.input[0].name, list(config.input[0].dims)) == (name, [1, size, 2])
    assert config.model_warmup[0].inputs[name].zero_data
    assert config.parameters[key].string_value == value
    batched = size > 1
    assert config.dynamic_batching.max_queue_delay_microseconds == (delay or 0) * batched
