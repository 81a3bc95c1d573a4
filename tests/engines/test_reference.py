import numpy as np
import pytest

from edgedense.data import Preprocess, load_set
from edgedense.engines.reference import (
    RecordedReference,
    infer,
    load_reference,
    record_reference,
    save_reference,
)
from edgedense.engines.runner import Interface
from edgedense.errors import InputError

PREPROCESS = Preprocess("tiny", (2, 2), None, (0.0,), (1.0,), "nearest", "L")


class SumRunner:
    """Two logits of an image: its sum and its negative; keeps the batch sizes that it saw."""

    name = "sum"

    def __init__(self, batch=None):
        self.interface = Interface("input", (1, 2, 2), "logits", (2,), batch)
        self.seen = []
        self.buffer = np.zeros((64, 2), np.float32)

    def __call__(self, images):
        self.seen.append(len(images))
        total = images.sum(axis=(1, 2, 3))
        out = self.buffer[: len(images)]
        out[:, 0], out[:, 1] = total, -total
        return out

    def close(self):
        pass


@pytest.fixture
def images(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (21, 2, 2), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", images=pixels, labels=np.arange(21) % 2)
    return load_set(tmp_path / "set.npz"), pixels


def test_recording_keeps_logits_by_content(images):
    image_set, pixels = images
    recorded = record_reference(SumRunner(), image_set, PREPROCESS, batch_size=8)
    expected = pixels.reshape(21, 4).sum(axis=1) / 255
    np.testing.assert_allclose(recorded.logits[:, 0], expected, rtol=1e-5)
    backwards = recorded.logits_for(recorded.content[::-1], [""] * 21)
    np.testing.assert_array_equal(backwards, recorded.logits[::-1])
    assert recorded.labels.tolist() == [k % 2 for k in range(21)]


def test_round_trip_through_a_file(tmp_path, images):
    recorded = record_reference(SumRunner(), images[0], PREPROCESS)
    save_reference(tmp_path / "reference.npz", recorded)
    found = load_reference(tmp_path / "reference.npz")
    assert found.content == recorded.content
    assert found.name == "sum"
    assert found.classes == 2
    np.testing.assert_array_equal(found.logits, recorded.logits)
    np.testing.assert_array_equal(found.labels, recorded.labels)


def test_an_unrecorded_image_is_named():
    recorded = RecordedReference(("a",), np.array([0]), np.zeros((1, 2), np.float32))
    with pytest.raises(InputError, match=r"cat\.png: no reference logits"):
        recorded.logits_for(["a", "b"], ["dog.png", "cat.png"])


def test_logits_that_are_not_finite_are_not_recorded(images):
    runner = SumRunner()
    runner.buffer = np.full((64, 2), np.nan, np.float32)
    runner_call = type("Broken", (SumRunner,), {"__call__": lambda self, x: self.buffer[: len(x)]})
    runner.__class__ = runner_call
    with pytest.raises(InputError, match=r"sum: its logits for set.npz\[0\] are not finite"):
        record_reference(runner, images[0], PREPROCESS)


@pytest.mark.parametrize(
    ("batch", "n", "calls"),
    [
        (None, 21, [21]),
        ((1, 4, 8), 21, [8, 8, 5]),
        ((8, 8, 8), 21, [8, 8, 8]),
        ((4, 4, 16), 3, [4]),
        ((1, 1, 1), 3, [1, 1, 1]),
    ],
)
def test_inference_keeps_to_the_batch_range(batch, n, calls):
    pixels = np.random.default_rng(1).random((n, 1, 2, 2), dtype=np.float32)
    runner = SumRunner(batch)
    found = infer(runner, pixels)
    np.testing.assert_allclose(found[:, 0], pixels.sum(axis=(1, 2, 3)), rtol=1e-6)
    assert runner.seen == calls


@pytest.mark.parametrize("damage", ["truncated", "other", "lengths", "empty", "npy"])
def test_damaged_files_are_named(tmp_path, images, damage):
    path = tmp_path / "reference.npz"
    save_reference(path, record_reference(SumRunner(), images[0], PREPROCESS))
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "other":
        np.savez(path, images=np.zeros(3))
    elif damage == "lengths":
        np.savez(path, content=np.array(["a"]), labels=np.zeros(2), logits=np.zeros((2, 2)))
    elif damage == "npy":
        with path.open("wb") as stream:
            np.save(stream, np.zeros(3))
    else:
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"reference\.npz"):
        load_reference(path)


def test_a_file_with_pickled_objects_is_refused(tmp_path):
    path = tmp_path / "reference.npz"
    np.savez(path, content=np.array([object()]), labels=np.zeros(1), logits=np.zeros((1, 2)))
    with pytest.raises(InputError, match="not readable"):
        load_reference(path)
