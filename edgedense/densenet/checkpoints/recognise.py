"""Which scheme a state dict is of, and its tensors as ours."""

from __future__ import annotations

import math
import re
import shlex
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from edgedense.densenet.checkpoints.infer import block_config, infer_classifier
from edgedense.densenet.checkpoints.recognised import Recognised
from edgedense.densenet.checkpoints.reorder import reverse_concats
from edgedense.densenet.checkpoints.schemes import SCHEMES, Scheme
from edgedense.densenet.checkpoints.selection import widen
from edgedense.densenet.checkpoints.twins import without_prefix
from edgedense.densenet.checkpoints.wrappers import Unwrapped, some
from edgedense.errors import InputError

_AFTER_HEAD = "if a softmax or sigmoid follows it, say so: edgedense import --activation."
ORDER = "order"  # the scheme of files whose names tell nothing; never taken unless asked for
NAMES = (*(scheme.name for scheme in SCHEMES), ORDER)


def recognise(found: Unwrapped, path: Path, asked: str | None = None) -> Recognised:
    """Recognise a state dict by its keys, or take it for the scheme that was ``asked``.

    Errors: InputError where it is of no scheme, or of two that give different functions.
    """
    if asked == ORDER:
        return _with_notes(_by_order(found, path), found.notes)
    chosen = _asked(asked) if asked else SCHEMES
    fits = [scheme for scheme in chosen if _fits(scheme, found.state)]
    if not fits:
        _check_alone(found.state, path)
        raise _no_fit(chosen, found.state, path)
    scheme, notes = (fits[0], ()) if len(fits) == 1 else _settle(fits, found, path)
    if head := next((key for key in found.state if re.match(r"classifier\.[1-9]", key)), None):
        notes += (f"{head.rpartition('.')[0]} is the classifier; {_AFTER_HEAD}",)
    result = _rework(scheme, _renamed(scheme, found.state, path), found, path)
    return _with_notes(_preset_of_shapes(scheme, result), (*found.notes, *notes))


def check_name(asked: str | None) -> None:
    """Raise InputError where ``asked`` is no scheme's name."""
    if asked is not None and asked not in NAMES:
        raise InputError(
            f"unknown scheme {asked!r}",
            f"PyTorch files are {', '.join(NAMES)}; leave --scheme away for Keras (.h5, .keras, "
            f".npz) and Caffe (.caffemodel) files, which tell theirs, or give {ORDER}.",
        )


def _asked(name: str) -> tuple[Scheme, ...]:
    check_name(name)
    return tuple(scheme for scheme in SCHEMES if scheme.name == name)


def _by_order(found: Unwrapped, path: Path) -> Recognised:
    from edgedense.densenet.checkpoints.order import recognise_order

    if path.suffix.lower() == ".safetensors":
        raise InputError(
            f"{path}: safetensors files do not keep the order of their tensors",
            "Save the state dict with torch.save, and import that by order.",
        )
    return recognise_order(found.state, path)


def _check_alone(state: Mapping[str, Tensor], path: Path) -> None:
    """Raise InputError where a whole network stands among other tensors."""
    for outer in dict.fromkeys(key.partition(".")[0] for key in state):
        own = {key: value for key, value in state.items() if key.startswith(f"{outer}.")}
        inner, prefix = without_prefix(own)
        others = [key for key in state if key not in own]
        if others and prefix and any(_fits(scheme, inner) for scheme in SCHEMES):
            raise InputError(
                f"{path}: beside the tensors of {prefix}* it holds {some(others)}",
                "Save the one network: torch.save(network.state_dict(), 'weights.pth').",
            )


def _fits(scheme: Scheme, state: Mapping[str, Tensor]) -> bool:
    return not scheme.missing(state) and all(scheme.rename(key) is not None for key in state)


def _settle(fits: list[Scheme], found: Unwrapped, path: Path) -> tuple[Scheme, tuple[str, ...]]:
    """The one of several schemes that the file names, or whose published networks it looks like."""
    for name in _architectures(found.beside):
        named = [s for s in fits if s.architecture and _is_called(name, s.architecture)]
        if len(named) == 1:
            return named[0], (f"Taken for {named[0].name}: the file calls its network {name}.",)
    blocks = block_config(found.state, path)
    known = [scheme for scheme in fits if blocks in scheme.published]
    if len(known) == 1:
        others = " or ".join(scheme.name for scheme in fits if scheme is not known[0])
        note = f"Taken for {known[0].name} and not {others}, whose keys are the same: only its "
        return known[0], (f"{note}published networks have blocks {', '.join(map(str, blocks))}.",)
    readings = " or ".join(f"{scheme.name} ({scheme.difference})" for scheme in fits)
    command = f"edgedense import {shlex.quote(str(path))} -o DIR --scheme"
    commands = ", or: ".join(f"{command} {scheme.name}" for scheme in fits)
    raise InputError(
        f"{path}: its keys fit {readings}, which are different functions",
        f"Say which: {commands}",
    )


def _is_called(name: str, architecture: str) -> bool:
    """Whether a name is that architecture's, with a hub in front or a tag behind it too."""
    return re.fullmatch(rf"(?:.*/)?{architecture}(?:\..*)?", name) is not None


