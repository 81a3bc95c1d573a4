"""Calibration and evaluation must not share an image: the accuracy would flatter itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgedense.errors import InputError

_SHOWN = 3


def refuse_overlap(
    calibration: Iterable[str],
    evaluation: Iterable[str],
    calibration_names: Sequence[str] | None = None,
    evaluation_names: Sequence[str] | None = None,
) -> None:
    """Raise InputError where a calibration image is an evaluation image too.

    The first two arguments are content hashes, one an image; the names beside them, in the same
    order, make the message readable. Duplicates inside one of the sets are allowed.
    """
    calibration = tuple(calibration)
    evaluated: dict[str, int] = {}
    for k, sha256 in enumerate(evaluation):
        evaluated.setdefault(sha256, k)
    shared = [k for k, sha256 in enumerate(calibration) if sha256 in evaluated]
    if not shared:
        return
    pairs = ", ".join(
        f"{_name(calibration, calibration_names, k)} = "
        f"{_name(None, evaluation_names, evaluated[calibration[k]])}"
        for k in shared[:_SHOWN]
    )
    more = ", …" if len(shared) > _SHOWN else ""
    raise InputError(
        f"{len(shared)} of {len(calibration)} calibration images are evaluation images too "
        f"(same pixels): {pairs}{more}",
        "Remove them from the calibration set: it must be images that evaluation never sees.",
    )


def _name(hashes: Sequence[str] | None, names: Sequence[str] | None, k: int) -> str:
    if names is not None:
        return names[k]
    return f"image {k}" if hashes is None else f"sha256 {hashes[k][:12]}"
