"""The page: one HTML file that needs nothing else, no network and no script."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgedense.report.accuracy import accuracy
from edgedense.report.calibration import calibration
from edgedense.report.choices import choices
from edgedense.report.commands import commands
from edgedense.report.engines import Engine, engines
from edgedense.report.facts import mapping, number, text
from edgedense.report.html import Child, Markup, tag
from edgedense.report.parts import Cells, section, table
from edgedense.report.removed import pruned, tuned
from edgedense.report.run import Raw
from edgedense.report.speed import device, latency
from edgedense.report.verdict import BADGES, REHEARSAL_NOTE, Headline, absent, headline, tiles
from edgedense.report.where import layers, sensitivity
from edgedense.report.words import DASH, decimal, listed, size

STYLE_FILE = Path(__file__).with_name("page.css")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_NAMES = {
    "accuracy": "Accuracy",
    "choices": "Networks",
    "latency": "Latency",
    "where": "Error and time",
    "pruned": "Removed",
    "training": "Training",
    "layers": "Precision",
    "calibration": "Calibration",
    "engines": "Engines",
    "device": "Device",
    "lineage": "Lineage",
    "again": "Reproduce",
}
_ORDER = (
    *("import", "train", "reference", "prune", "finetune", "quantize", "build-engine"),
    *("benchmark", "latency", "validate"),
)
# a shape for each verdict, so that its colour is not needed
_SIGNS = {
    "pass": "M3 8.5 6.5 12 13 4.5",
    "fail": "M4 4 12 12M12 4 4 12",
    "inconclusive": "M2.5 8C4.5 4 6.5 4 8 8 9.5 12 11.5 12 13.5 8",
}


def page(found: dict[str, Any], raw: Raw | None = None) -> str:
    """The whole page of what :func:`read_run` found, with plots of what was recorded ``raw``."""
    raw = raw or Raw()
    known = engines(found)
    told = headline(found, known)
    parts = {
        "accuracy": accuracy(known),
        "choices": choices(found, known),
        "latency": latency(known, raw),
        "where": sensitivity(raw),
        "pruned": pruned(found),
        "training": tuned(found),
        "layers": layers(found, raw),
        "calibration": calibration(raw),
        "engines": _engines(known),
        "device": device(known),
        "lineage": _lineage(found),
        "again": _again(found, raw),
    }
    title = f"{told.heading} · edgedense"
    return "<!doctype html>\n" + tag(
        "html",
        _head(title),
        tag(
            "body",
            tag("a", "Skip to the verdict", href="#verdict", class_="skip"),
            tag("header", _top(found, told), class_="frame"),
            tag("main", _summary(found, told), _contents(parts), parts.values(), class_="frame"),
            tag("footer", _foot(found), class_="frame"),
        ),
        lang="en",
    )


def _head(title: str) -> Markup:
    # the style sheet is ours, and the only thing on the page that is not escaped
    style = Markup(STYLE_FILE.read_text(encoding="utf-8"))
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", style),
    )


def _top(found: dict[str, Any], told: Headline) -> Iterable[Child]:
    yield tag("p", f"edgedense · {text(found, 'run')}", class_="over")
    yield tag("h1", told.heading.replace("-", "\u2011"), id="verdict")


def _summary(found: dict[str, Any], told: Headline) -> Iterable[Child]:
    yield _badge(told)
    yield tag("p", _tied(told.sentence), class_="lead")
    if told.engine is not None and told.engine.rehearsal and told.engine.judged:
        yield tag("p", tag("strong", "A rehearsal. "), REHEARSAL_NOTE, class_="note")
    for said in absent(found):
        yield tag("p", tag("strong", "Not in this run. "), said, class_="note")
    figures = tiles(told.engine) if told.engine is not None else []
    if figures:
        yield tag("dl", [_tile(*figure) for figure in figures], class_="tiles")


def _tied(sentence: str) -> str:
    """No line breaks between a number and what it counts."""
    return sentence.replace(" %", "\u00a0%").replace(" MACs", "\u00a0MACs")


def _badge(told: Headline) -> Markup:
    verdict = told.verdict
    sign = _SIGNS.get(verdict)
    mark = None
    if sign is not None:
        line = tag("path", d=sign, class_="sign")
        mark = tag("svg", line, viewBox="0 0 16 16", width=16, height=16, aria_hidden="true")
    kind = verdict if verdict in _SIGNS else "open"
    return tag("p", mark, told.badge or BADGES.get(verdict, verdict), class_=f"verdict {kind}")


def _tile(name: str, value: str, unit: str, under: str) -> Markup:
    shown = tag("div", value, Markup("&nbsp;"), tag("small", unit), class_="value")
    return tag("div", tag("dt", name), tag("dd", shown, tag("div", under, class_="under")))


def _contents(parts: dict[str, Markup | None]) -> Markup:
    links = [
        tag("li", tag("a", _NAMES[name], href=f"#{name}")) for name, part in parts.items() if part
    ]
    return tag("nav", tag("ul", links), aria_label="Contents")


def _engines(known: Iterable[Engine]) -> Markup | None:
    rows = [(engine.name, engine) for engine in known if engine.built]
    if not rows:
        return None
    columns: Cells = [
        ("for", lambda e: e.device),
        ("precision", lambda e: e.precision or DASH),
        ("built by", lambda e: f"{text(e.built, 'backend')} {text(e.built, 'runtime_version')}"),
        ("engine", lambda e: size(number(e.built, "engine_bytes"))),
        ("weights", lambda e: size(number(e.built, "weights_bytes"))),
        ("activations", lambda e: size(number(e.built, "activation_bytes"))),
        ("layers", lambda e: decimal(number(e.built, "layers"), 0)),
        ("validated", lambda e: "yes" if e.judged else "not here"),
    ]
    parts: list[Child] = [table("What was built", "engine", columns, rows)]
    waiting = [engine.name for _, engine in rows if not engine.judged]
    if waiting:
        said = f"{listed(waiting)}: built here, to be validated and benchmarked on the device."
        parts.append(tag("p", said, class_="quiet"))
    return section("engines", "Engines", parts)


def _lineage(found: dict[str, Any]) -> Markup:
    stages = mapping(found, "stages")
    names = {text(stage, "manifest_sha256"): name for name, stage in stages.items()}
    columns: Cells = [
        ("made from", lambda s: _parents(s, names)),
        ("manifest SHA-256", lambda s: text(s, "manifest_sha256")),
    ]
    told = (
        "Each stage records the SHA-256 of what it was made from and of every file that it wrote; "
        "each file is checked before it is read."
    )
    ordered = sorted(stages.items(), key=lambda item: _rank(text(item[1], "stage")))
    body = table("Stages", "stage", columns, ordered, words=True)
    environment = next((mapping(s, "environment") for s in stages.values()), {})
    packages = ", ".join(
        f"{name} {version}" for name, version in mapping(environment, "packages").items() if version
    )
    machine = [text(environment, "cpu"), text(environment, "platform")]
    cores = number(environment, "cores")
    machine.insert(1, f"{cores:.0f} cores" if cores else "")
    made = [
        f"Made with edgedense {text(environment, 'edgedense')}",
        f"Python {text(environment, 'python')}, {packages}".rstrip(", "),
        "on " + ", ".join(word for word in machine if word),
    ]
    foot = tag("p", "; ".join(made) + ".", class_="quiet")
    return section("lineage", "Lineage", [tag("p", told), body, foot])


def _rank(kind: str) -> int:
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)


def _parents(stage: dict[str, Any], names: dict[str, str]) -> str:
    parents = mapping(stage, "parents").items()
    told = (f"{role}: {names.get(sha256, f'{sha256[:12]}…')}" for role, sha256 in parents)
    return ", ".join(told) or DASH


def _again(found: dict[str, Any], raw: Raw) -> Markup:
    lines = commands(found, raw)
    told = (
        "The commands that make this run again, from the options that its manifests hold; names on "
        "the first lines are yours to fill in, the hashes say which files were meant."
    )
    code = tag(
        "pre", tag("code", "\n".join(lines)), tabindex="0", aria_label="Commands", role="region"
    )
    return section("again", "How to reproduce it", [tag("p", told), code])


def _foot(found: dict[str, Any]) -> Markup:
    said = f"Written by edgedense report from the artifacts of run {text(found, 'run')}. "
    return tag("p", said, "The same facts lie beside it: report.json and report.md.")
