from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgedense.data import PRESETS, ImageSet, Item, Preprocess, batches, content_hashes, load_set
from edgedense.data import decode as decode_module
from edgedense.data.decode import CHUNK
from edgedense.data.pixels import content_sha256
from edgedense.errors import InputError

T = TypeVar("T")
SMALL = Preprocess("small", (6, 5), 7, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), "bicubic", "RGB")


def array_set(count: int) -> ImageSet:
    array = np.random.default_rng(0).integers(0, 256, (count, 9, 8, 3), dtype=np.uint8)
    items = tuple(Item(k, k % 7, f"[{k}]") for k in range(count))
    return ImageSet("array", items, array=array)


def file_set(*paths: Path) -> ImageSet:
    return ImageSet("files", tuple(Item(p, None, p.name) for p in paths))


def decoders() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("edgedense-decode")]


@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 4))
def test_batches_equal_one_by_one(count: int, batch_size: int, workers: int) -> None:
    images = array_set(count)
    assert images.array is not None
    found = list(batches(images, SMALL, batch_size, workers=workers))
    sizes = [len(batch) for batch in found]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert sum(sizes) == count
    singles = [Image.fromarray(pixels) for pixels in images.array]
    expected = np.stack([SMALL(image) for image in singles])
    np.testing.assert_array_equal(np.concatenate([b.images for b in found]), expected)
    assert np.concatenate([b.labels for b in found]).tolist() == images.labels.tolist()
    assert [c for b in found for c in b.content] == [content_sha256(i) for i in singles]
    assert [n for b in found for n in b.names] == [i.name for i in images.items]


