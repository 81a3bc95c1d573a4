"""What a bundle holds, as its ``bundle.json`` says it, and what may be in it at all."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from edgedense import __version__
from edgedense.artifact import FileRecord
from edgedense.build import BuildOptions
from edgedense.errors import InputError
from edgedense.validate import ValidateOptions

FORMAT = "edgedense-bundle/1"
CONTENTS_FILE = "bundle.json"
QUANTIZE, EVALUATION = "quantize", "evaluation"  # the artifacts in it
REHEARSAL = "cpu"
# flat names in two known folders: nothing that is absolute, hidden or leads elsewhere
_NAME = re.compile(rf"(?:{QUANTIZE}|{EVALUATION})(?:/[A-Za-z0-9_][A-Za-z0-9_.-]{{0,99}}){{1,2}}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
PACK_AGAIN = "Pack the bundle again on the machine that has the run: edgedense pack RUN -o FILE"


@dataclass(frozen=True)
class Contents:
    """What is to be built of a bundle, what it has to hold, and its files by their names.

    ``rest`` is the type beside INT8 on GPUs. ``against`` is the precision of the engine that the
    speed-up is measured against (None: none). ``images`` of ``images_of`` evaluation images are in
    the bundle, drawn with ``seed`` where that is fewer.
    """

    targets: tuple[str, ...]
    precision: str
    rest: str
    batch: tuple[int, int, int]
    against: str | None
    max_drop_pp: float | None
    min_speedup: float | None
    images: int
    images_of: int
    seed: int
    files: dict[str, FileRecord] = field(default_factory=dict)
    edgedense: str = __version__
    format: str = FORMAT

    def to_bytes(self) -> bytes:
        """The text of ``bundle.json``."""
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes, place: str) -> Contents:
        """Read ``bundle.json``. Errors: InputError, naming ``place``, where it is damaged."""
        try:
            raw = json.loads(data)
            check_format(str(raw["format"]), place)
            files = {name: FileRecord(**record) for name, record in raw.pop("files").items()}
            targets, (least, usual, most) = tuple(raw.pop("targets")), raw.pop("batch")
            found = cls(files=files, targets=targets, batch=(least, usual, most), **raw)
            found._check()
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{place}: its {CONTENTS_FILE} is damaged ({error})", PACK_AGAIN
            ) from error
        return found

    def build(self, target: str, precision: str | None = None) -> BuildOptions:
        """Options of one engine, checked. Errors: InputError for what the target cannot do."""
        rest = None if target == REHEARSAL else self.rest
        options = BuildOptions(target, precision or self.precision, self.batch, rest=rest)
        options.check()
        return options

    def gates(self) -> ValidateOptions:
        """What an engine has to hold."""
        return ValidateOptions(self.max_drop_pp, self.min_speedup)

    def _check(self) -> None:
        """Raise ValueError for values that no bundle of this format has; options check the rest."""
        for name, record in self.files.items():
            if not is_name(name):
                raise ValueError(f"the name {name!r}")
            if type(record.bytes) is not int or record.bytes < 0:
                raise ValueError(f"the size of {name}")
            if not _SHA256.fullmatch(record.sha256):
                raise ValueError(f"the hash of {name}")
        for number in (*self.batch, self.images, self.images_of, self.seed):
            if type(number) is not int:
                raise ValueError(f"{number!r} is no whole number")
        texts = (*self.targets, self.precision, self.rest, self.against or "", self.edgedense)
        if not self.targets or not all(type(text) is str for text in texts):
            raise ValueError("targets or precisions")
        for gate in (self.max_drop_pp, self.min_speedup):
            if not (gate is None or type(gate) in (int, float)):
                raise ValueError(f"the gate {gate!r}")
        self.gates()


def is_name(name: str) -> bool:
    """Whether a file in a bundle may have this name."""
    return _NAME.fullmatch(name) is not None


def check_format(found: str, place: str) -> None:
    """Raise InputError unless ``found`` is the format that this version reads."""
    if found == FORMAT:
        return
    name, _, number = found.partition("/")
    if name == FORMAT.partition("/")[0] and number.isdecimal():
        raise InputError(
            f"{place} is a bundle of format {number}, but edgedense {__version__} reads format "
            f"{FORMAT.partition('/')[2]}",
            "Install a newer edgedense here, or pack the bundle with this version.",
        )
    raise InputError(f"{place} has the unknown format {found!r}", PACK_AGAIN)


def options_of(contents: Contents) -> dict[str, Any]:
    """What was asked, without the files."""
    return {key: value for key, value in asdict(contents).items() if key != "files"}
