"""Why a file could not be read, told by its first bytes."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

from edgedense.densenet.checkpoints.pickles import has_pickle, pickle_protocol
from edgedense.errors import InputError

_RECOPY = "Copy or download the file again, and compare its size and checksum with the original."
_RESAVE = (
    "Save it again where it loads, without pickle_protocol: "
    "torch.save(model.state_dict(), 'weights.pth')"
)
_PEEK_BYTES = 1024
_ZIP = b"PK\x03\x04"
_READABLE = 2  # of the pickle protocols, the last that PyTorch reads safely; its default too


def why_no_checkpoint(path: Path) -> InputError:
    """The error for a file that PyTorch could not read, and that names no code."""
    head = _head(path)
    if isinstance(head, InputError):
        return head
    if head.startswith(_ZIP) or _ZIP.startswith(head):
        return _archive(path)
    if other := _other_kind(path, head) or _later_protocol(path):
        return other
    if line := _text(head):
        return _text_file(path, line)
    if head.startswith(pickle.PROTO):
        return InputError(f"{path}: a PyTorch checkpoint, truncated or damaged", _RECOPY)
    return InputError(f"{path}: not a PyTorch checkpoint, or truncated", _RECOPY)


def why_no_safetensors(path: Path) -> InputError:
    """The error for a file that safetensors could not read."""
    head = _head(path)
    if isinstance(head, InputError):
        return head
    if zipfile.is_zipfile(path):
        return InputError(
            f"{path}: a zip archive, as PyTorch writes, not a safetensors file", "Call it .pth."
        )
    if other := _other_kind(path, head):
        return other
    if line := _text(head):
        return _text_file(path, line)
    return InputError(f"{path}: not a safetensors file, or truncated", _RECOPY)


def _head(path: Path) -> bytes | InputError:
    try:
        with path.open("rb") as stream:
            head = stream.read(_PEEK_BYTES)
    except OSError as error:
        return InputError(f"{path}: cannot be read ({error.strerror})", "Mend its permissions.")
    return head or InputError(f"{path}: an empty file", _RECOPY)


_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_PROGRAMS = (b"\x7fELF", b"MZ")
_WEIGHTS = "Give the checkpoint with the weights: .pth, .safetensors, .h5, .npz or .caffemodel."


def _other_kind(path: Path, head: bytes) -> InputError | None:
    """The error for a whole file of another kind, that no other copy of it would mend."""
    if path.suffix.lower() == ".onnx":
        return InputError(
            f"{path}: an ONNX file, which is what quantize writes and not what it reads",
            "Give the checkpoint that it was exported from; edgedense lint FILE checks an ONNX.",
        )
    if path.suffix.lower() in (".engine", ".plan", ".trt"):
        return InputError(f"{path}: a TensorRT engine, whose weights cannot be read", _WEIGHTS)
    if head.startswith(_IMAGES):
        return InputError(f"{path}: an image, no checkpoint", _WEIGHTS)
    if head.startswith(_PROGRAMS):
        return InputError(f"{path}: a program, no checkpoint", _WEIGHTS)
    return None


def _archive(path: Path) -> InputError:
    if not zipfile.is_zipfile(path):
        what = f"{path}: a PyTorch checkpoint, truncated: its zip archive has no end"
        return InputError(what, _RECOPY)
    if not has_pickle(path):
        return InputError(
            f"{path}: a zip archive without a checkpoint (data.pkl)",
            "Unpack it, and give the checkpoint inside.",
        )
    damaged = InputError(f"{path}: a PyTorch checkpoint, damaged or truncated", _RECOPY)
    return _later_protocol(path) or damaged


def _later_protocol(path: Path) -> InputError | None:
    protocol = pickle_protocol(path)
    if protocol <= _READABLE:
        return None
    return InputError(
        f"{path}: saved with pickle_protocol={protocol}, which PyTorch does not read safely",
        _RESAVE,
    )


def _text(head: bytes) -> str:
    """The first line where all of ``head`` is text, else nothing."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.end < len(head):
            return ""
        text = head[: error.start].decode()  # a character cut by the peek
    if not all(c.isprintable() or c.isspace() for c in text):
        return ""
    return next((line.strip() for line in text.splitlines() if line.strip()), " ")


_SHOWN = 40  # characters of a text file's first line


def _text_file(path: Path, line: str) -> InputError:
    if line.startswith("version https://git-lfs"):
        return InputError(
            f"{path}: a pointer of Git LFS, not the file itself",
            f"Fetch it where it was cloned: git lfs pull --include {path.name}",
        )
    if line.startswith("<"):
        return InputError(
            f"{path}: a web page, no checkpoint",
            "Download the file itself: the server answered with a page, such as one to log in.",
        )
    shown = "".join(c for c in line[:_SHOWN] if c.isprintable())
    return InputError(
        f"{path}: a text file (it begins with {shown!r}), no checkpoint",
        "Give the file with the weights, as torch.save(model.state_dict(), 'weights.pth') or "
        "safetensors write it.",
    )