def _architectures(beside: Mapping[str, object]) -> list[str]:
    """Names that a file gives its network, in its own entries or in the training's settings."""
    settings = beside.get("args")
    places = (beside, vars(settings)) if isinstance(settings, Namespace) else (beside,)
    values = [place.get(key) for place in places for key in ("arch", "architecture", "model")]
    return [value.lower() for value in values if isinstance(value, str)]


@dataclass(frozen=True)
class _Misfit:
    """Keys that a scheme does not know, and marks that it misses."""

    scheme: str
    unknown: list[str]
    missing: list[str]

    @property
    def reason(self) -> str:
        if self.unknown:
            more = f" nor {len(self.unknown) - 1} others" if len(self.unknown) > 1 else ""
            lacks = f"; {self.missing[0]} is missing" if self.missing else ""
            return f"which has no {self.unknown[0]!r}{more}{lacks}"
        return f"whose {' and '.join(self.missing)} is missing"


def _no_fit(chosen: tuple[Scheme, ...], state: Mapping[str, Tensor], path: Path) -> InputError:
    misfits = [
        _Misfit(s.name, [k for k in state if s.rename(k) is None], s.missing(state)) for s in chosen
    ]
    nearest = min(misfits, key=lambda misfit: len(misfit.unknown) + len(misfit.missing))
    if len(chosen) == 1:
        return InputError(
            f"{path}: not of the scheme {nearest.scheme}, {nearest.reason}",
            "Leave --scheme away: a file's keys tell its scheme.",
        )
    return InputError(
        f"{path}: not a DenseNet that edgedense knows (tried {', '.join(s.name for s in chosen)}; "
        f"nearest is {nearest.scheme}, {nearest.reason})",
        "Check that this is a DenseNet; else rename its state dict's keys to torchvision's names, "
        "or read it by order: edgedense import FILE -o DIR --scheme order",
    )


def _renamed(scheme: Scheme, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        name = str(scheme.rename(key))
        if name in renamed:
            raise InputError(
                f"{path}: {key} and another tensor are both {name}",
                "The file mixes two ways of naming: keep one of the two.",
            )
        renamed[name] = value
    return renamed


def _rework(scheme: Scheme, state: dict[str, Tensor], found: Unwrapped, path: Path) -> Recognised:
    facts = scheme.facts
    notes: tuple[str, ...] = ()
    if scheme.rework == "reversed concats":
        state = reverse_concats(state, infer_classifier(state, facts, path), path)
        notes = ("Concats reordered: the original puts new features in front.",)
    elif scheme.rework == "channel selections":
        wide = widen(state, found.beside.get("cfg"), path)
        state = wide.state
        notes = (f"Channel selections became zero weights: {wide.read} of {wide.inputs} are read.",)
    elif scheme.rework == "thresholds":
        facts = replace(facts, thresholds=_thresholds(state, path))
    elif scheme.rework == "blur filter":
        _check_blur(state.pop("features.pool0.filt", None), path)
    return Recognised(scheme.name, state, replace(facts, notes=notes))


def _thresholds(state: dict[str, Tensor], path: Path) -> tuple[float | None, ...]:
    """torchxrayvision's thresholds; NaN stands for a class that has none."""
    found = [float(value) for value in state.pop("op_threshs").flatten()]
    classes = state["classifier.bias"].numel() if "classifier.bias" in state else len(found)
    wrong = [value for value in found if not math.isnan(value) and not 0 < value < 1]
    if wrong or len(found) != classes:
        raise InputError(
            f"{path}: op_threshs holds {len(found)} thresholds for {classes} classes"
            + (f", among them {wrong[0]:g}" if wrong else ""),
            "One probability for each class is expected, NaN for a class without one.",
        )
    return tuple(None if math.isnan(value) else value for value in found)


def _check_blur(filt: Tensor | None, path: Path) -> None:
    row = torch.tensor([1.0, 2.0, 1.0]) / 4
    if filt is None:
        return
    if filt.shape[-2:] != (3, 3) or not torch.allclose(filt.float(), torch.outer(row, row)):
        raise InputError(
            f"{path}: the blur filter of its stem, {tuple(filt.shape)}, is not the binomial 3x3",
            "edgedense knows the blur of timm's densenetblur121d only.",
        )


def _preset_of_shapes(scheme: Scheme, found: Recognised) -> Recognised:
    """The preset, where the network has the channels and classes of the code base's data."""
    first = found.state.get("features.conv0.weight", found.state.get("firstconv.weight"))
    last = found.state.get("classifier.weight", found.state.get("finalConv.weight"))
    inputs = first.shape[1] if first is not None and first.ndim == 4 else None
    classes = last.shape[0] if last is not None and last.ndim else None
    facts, notes = found.facts, found.facts.notes
    fits = inputs == scheme.inputs and (not scheme.classes or classes in scheme.classes)
    if facts.preset and fits:
        notes += (
            f"Preprocessing is {facts.preset}'s unless you say otherwise: it is what this "
            "code base trains with.",
        )
    preset = facts.preset if fits else None
    return replace(found, facts=replace(facts, preset=preset, notes=notes))


def _with_notes(found: Recognised, notes: tuple[str, ...]) -> Recognised:
    return replace(found, facts=replace(found.facts, notes=(*notes, *found.facts.notes)))