def test_files_and_arrays_give_the_same(tree: Any, tmp_path: Path) -> None:
    images = load_set(tree({"a": 5, "b": 6}))
    pixels = [np.asarray(Image.open(i.where)) for i in images.items]
    np.savez(tmp_path / "s.npz", images=np.stack(pixels), labels=images.labels)
    from_files = next(batches(images, SMALL, 64))
    from_array = next(batches(load_set(tmp_path / "s.npz"), SMALL, 64))
    np.testing.assert_array_equal(from_files.images, from_array.images)
    assert from_files.content == from_array.content
    assert from_files.labels.tolist() == from_array.labels.tolist() == [0] * 5 + [1] * 6
    assert from_files.labels.dtype == np.int64


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 8, 8, 1), (2, 8, 8, 3), (2, 8, 8, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.dtype(">u2")])
def test_every_kind_of_array(tmp_path: Path, shape: tuple[int, ...], dtype: Any) -> None:
    top = np.iinfo(dtype).max
    np.savez(tmp_path / "s.npz", images=np.full(shape, top // 5, dtype))
    batch = next(batches(load_set(tmp_path / "s.npz"), PRESETS["digits"], 2))
    digits = PRESETS["digits"]
    expected = (np.float32(0.2) - np.float32(digits.mean[0])) / np.float32(digits.std[0])
    np.testing.assert_allclose(batch.images, np.full((2, 1, 8, 8), expected), rtol=1e-6)
    assert batch.labels.tolist() == [-1, -1]


def test_same_picture_in_other_formats_has_the_same_content(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8)
    grey = Image.fromarray(pixels)
    grey.save(tmp_path / "a.png")
    grey.convert("RGB").save(tmp_path / "b.bmp")
    grey.save(tmp_path / "c.tiff")
    grey.convert("RGB").save(tmp_path / "d.webp", lossless=True)
    assert len(set(content_hashes(load_set(tmp_path), SMALL))) == 1


def test_the_first_frame_of_an_animation_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "b.png")
    assert len(set(content_hashes(load_set(tmp_path), SMALL))) == 1


def jpeg() -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.png", None, "No such file"),
        ("empty.png", b"", "no image of a known format"),
        ("text.png", b"hello", "no image of a known format"),
        ("page.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image of a known"),
        ("cut.jpg", jpeg()[:1500], "truncated"),
        ("bomb.ppm", b"P6 40000 40000 255\n", "decompression bomb"),
        ("bombast.ppm", b"P6 10000 10000 255\n", "decompression bomb"),
    ],
)
def test_file_that_is_no_good_is_named(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        list(batches(file_set(path), SMALL, 1))
    assert str(path) in caught.value.what
    assert caught.value.remedy
    assert "\n" not in caught.value.what


def test_float_image_and_folder_are_named(tmp_path: Path) -> None:
    Image.new("F", (8, 8)).save(tmp_path / "f.tiff")
    with pytest.raises(InputError, match=r"f\.tiff: pixel mode 'F'"):
        content_hashes(file_set(tmp_path / "f.tiff"), SMALL)
    with pytest.raises(InputError, match="Is a directory"):
        content_hashes(file_set(tmp_path), SMALL)


def test_wrong_size_names_the_file(tmp_path: Path) -> None:
    Image.new("RGB", (31, 32)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: 31x32 pixels .*'cifar10' takes 32x32"):
        content_hashes(load_set(tmp_path), PRESETS["cifar10"])


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about damaged metadata
def test_damaged_file_is_an_input_error_or_still_an_image(tmp_path: Path, data: Any) -> None:
    file_format = data.draw(st.sampled_from(["PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP"]))
    stream = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(stream, file_format)
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "x.img"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        content_hashes(file_set(path), SMALL)
    except InputError as error:
        assert "x.img" in error.what


def test_the_first_bad_image_in_order_is_the_one_reported(tree: Any) -> None:
    root = tree({"a": 60})
    for k in (55, 20, 21):
        (root / "a" / f"{k:03}.png").write_bytes(b"bad")
    stream = batches(load_set(root), SMALL, 10, workers=4)
    next(stream)
    with pytest.raises(InputError, match=r"020\.png"):
        list(stream)
    assert decoders() == []


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images decoded so far."""
    names: list[str] = []
    original: Callable[..., Any] = decode_module._decode

    def counting(images: ImageSet, item: Item, preprocess: Preprocess) -> Any:
        names.append(item.name)
        return original(images, item, preprocess)

    monkeypatch.setattr(decode_module, "_decode", counting)
    return names


@pytest.mark.parametrize(("workers", "batch_size"), [(1, 1), (2, 8), (3, 100)])
def test_decoding_never_runs_far_ahead(decoded: list[str], workers: int, batch_size: int) -> None:
    bound = (max(2 * workers, -(-batch_size // CHUNK)) + 1) * CHUNK
    consumed = 0
    for batch in batches(array_set(800), SMALL, batch_size, workers=workers):
        consumed += len(batch)
        settle(decoded)
        assert len(decoded) <= consumed + bound
        if consumed > 300:
            break
    assert consumed < 800 - bound  # else nothing was proved


def settle(decoded: list[str]) -> None:
    """Wait until the threads have done all that they may do before the next batch is asked."""
    before = -1
    while before != len(decoded):
        before = len(decoded)
        time.sleep(0.002)


def test_closing_early_ends_the_threads_and_drops_what_waits(
    decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = decode_module._decode

    def slow(*arguments: Any) -> Any:
        time.sleep(0.002)
        return counted(*arguments)

    monkeypatch.setattr(decode_module, "_decode", slow)
    stream = batches(array_set(800), SMALL, 80, workers=1)
    next(stream)
    assert decoders()
    stream.close()  # type: ignore[attr-defined]
    assert decoders() == []
    assert len(decoded) < 160  # 80 consumed, 80 more were waiting


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_failing_consumer_ends_the_threads(error: type[BaseException]) -> None:
    def consume() -> None:
        for _ in batches(array_set(200), SMALL, 4, workers=3):
            raise error

    with pytest.raises(error):
        consume()
    assert decoders() == []


class Counting:
    """A progress that remembers what it was shown, and that its loop ended."""

    def __init__(self) -> None:
        self.seen = 0
        self.asked: tuple[str, int | None] | None = None
        self.ended = False

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        self.asked = (label, total)
        try:
            for item in items:
                self.seen += 1
                yield item
        finally:
            self.ended = True

    def say(self, line: str) -> None:
        raise AssertionError(line)


def test_progress_counts_images_and_ends_with_them() -> None:
    progress = Counting()
    list(batches(array_set(21), SMALL, 7, progress=progress, label="calibrating"))
    assert progress.asked == ("calibrating", 21)
    assert (progress.seen, progress.ended) == (21, True)


def test_progress_ends_on_an_error(tmp_path: Path) -> None:
    progress = Counting()
    with pytest.raises(InputError):
        content_hashes(file_set(tmp_path / "gone.png"), SMALL, progress=progress)
    assert progress.ended


@pytest.mark.parametrize(("batch_size", "workers"), [(0, 1), (-1, 1), (1, 0)])
def test_no_batch_and_no_thread_are_refused(batch_size: int, workers: int) -> None:
    with pytest.raises(InputError, match="1 or more"):
        next(batches(array_set(1), SMALL, batch_size, workers=workers))
