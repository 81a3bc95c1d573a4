"""The commands that make a run again, from the options in its manifests."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edgedense.data.preprocess import PRESETS
from edgedense.report.facts import at, items, mapping, number, text
from edgedense.report.flags import FLAGS, Flag
from edgedense.report.run import Raw

MODEL, CALIB, DATA, EVAL = '"$MODEL"', '"$CALIB"', '"$DATA"', '"$EVAL"'


_ORDER = ("prune", "finetune", "quantize", "build-engine", "benchmark", "validate")


def commands(found: dict[str, Any], raw: Raw) -> list[str]:
    """Lines of a POSIX shell: first what the inputs were, then one command a stage.

    Every name is quoted, so that no name of a file can do anything.
    """
    stages = mapping(found, "stages")
    if len(_kinds(stages, "quantize")) > 1 and len(_kinds(stages, "validate")) > 1:
        made = [_sweep(stages)]
    else:
        names = [name for kind in _ORDER for name in _kinds(stages, kind)]
        made = [_join(_command(stages, name)) for name in names]
    return [*_inputs(stages, raw, " ".join(made)), *_preprocess_file(stages), *made]


def _kinds(stages: dict[str, Any], kind: str) -> list[str]:
    return [name for name, stage in stages.items() if at(stage, "stage") == kind]


def _inputs(stages: dict[str, Any], raw: Raw, used: str) -> list[str]:
    """Where the inputs go, and what identifies them."""
    known: dict[str, str] = {}
    for kind, role, variable in (
        ("reference", "model", "MODEL"),
        ("prune", "model", "MODEL"),
        ("quantize", "model", "MODEL"),
        ("quantize", "calibration", "CALIB"),
        ("prune", "calibration", "CALIB"),
        ("finetune", "data", "DATA"),
        ("reference", "data", "EVAL"),
        ("validate", "data", "EVAL"),
    ):
        for name in _kinds(stages, kind):
            sha256 = text(stages[name], "parents", role)
            if sha256 and variable not in known:
                known[variable] = sha256
    source = next((text(r, "source") for r in raw.calibration.values() if text(r, "source")), "")
    places = {"MODEL": "MODEL", "CALIB": Path(source).name or "TRAINING_IMAGES"}
    places |= {"DATA": "TRAINING_IMAGES", "EVAL": "EVALUATION_IMAGES"}
    return [
        f"{variable}={shlex.quote(_plain(place))}  # {_identity(known.get(variable))}"
        for variable, place in places.items()
        if f'"${variable}"' in used
    ]


def _identity(sha256: str | None) -> str:
    return f"sha256 {_plain(sha256)[:64]}" if sha256 else "not recorded"


def _plain(word: str) -> str:
    """A name on one line: what cannot be shown cannot be typed either."""
    return "".join(char if char.isprintable() else "\ufffd" for char in word)


def _preprocess_file(stages: dict[str, Any]) -> list[str]:
    found = _preprocess(stages)
    if not found or _preset(found):
        return []
    rows = [
        f"{key} = {_toml(value)}"
        for key, value in found.items()
        if value is not None and key.isidentifier() and key.isascii()
    ]
    return ["cat > preprocess.toml <<'TOML'", *rows, "TOML"]


def _preprocess(stages: dict[str, Any]) -> dict[str, Any]:
    return next((p for stage in stages.values() if (p := mapping(stage, "preprocess"))), {})


def _preset(found: dict[str, Any]) -> str | None:
    name = text(found, "name")
    known = PRESETS.get(name)
    same = known is not None and _listless(known.to_dict()) == _listless(found)
    return name if same else None


def _listless(found: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in found.items()}


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    safe = "".join(c if c.isprintable() and c not in '"\\' else "\ufffd" for c in str(value))
    return f'"{safe}"'


def _command(stages: dict[str, Any], name: str) -> list[str]:
    stage = stages[name]
    kind = text(stage, "stage")
    build = {
        "prune": _prune,
        "finetune": _finetune,
        "quantize": _quantize,
        "build-engine": _engine,
        "benchmark": _benchmark,
        "validate": _validate,
    }[kind]
    words = ["edgedense", kind, *build(stages, stage), "-o", _quoted(name)]
    return [*words, *_flags(kind, mapping(stage, "options"))]


def _prune(stages: dict[str, Any], stage: dict[str, Any]) -> Iterator[str]:
    yield MODEL
    if text(stage, "parents", "calibration"):
        yield from ("--calib", CALIB)
    options = mapping(stage, "options")
    if number(options, "latency_ms") is not None:
        yield from ("--latency-ms", _quoted(options["latency_ms"]))
        yield from ("--target", _quoted(options.get("target")))
    elif number(options, "params") is not None:
        yield from ("--params", _quoted(options["params"]))
    else:
        yield from ("--macs", _quoted(options.get("macs", 0.7)))
    yield from _preprocessed(stage)


def _finetune(stages: dict[str, Any], stage: dict[str, Any]) -> Iterator[str]:
    yield _parent(stages, stage, "model")
    yield from ("--data", DATA)
    if text(stage, "parents", "teacher"):
        yield from ("--teacher", MODEL)


def _quantize(stages: dict[str, Any], stage: dict[str, Any]) -> Iterator[str]:
    model = _parent(stages, stage, "model")
    yield model
    yield from ("--calib", CALIB)
    if "reference.npz" in mapping(stage, "files"):
        yield from ("--eval", EVAL)
        if model != MODEL:
            yield from ("--reference", MODEL)
    if model == MODEL:
        yield from _preprocessed(stage)


def _engine(stages: dict[str, Any], stage: dict[str, Any]) -> Iterator[str]:
    yield _parent(stages, stage, "model")
    batch = items(stage, "options", "batch")
    if len(batch) == 3 and batch != [1, 1, 8]:
        yield from ("--batch", _quoted(":".join(str(one) for one in batch)))


def _benchmark(stages: dict[str, Any], stage: dict[str, Any]) -> Iterator[str]:
    yield _parent(stages, stage, "engine")
    if text(stage, "parents", "against"):
        yield from ("--against", _parent(stages, stage, "against"))
        if at(stage, "report", "fresh_processes") is not True:
            yield "--same-process"


def _validate(stages: dict[str, Any], stage: dict[str, Any]) -> Iterator[str]:
    yield _parent(stages, stage, "engine")
    yield from ("--data", EVAL)
    options = mapping(stage, "options")
    gate, least = number(options, "max_drop_pp"), number(options, "min_speedup")
    if gate is not None:
        yield from ("--max-drop", _quoted(f"{gate:g}"))
    if least is not None:
        yield from ("--min-speedup", _quoted(f"{least:g}"))
    if least is not None or text(stage, "parents", "reference"):
        yield from ("--reference", MODEL)


def _sweep(stages: dict[str, Any]) -> str:
    """The one command that makes all points."""
    quantized = [stages[name] for name in _kinds(stages, "quantize")]
    shares = {number(stages[name], "options", "macs") for name in _kinds(stages, "prune")}
    whole = any(_parent(stages, stage, "model") == MODEL for stage in quantized)
    known = sorted((share for share in shares if share is not None), reverse=True)
    macs = [*(["1"] if whole else []), *(f"{share:g}" for share in known)]
    built = [stages[name] for name in _kinds(stages, "build-engine")]
    words = ["edgedense", "sweep", MODEL, "--calib", CALIB, "--eval", EVAL, "-o", "sweep"]
    words += ["--macs", _quoted(",".join(macs))] if macs else []
    for flag, those, key in (
        ("--placement", quantized, "placement"),
        ("--precision", built, "precision"),
        ("--effort", quantized, "effort"),
    ):
        values = dict.fromkeys(text(stage, "options", key) for stage in those)
        words += [flag, _quoted(",".join(value for value in values if value))]
    words += list(_preprocessed({"preprocess": _preprocess(stages)}))
    common = mapping(quantized[0], "options")
    shared = [f for f in FLAGS["quantize"] if f.key in ("calibrator", "images", "seed")]
    return _join([*words, *_given(shared, common)])


def _preprocessed(stage: dict[str, Any]) -> Iterator[str]:
    if found := mapping(stage, "preprocess"):
        yield from ("--preprocess", _quoted(_preset(found) or "preprocess.toml"))


def _parent(stages: dict[str, Any], stage: dict[str, Any], role: str) -> str:
    """The directory of the stage that this one was made from, else the network itself."""
    sha256 = text(stage, "parents", role)
    for name, other in stages.items():
        if text(other, "manifest_sha256") == sha256:
            return _quoted(name)
    return MODEL if role in ("model", "against") else "ENGINE"


def _flags(kind: str, options: dict[str, Any]) -> list[str]:
    return _given(FLAGS.get(kind, ()), options)


def _given(flags: Iterable[Flag], options: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for flag in flags:
        value = options.get(flag.key, flag.default)
        if value is None or value == flag.default:
            continue
        if flag.switch is not None:
            words.append(flag.switch[0] if value else flag.switch[1])
        elif isinstance(value, list) and flag.joined:
            words += [flag.name, _quoted(",".join(str(one) for one in value))]
        elif isinstance(value, list):
            words += [word for one in value for word in (flag.name, _quoted(one))]
        else:
            words += [flag.name, _quoted(value)]
    return [word for word in words if word]


def _quoted(value: object) -> str:
    return shlex.quote(_plain(str(value)))


def _join(words: list[str]) -> str:
    """One command, broken where it would be too wide, in front of a flag."""
    lines, line = [], words[0]
    for number_, word in enumerate(words[1:], 1):
        flag = word.startswith("-") and number_ + 1 < len(words)
        more = len(word) + (len(words[number_ + 1]) + 1 if flag else 0)
        if flag and len(line) + more > 92:
            lines.append(f"{line} \\")
            line = f"    {word}"
        else:
            line += f" {word}"
    return "\n".join([*lines, line])
