"""Who vouches for a bundle: its own key passes, any other and none are refused."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from small_bundles import FILES, small_sources

from edgedense.bundle import new_key, open_bundle
from edgedense.bundle.archive import write_bundle
from edgedense.environment import installed
from edgedense.errors import InputError, MachineError

pytestmark = pytest.mark.skipif(not installed("cryptography"), reason="no cryptography here")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "release.key")
    return tmp_path / "release.key"


def public(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")


def signed(tmp_path: Path, key: Path | None, name: str = "small") -> Path:
    contents, sources = small_sources(tmp_path / f"{name}.from", FILES)
    write_bundle(tmp_path / f"{name}.edz", contents, sources, sign=key)
    return tmp_path / f"{name}.edz"


def refusal(path: Path, key: Path) -> str:
    with pytest.raises(InputError) as error, open_bundle(path, key):
        pass
    assert error.value.remedy
    return error.value.what


def test_a_key_pair(key: Path) -> None:
    assert key.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in public(key).read_text()
    with pytest.raises(InputError, match="exists already"):
        new_key(key)
    public(key).unlink()
    key.rename(key.with_name("other"))
    public(key).write_text("in the way")
    with pytest.raises(InputError, match="exists already"):
        new_key(key)
    assert not key.exists()


def test_only_its_own_key_opens_a_signed_bundle(tmp_path: Path, key: Path) -> None:
    path = signed(tmp_path, key)
    with open_bundle(path, public(key)) as bundle:
        assert bundle.signed is True
    with open_bundle(path) as bundle:
        assert bundle.signed is False
    new_key(tmp_path / "other.key")
    assert "was not signed with the key" in refusal(path, tmp_path / "other.key.pub")


def test_an_unsigned_bundle_is_refused_where_a_key_is_given(tmp_path: Path, key: Path) -> None:
    path = signed(tmp_path, None)
    with open_bundle(path) as bundle:
        assert bundle.signed is None
    assert "is not signed" in refusal(path, public(key))


def test_a_signature_is_for_one_content(tmp_path: Path, key: Path) -> None:
    """The seal of one bundle on another, its hash made right: what an attacker would try."""
    from edgedense.bundle import seal

    mine = signed(tmp_path, key, "mine").read_bytes()
    contents, sources = small_sources(tmp_path / "from", {**FILES, "quantize/int8.onnx": b"evil"})
    path = tmp_path / "theirs.edz"
    write_bundle(path, contents, sources)
    signature = bytes.fromhex(mine[-seal.LENGTH :].split(b"ed25519:")[1][:128].decode())
    with path.open("r+b") as stream:
        seal.put_seal(stream, lambda _: signature)
    with open_bundle(path):
        pass  # whole as a file …
    assert "was not signed with the key" in refusal(path, public(key))


def test_signing_changes_the_seal_alone(tmp_path: Path, key: Path) -> None:
    from edgedense.bundle import seal

    plain, own = signed(tmp_path, None, "plain"), signed(tmp_path, key, "own")
    assert plain.read_bytes()[: -seal.LENGTH] == own.read_bytes()[: -seal.LENGTH]
    again = signed(tmp_path, key, "again")
    assert again.read_bytes() == own.read_bytes()


def test_files_that_are_no_keys(tmp_path: Path, key: Path) -> None:
    path = signed(tmp_path, key)
    (tmp_path / "text").write_text("no key")
    assert "holds no public key" in refusal(path, tmp_path / "text")
    assert "No such file" in refusal(path, tmp_path / "none")
    assert "secret key, which does not belong" in refusal(path, key)
    with pytest.raises(InputError, match="holds no secret key"):
        signed(tmp_path, public(key), "b")
    key.chmod(0o640)
    with pytest.raises(InputError, match="others may read") as error:
        signed(tmp_path, key, "c")
    assert error.value.remedy == f"chmod 600 {key}"


def test_keys_of_another_kind(tmp_path: Path, key: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    other = ec.generate_private_key(ec.SECP256R1())
    locked = tmp_path / "locked"
    for path, encryption in (
        (tmp_path / "ec", form.NoEncryption()),
        (locked, form.BestAvailableEncryption(b"word")),
    ):
        path.write_bytes(
            other.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, encryption)
        )
        path.chmod(0o600)
    with pytest.raises(InputError, match="another kind"):
        signed(tmp_path, tmp_path / "ec", "a")
    with pytest.raises(InputError, match="passphrase"):
        signed(tmp_path, locked, "b")
    (tmp_path / "ec.pub").write_bytes(
        other.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    assert "another kind" in refusal(signed(tmp_path, key), tmp_path / "ec.pub")


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")
def test_openssl_reads_our_keys_and_we_its(tmp_path: Path, key: Path) -> None:
    def openssl(*words: object) -> bytes:
        done = subprocess.run(["openssl", *map(str, words)], capture_output=True, check=True)
        return done.stdout

    assert openssl("pkey", "-in", key, "-pubout") == public(key).read_bytes()
    theirs = tmp_path / "theirs.key"
    openssl("genpkey", "-algorithm", "ed25519", "-out", theirs)
    os.chmod(theirs, 0o600)  # noqa: PTH101
    public(theirs).write_bytes(openssl("pkey", "-in", theirs, "-pubout"))
    with open_bundle(signed(tmp_path, theirs), public(theirs)) as bundle:
        assert bundle.signed is True


def test_without_the_library_the_extra_is_named(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = signed(tmp_path, key)
    monkeypatch.setattr("edgedense.environment.installed", lambda name: name != "cryptography")
    with pytest.raises(MachineError, match=r"edgedense\[sign\]"), open_bundle(path, public(key)):
        pass
    with pytest.raises(MachineError, match=r"edgedense\[sign\]"):
        new_key(tmp_path / "third")
    with open_bundle(path) as bundle:  # whole, and nobody asked whose it is
        assert bundle.signed is False
