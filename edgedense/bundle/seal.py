"""The last bytes of a bundle: a hash of all others, and who vouches for it.

They are the comment of the zip file, always of the same length, so everything in front of them,
the zip's own tables too, is under the signature, and everything but the hash itself under the hash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from edgedense.bundle.form import FORMAT, check_format
from edgedense.errors import InputError
from edgedense.progress import SILENT, Progress

_SIGNATURE_BYTES = 64
_NO_SIGNATURE = bytes(_SIGNATURE_BYTES)
_HEAD, _TAIL = f"{FORMAT} ed25519:", " sha256:"
LENGTH = len(_HEAD) + 2 * _SIGNATURE_BYTES + len(_TAIL) + 64
PLACEHOLDER = b"-" * LENGTH
_SEAL = re.compile(rb"edgedense-bundle/1 ed25519:([0-9a-f]{128}) sha256:([0-9a-f]{64})")
_ANY_FORMAT = re.compile(rb"(edgedense-bundle/\d{1,9}) ")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Seal:
    """``sha256`` (32 bytes) of all that is in front of the seal; ``signature`` None: unsigned."""

    sha256: bytes
    signature: bytes | None


def put_seal(stream: BinaryIO, sign: Callable[[bytes], bytes] | None) -> Seal:
    """Replace the placeholder at the end of ``stream``; ``sign`` gets :func:`message`."""
    end = stream.seek(0, 2) - LENGTH
    digest = hashlib.sha256()
    for chunk in _chunks(stream, end):
        digest.update(chunk)
    body = digest.digest()
    signature = sign(message(body)) if sign else _NO_SIGNATURE
    front = f"{_HEAD}{signature.hex()}{_TAIL}".encode()
    digest.update(front)
    stream.seek(end)
    stream.write(front + digest.hexdigest().encode())
    return Seal(body, signature if sign else None)


def read_seal(stream: BinaryIO, place: str, progress: Progress = SILENT) -> Seal:
    """The seal of a bundle, once every byte of it was held against the hash.

    Errors: InputError where this is no bundle, one of a newer format, or not whole.
    """
    end = stream.seek(0, 2) - LENGTH
    stream.seek(max(end, 0))
    last = stream.read(LENGTH)
    found = _SEAL.fullmatch(last)
    if found is None:
        raise _no_seal(stream, last, place)
    digest = hashlib.sha256()
    parts = -(-end // _CHUNK)
    for chunk in progress.track(_chunks(stream, end), f"verify {place}", parts):
        digest.update(chunk)
    body = digest.digest()
    digest.update(last[:-64])
    if digest.hexdigest().encode() != found[2]:
        raise InputError(
            f"{place} was changed or damaged after it was packed (SHA-256)",
            "Copy it again from where it was packed, or pack it again.",
        )
    signature = bytes.fromhex(found[1].decode())
    return Seal(body, None if signature == _NO_SIGNATURE else signature)


def message(sha256: bytes) -> bytes:
    """What is signed: the hash, under a name that no other use of the key has."""
    return f"{FORMAT}\n".encode() + sha256


def _chunks(stream: BinaryIO, end: int) -> Iterator[bytes]:
    stream.seek(0)
    while end > 0 and (chunk := stream.read(min(_CHUNK, end))):
        end -= len(chunk)
        yield chunk


def _no_seal(stream: BinaryIO, last: bytes, place: str) -> InputError:
    if other := _ANY_FORMAT.search(last):
        try:
            check_format(other[1].decode(), place)
        except InputError as error:
            return error
    stream.seek(0)
    if stream.read(4) == b"PK\x03\x04" and b"bundle.json" in stream.read(64):
        return InputError(
            f"{place} is a bundle that was cut short or damaged",
            "Copy it again from where it was packed, or pack it again.",
        )
    return InputError(f"{place} is no edgedense bundle", "Give the file that edgedense pack wrote.")
