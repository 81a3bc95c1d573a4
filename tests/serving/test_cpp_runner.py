"""The C++ sample from an engine artifact to logits, on a stand-in for TensorRT and CUDA."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpp_sample import SAMPLE
from numpy.typing import NDArray
from PIL import Image

from edgedense import artifact
from edgedense.data.preprocess import Preprocess
from edgedense.engines.runner import Interface

SHAPE, CLASSES = (3, 8, 6), 7
PREPROCESS = Preprocess("p", SHAPE[1:], 9, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), "bicubic", "BGR")
WEIGHTS = ((7 * np.arange(np.prod(SHAPE))[:, np.newaxis] + 13 * np.arange(CLASSES)) % 11 - 5) / 64


def engine(
    path: Path,
    plan: str | None = None,
    batch: tuple[int, int, int] = (1, 1, 4),
    dtype: str = "float32",
    backend: str = "tensorrt",
    **ends: Any,
) -> Path:
    facts: dict[str, Any] = {
        "input_name": "images",
        "input_shape": SHAPE,
        "output_name": "logits",
        "output_shape": (CLASSES,),
    }
    interface = Interface(**(facts | {"batch": batch, "dtype": dtype} | ends))
    kind = {"float32": "float", "float16": "half"}[dtype]
    usual = f"stand-in 3 8 6 {CLASSES} {batch[0]} {batch[2]} {kind}"
    with artifact.create(
        path, "build-engine", parents={}, options={}, preprocess=PREPROCESS.to_dict()
    ) as draft:
        (draft.path / "model.engine").write_text(usual if plan is None else plan)
        draft.interface = interface.to_dict()
        draft.report = {"backend": backend}
    return path


def logits(images: NDArray[Any]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = images.reshape(len(images), -1).astype(np.float64) @ WEIGHTS
    return found


def noise(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(count).normal(size=(count, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("batch", [(1, 1, 1), (1, 2, 4), (3, 4, 5)])
@pytest.mark.parametrize("count", [1, 4, 9])
def test_logits_of_any_number_of_images(
    run_program: Callable[..., Any],
    tmp_path: Path,
    dtype: str,
    batch: tuple[int, int, int],
    count: int,
) -> None:
    images = noise(count)
    np.save(tmp_path / "images.npy", images)
    words = [engine(tmp_path / "e", None, batch, dtype), tmp_path / "images.npy"]
    done = run_program(*words, tmp_path / "logits.npy")
    assert (done.returncode, done.stderr) == (0, b"")
    found = np.load(tmp_path / "logits.npy")
    assert (found.dtype, found.shape) == (np.float32, (count, CLASSES))
    np.testing.assert_allclose(found, logits(images.astype(dtype)), rtol=2e-3, atol=2e-3)
    if dtype == "float32":
        np.testing.assert_array_equal(found, logits(images).astype(np.float32))


def test_an_image_is_preprocessed_and_its_five_best_are_told(
    run_program: Callable[..., Any], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 17, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "i.ppm")
    done = run_program(engine(tmp_path / "e"), tmp_path / "i.ppm")
    row = logits(PREPROCESS(Image.fromarray(pixels))[np.newaxis])[0].astype(np.float32)
    best = np.argsort(-row, kind="stable")[:5]
    lines = [f"  class {k}  logit {row[k]:.9g}" for k in best]
    assert done.stdout.decode().splitlines() == ["image 0", *lines]


def test_an_engine_that_was_changed_never_reaches_the_runtime(
    run_program: Callable[..., Any], tmp_path: Path
) -> None:
    path = engine(tmp_path / "e")
    np.save(tmp_path / "i.npy", noise(1))
    (path / "model.engine").write_text("no plan at all, which the runtime would say")
    done = run_program(path, tmp_path / "i.npy")
    assert done.returncode == 2
    assert "SHA-256" in done.stderr.decode()
    assert "TensorRT:" not in done.stderr.decode()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a plan that does not load": ({"plan": "other"}, "TensorRT: this is no plan"),
    "another input": ({"plan": "stand-in 3 8 5 7 1 4 float"}, '"images" is not what'),
    "another number of classes": ({"plan": "stand-in 3 8 6 8 1 4 float"}, '"logits" is not'),
    "another type": ({"plan": "stand-in 3 8 6 7 1 4 half"}, '"images" is not what'),
    "another name": ({"output_name": "scores"}, '"scores" is not what'),
    "a smaller profile": ({"plan": "stand-in 3 8 6 7 2 4 float"}, "setting the batch size"),
    "an engine for RTX": ({"backend": "tensorrt-rtx"}, "runs TensorRT's"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(
    run_program: Callable[..., Any], tmp_path: Path, case: str
) -> None:
    changes, told = REFUSED[case]
    np.save(tmp_path / "i.npy", noise(1))
    done = run_program(engine(tmp_path / "e", **changes), tmp_path / "i.npy")
    assert done.returncode == 2
    assert told in done.stderr.decode()
    assert b"not to be shown" not in done.stderr


def test_memory_that_runs_out_leaves_nothing_behind(
    run_program: Callable[..., Any], tmp_path: Path
) -> None:
    np.save(tmp_path / "i.npy", noise(1))
    env = dict(os.environ, STAND_IN_NO_MEMORY="1")
    done = run_program(engine(tmp_path / "e"), tmp_path / "i.npy", env=env)
    assert done.returncode == 2  # and the stand-in would have aborted over a leak
    assert "pinned memory: out of memory" in done.stderr.decode()


def test_tensors_that_are_none_are_refused(run_program: Callable[..., Any], tmp_path: Path) -> None:
    path, right = engine(tmp_path / "e"), noise(2)
    for number, bad in enumerate(
        (right[:, :2], right.astype(np.float64), np.asfortranarray(right), right[0, 0])
    ):
        np.save(tmp_path / "i.npy", bad)
        assert run_program(path, tmp_path / "i.npy").returncode == 2, number
    np.save(tmp_path / "i.npy", right)
    data = (tmp_path / "i.npy").read_bytes()
    for size in (0, 5, 9, 60, len(data) - 1):
        (tmp_path / "i.npy").write_bytes(data[:size])
        assert run_program(path, tmp_path / "i.npy").returncode == 2, size
    np.save(tmp_path / "i.npy", right[0])  # one image may come without its batch
    assert run_program(path, tmp_path / "i.npy").returncode == 0


def test_words_and_files_that_are_missing(run_program: Callable[..., Any], tmp_path: Path) -> None:
    assert b"usage" in run_program().stderr
    for words in ((tmp_path, "x.npy"), (engine(tmp_path / "e"), tmp_path)):
        done = run_program(*words)
        assert done.returncode == 2
        assert b"cannot be read" in done.stderr
    (tmp_path / "e" / "manifest.json").write_text(json.dumps({"format": "edgedense/1"}))
    assert b'"stage" is missing' in run_program(tmp_path / "e", tmp_path / "x.npy").stderr


@pytest.mark.skipif(not shutil.which("cmake") or not shutil.which("g++"), reason="no cmake here")
def test_cmake_configures_with_or_without_tensorrt(tmp_path: Path) -> None:
    words = ["cmake", "-S", SAMPLE, "-B", tmp_path / "build"]
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, check=True, cwd=tmp_path
    )
    found = "was not found" not in done.stderr
    listed = subprocess.run(
        ["cmake", "--build", str(tmp_path / "build"), "--target", "help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "edgedense-preprocess" in listed
    assert ("edgedense-run" in listed) == found
