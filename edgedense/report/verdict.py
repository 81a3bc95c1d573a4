"""The verdict of a run in words that need no engineer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgedense.errors import InputError
from edgedense.report.engines import Engine
from edgedense.report.facts import items, mapping, number, text
from edgedense.report.words import (
    TIMES,
    UNSTABLE,
    amount,
    between,
    decimal,
    listed,
    milliseconds,
    plural,
)
from edgedense.targets import TENSORRT, find_target
from edgedense.validate.judge import Gates

# of several engines the worst tells
_ORDER = ("fail", "inconclusive", "open", "pass")
BADGES = {
    "pass": "Passed",
    "fail": "Failed",
    "inconclusive": "Not decided",
    "open": "No gate was set",
    "": "Not judged yet",
}
REHEARSAL_NOTE = (
    "ONNX Runtime on an ordinary processor stood in for the device. Neither this accuracy nor this "
    "speed is the device's: validate and benchmark again there before you ship."
)


@dataclass(frozen=True)
class Headline:
    """``verdict`` as of :class:`Engine`; a heading, a sentence or two, and the engine they mean.

    ``badge`` stands in place of the verdict where there is no single one.
    """

    verdict: str
    heading: str
    sentence: str
    engine: Engine | None
    badge: str = ""


def headline(found: dict[str, Any], known: Sequence[Engine]) -> Headline:
    """What a manager reads."""
    judged = [engine for engine in known if engine.verdict]
    family = _family(found, known)
    if not judged:
        return _unjudged(family, known)
    if len({engine.origin for engine in judged}) > 1 or found.get("sweep"):
        return _many(family, judged)
    # what was judged on a device makes its rehearsal needless
    serious = [engine for engine in judged if not engine.rehearsal] or judged
    worst = min(serious, key=lambda engine: _rank(engine.verdict))
    return Headline(worst.verdict, _heading(family, worst), _sentence(worst), worst)


def _rank(verdict: str) -> int:
    return _ORDER.index(verdict) if verdict in _ORDER else -1


def gate_of(known: Sequence[Engine]) -> float:
    """The drop that is allowed, in pp: the gate that was set, or the one that validate has."""
    for engine in known:
        if (gate := number(engine.judged, "max_drop_pp")) is not None:
            return gate
    return Gates().max_drop_pp or 1.0


def _family(found: dict[str, Any], known: Sequence[Engine]) -> str:
    names = [text(e.whole, "family") or text(e.model, "family") for e in known]
    names += [text(stage, "model", "family") for stage in mapping(found, "stages").values()]
    return next((name for name in names if name), "The network")


def _unjudged(family: str, known: Sequence[Engine]) -> Headline:
    names = listed([engine.name for engine in known if engine.built])
    if names:
        said = f"Engines were built for {names}, but none was validated on this machine."
    else:
        said = "The run has not come as far as an engine that could be judged."
    return Headline("", f"{family}: no verdict yet", said, next(iter(known), None))


def _heading(family: str, engine: Engine) -> str:
    what = f"{family} in {engine.precision}" if engine.precision else f"The {family} engine"
    ends, gate = engine.drop_ends, number(engine.judged, "max_drop_pp")
    if engine.verdict == "fail":
        lost = ends is not None and gate is not None and ends[0] > gate
        return f"{what} loses too much accuracy" if lost else f"{what} misses what was asked"
    if engine.verdict == "inconclusive":
        if ends is not None and gate is not None and ends[1] <= gate:
            return f"{what} keeps its accuracy, but something else is not decided"
        return f"{what}: these images cannot decide"
    if engine.verdict == "open":
        return f"{what} was measured; nothing was asked of it"
    if gate is None:
        return f"{what} does what was asked"
    return f"{what} keeps its accuracy"


def _sentence(engine: Engine) -> str:
    parts = [_cost(engine), _gain(engine)]
    if engine.rehearsal:
        parts.append("This was a rehearsal on a processor (cpu), not on the device.")
    else:
        parts.append(f"Judged on {engine.device}.")
    return " ".join(part for part in parts if part)


def _cost(engine: Engine) -> str:
    images = plural(number(engine.judged, "samples") or 0, "image")
    metric, ends, gate = engine.metric[1], engine.drop_ends, number(engine.judged, "max_drop_pp")
    if engine.drop is None:
        same = number(engine.judged, "agreement")
        told = f"On {images} it gives the same answer as the FP32 original in {decimal(same)} %."
        return told if same is not None else f"How it compares with FP32 is not known ({images})."
    before = number(engine.judged, "reference", engine.metric[0])
    said = (
        f"On the same {images} it reaches {decimal(engine.accuracy)} % {metric}, the FP32 original "
        f"{decimal(before)} %"
    )
    if ends is not None:
        said += f"; at worst {decimal(max(ends[1], 0.0))} points are lost (95 % confidence)"
    return said + (f", where {gate:g} is allowed." if gate is not None else ".")


def _gain(engine: Engine) -> str:
    told = []
    if engine.speedup is not None:
        told.append(f"It is {_faster(engine, engine.speedup)}")
    elif (p50 := number(engine.timed, "p50_ms")) is not None:
        shaky = f" ({UNSTABLE})" if engine.unstable else ""
        told.append(f"It answers in {milliseconds(p50)} ms{shaky}")
    share = _share(engine)
    if share is not None and share < 0.995:
        told.append(f"does with {decimal(100 * share, 0)} % of the arithmetic")
    if not told:
        return "Its speed was not measured."
    return (" and ".join(told) if told[0].startswith("It ") else f"It {told[0]}") + "."


def _faster(engine: Engine, speedup: float) -> str:
    """How fast it is against the other, and what makes that doubtful."""
    least, ends = number(engine.judged, "min_speedup"), engine.speedup_ends
    # close to 1, or to what was asked, one digit would hide on which side it is
    fast = f"{decimal(speedup, 1 if least is None and speedup >= 2 else 2)} times"
    notes = [f"asked: {least:g}"] if least is not None else []
    notes += [UNSTABLE] if engine.unstable_speedup else []
    if ends is not None and ends[0] <= 1 <= ends[1]:
        said = f"no faster than {_other(engine)}"
        notes.insert(0, f"{fast}, 95 %: {between(ends)}")
    else:
        said = f"{fast} as fast as {_other(engine)}"
    return f"{said} ({'; '.join(notes)})" if notes else said


def _other(engine: Engine) -> str:
    """What it was timed against."""
    name = text(engine.timed, "against", "engine_name")
    if built := re.fullmatch(r"\S+ (fp32|fp16|int8) engine", name):
        return f"the {built[1].upper()} engine"
    return "FP32 in PyTorch" if name in ("", "pytorch-fp32") else name


def _share(engine: Engine) -> float | None:
    before, after = number(engine.whole, "macs"), number(engine.model, "macs")
    return after / before if before and after is not None else None


def _many(family: str, judged: Sequence[Engine]) -> Headline:
    gate = gate_of(judged)
    sure = [e for e in judged if e.drop_ends is not None and e.drop_ends[1] <= gate]
    keep = "keep their" if len(sure) > 1 else "keeps its"
    heading = f"{len(sure) or 'None'} of {len(judged)} variants of {family} surely {keep} accuracy"
    badge = f"{len(judged)} networks compared"
    if not sure:
        said = f"Of none is it certain that it loses at most {_points(gate)}."
        return Headline(
            "inconclusive", heading, f"{said} {_rehearsed(judged)}".strip(), None, badge
        )
    best = min(sure, key=_effort)
    share = _share(best)
    size = f"does with {decimal(100 * share, 0)} % of the arithmetic, " if share else ""
    fast = f"is {_faster(best, best.speedup)} " if best.speedup else ""
    ends = best.drop_ends
    said = (
        f"For these the loss is at most {_points(gate)}, for each with 95 % confidence. The "
        f"cheapest of them, {best.name}, {size}{fast}and loses {decimal(best.drop)} points, at "
        f"worst {decimal(ends[1] if ends else None)}."
    )
    return Headline("open", heading, f"{said} {_rehearsed(judged)}".strip(), best, badge)


def _points(gate: float) -> str:
    return f"{gate:g} percentage point{'' if gate == 1 else 's'}"


def _effort(engine: Engine) -> tuple[float, float]:
    costs = number(engine.timed, "p50_ms"), number(engine.model, "macs")
    size = number(engine.built, "engine_bytes") or 0.0
    return (costs[0] if costs[0] is not None else costs[1] or 0.0, size)


def _rehearsed(judged: Sequence[Engine]) -> str:
    alike = all(engine.rehearsal for engine in judged)
    return "All of it is a rehearsal on a processor (cpu), not on the device." if alike else ""


def tiles(engine: Engine) -> list[tuple[str, str, str, str]]:
    """The four figures below the sentence: name, value, unit, and what it came from."""
    whole, model = engine.whole, engine.model
    ends = engine.drop_ends
    told = []
    if engine.drop is not None:
        under = f"95 %: {decimal(ends[0])} to {decimal(ends[1])}" if ends else "no interval"
        dense = engine.metric[0] == "miou"
        told.append((f"{'mIoU' if dense else 'Top-1'} lost", decimal(engine.drop), "pp", under))
    if engine.speedup is not None:
        p50, other = number(engine.timed, "p50_ms"), number(engine.timed, "against", "p50_ms")
        under = f"p50 {milliseconds(other)} → {milliseconds(p50)} ms" if other else "against FP32"
        under += f"; {UNSTABLE}" if engine.unstable_speedup else ""
        told.append(("Times as fast", decimal(engine.speedup), TIMES, under))
    elif (p50 := number(engine.timed, "p50_ms")) is not None:
        under = "copies included" + (f"; {UNSTABLE}" if engine.unstable else "")
        told.append(("Latency p50", milliseconds(p50), "ms", under))
    share = _share(engine)
    if share is not None:
        under = f"{amount(number(whole, 'macs'))} → {amount(number(model, 'macs'))} MACs"
        told.append(("Arithmetic", decimal(100 * share, 0), "%", under))
    weights, params = number(engine.built, "weights_bytes"), number(whole, "params")
    if weights is not None and params:
        share = weights / (4 * params)
        under = f"{4 * params / 1e6:.2f} → {weights / 1e6:.2f} MB"
        told.append(("Weights", decimal(100 * share, 0), "%", under))
    return told


def absent(found: dict[str, Any]) -> list[str]:
    """A sentence for each target that was asked for and has no engine in the run."""
    return [
        f"{name} was asked for; {_place(name)}: nothing here says how it does there."
        for name in items(found, "not_built")
        if isinstance(name, str)
    ]


def _place(name: str) -> str:
    try:
        on_device = find_target(name).backend == TENSORRT
    except InputError:
        on_device = False
    if not on_device:
        return "its engine is not in this run"
    where = "the board" if name.startswith("jetson-") else "that device"
    return f"its engine has to be built on {where}"


def reasons(engine: Engine) -> list[str]:
    """The sentences of the judgement."""
    return [reason for reason in items(engine.judged, "reasons") if isinstance(reason, str)]
