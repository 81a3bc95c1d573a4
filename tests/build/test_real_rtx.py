"""Real TensorRT for RTX builds, ahead of time, on a machine that may have no GPU."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.build import BuildOptions, build_engine
from edgedense.engines.runner import Interface
from edgedense.environment import installed
from edgedense.errors import InputError

pytestmark = [
    pytest.mark.rtx,
    pytest.mark.skipif(not installed("tensorrt_rtx"), reason="tensorrt-rtx is not installed"),
    pytest.mark.skipif(not installed("onnx"), reason="onnx is not installed"),
]


def quantized(path: Path, **files: bytes) -> Artifact:
    with artifact.create(path, "quantize", parents={}, options={}) as draft:
        for name, data in files.items():
            (draft.path / f"{name.replace('_', '.')}.onnx").write_bytes(data)
        draft.interface = Interface("images", (3, 16, 16), "logits", (10,)).to_dict()
    return artifact.read(path)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    from dense_onnx import dense_onnx

    return quantized(
        tmp_path_factory.mktemp("rtx") / "quantized",
        fp32=dense_onnx(quantized=False).SerializeToString(),
        fp16=dense_onnx(quantized=False, rest=np.float16).SerializeToString(),
        int8_fp16=dense_onnx(rest=np.float16).SerializeToString(),
        int8_fp32=dense_onnx().SerializeToString(),
    )


def test_int8_with_fp16_rest_for_ampere(source: Artifact, tmp_path: Path) -> None:
    report = build_engine(source, tmp_path / "engine", BuildOptions("rtx-ampere"))
    built = artifact.read(tmp_path / "engine")
    assert built.file("model.engine").stat().st_size == report.engine_bytes > 100_000
    assert report.onnx == "int8.fp16.onnx"
    assert report.activation_bytes and report.activation_bytes > 0
    assert built.manifest.report == json.loads(json.dumps(report.to_dict()))


def test_int8_weights_take_less_than_half_of_fp32(source: Artifact, tmp_path: Path) -> None:
    """The builder's own figure, so it also checks that we read the right line of its summary."""
    sizes = {}
    for precision in ("int8", "fp16", "fp32"):
        options = BuildOptions("rtx-ampere", precision)
        sizes[precision] = build_engine(source, tmp_path / precision, options).weights_bytes or 0
    assert 0 < sizes["int8"] < sizes["fp16"] < sizes["fp32"]
    # 16 * 27 + two layers (64 * (16 + 32) + 2 * 16 * 64 * 9) + 480, at four bytes, and the norms
    assert sizes["fp32"] == pytest.approx(4 * (432 + 64 * 48 + 2 * 9216 + 480), rel=0.15)


@pytest.mark.parametrize("name", ["rtx-any", "rtx-turing", "rtx-blackwell", "dgx-spark"])
def test_other_targets_build_too(name: str, source: Artifact, tmp_path: Path) -> None:
    assert build_engine(source, tmp_path / "e", BuildOptions(name)).engine_bytes > 0


def test_one_engine_serves_the_gpus_that_were_chosen(source: Artifact, tmp_path: Path) -> None:
    one = build_engine(source, tmp_path / "one", BuildOptions("rtx-any", sms=(86,)))
    two = build_engine(source, tmp_path / "two", BuildOptions("rtx-any", sms=(75, 121)))
    assert (one.sms, two.sms) == ((86,), (75, 121))
    assert two.tensorrt == artifact.read(tmp_path / "two").manifest.report["runtime_version"]
    assert (two.golden_sqnr_db, two.sm, two.gpu) == (None, None, None)


def test_turing_refuses_fp32_and_says_what_to_do(source: Artifact, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--precision fp16"):
        build_engine(source, tmp_path / "e", BuildOptions("rtx-turing", "fp32"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("zero", "reason"),
    [(np.uint8(128), "Non-zero zero point"), (np.int8(3), "Non-zero zero point"),
     (np.uint8(0), "uint8 quantization as int8")],
)  # fmt: skip
def test_quantization_that_tensorrt_cannot_read_is_bad_input(
    zero: object, reason: str, tmp_path: Path
) -> None:
    from dense_onnx import dense_onnx

    data = dense_onnx(zero=zero, rest=np.float16).SerializeToString()
    with pytest.raises(InputError, match=reason) as caught:
        build_engine(
            quantized(tmp_path / "q", int8_fp16=data), tmp_path / "e", BuildOptions("rtx-ada")
        )
    assert "\n" not in caught.value.what
    assert not (tmp_path / "e").exists()


def test_a_truncated_onnx_is_bad_input(source: Artifact, tmp_path: Path) -> None:
    data = source.file("fp32.onnx").read_bytes()
    broken = quantized(tmp_path / "q", fp32=data[: len(data) // 2])
    with pytest.raises(InputError, match=r"fp32\.onnx"):
        build_engine(broken, tmp_path / "e", BuildOptions("rtx-ada", "fp32"))


def test_ctrl_c_stops_a_build_and_leaves_nothing(tmp_path: Path) -> None:
    from dense_onnx import dense_onnx

    data = dense_onnx(layers=40, growth=32, rest=np.float16).SerializeToString()
    source = quantized(tmp_path / "q", int8_fp16=data)
    # a build of this size runs for a second or more, so the signal comes in the middle of it
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        build_engine(source, tmp_path / "e", BuildOptions("rtx-any"))
    assert [path.name for path in tmp_path.iterdir()] == ["q"]
    # and the next build works
    assert build_engine(source, tmp_path / "e", BuildOptions("rtx-ada")).engine_bytes > 0
