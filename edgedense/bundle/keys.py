"""Ed25519 keys in PEM files (RFC 8032, 8410; also openssl's), and what they sign."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedense.artifact import check_absent, disk_errors
from edgedense.environment import require
from edgedense.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_NEW = "Make a pair of keys: edgedense new-key FILE"
_LARGEST_FILE = 1 << 16


@dataclass(frozen=True)
class KeyReport:
    """A new pair: ``key`` stays secret, ``public_key`` goes to the devices."""

    key: str
    public_key: str
    fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def new_key(path: Path) -> KeyReport:
    """Write a secret key (readable by its owner alone) and ``path.pub`` beside it.

    Errors: InputError where one of them exists; MachineError without the library.
    """
    public_path = path.with_name(f"{path.name}.pub")
    check_absent(path)
    check_absent(public_path)
    require("cryptography", "making a key")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, secret, 0o600)
        try:
            _write(public_path, public, 0o644)
        except BaseException:
            path.unlink()
            raise
    return KeyReport(str(path), str(public_path), _fingerprint(key.public_key()))


def signer(path: Path) -> Callable[[bytes], bytes]:
    """What signs with the secret key in a file.

    Errors: InputError where the file is none, or others may read it.
    """
    require("cryptography", "signing a bundle")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(path)
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError as error:
        raise InputError(f"{path} is protected with a passphrase", _NEW) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path} holds no secret key", _NEW) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path} holds a key of another kind than Ed25519", _NEW)
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise InputError(f"{path}: others may read this secret key", f"chmod 600 {path}")
    return key.sign


def verifier(path: Path) -> Callable[[bytes, bytes], bool]:
    """What tells of a signature and a message whether the key in a file belongs to them.

    Errors: InputError where the file is no public key.
    """
    require("cryptography", "verifying a signature")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _read(path)
    if b"PRIVATE KEY" in data:
        raise InputError(
            f"{path} is a secret key, which does not belong on a device",
            f"Give the public one: --verify-key {path}.pub",
        )
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path} holds no public key", _NEW) from error
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{path} holds a key of another kind than Ed25519", _NEW)
    return partial(_is_signed_by, key)


def _is_signed_by(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _fingerprint(key: Ed25519PublicKey) -> str:
    """The first 16 hex digits of the SHA-256 of the public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_LARGEST_FILE)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", _NEW) from error


def _write(path: Path, data: bytes, mode: int) -> None:
    """Create a file that has its mode from the beginning; nothing stays where that fails."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
