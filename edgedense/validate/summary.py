"""A validation as Markdown, for the summary of a CI job or a comment on a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MARKUP = frozenset("\\`*_[]<>|#&~@")
_MARK = {"pass": "✅", "fail": "❌", "inconclusive": "❔"}


def markdown(name: str, found: Mapping[str, Any]) -> str:
    """Verdict, numbers and reasons of what :meth:`ValidateReport.to_dict` gave, or of an error.

    ``name`` is what the engine is called there.
    """
    if "error" in found:
        said = [f"**{_text(found['error'])}**", _text(found.get("remedy") or "")]
        return (
            "\n\n".join([f"### ⛔ edgedense: {_text(name)} was not judged", *filter(None, said)])
            + "\n"
        )
    verdict = found["verdict"]
    parts = [
        f"### {_MARK[verdict]} edgedense: {_text(name)}: {verdict}",
        _table(("", "FP32", "engine"), _accuracy(found)),
        "\n".join(f"- {_text(reason)}" for reason in (*found["reasons"], *found["notes"])),
        _classes(found),
        _flips(found),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _accuracy(found: Mapping[str, Any]) -> list[Sequence[str]]:
    before, now = found["reference"] or {}, found["engine"]
    answers = "top1" if found["task"] == "classification" else "miou"
    rows: list[Sequence[str]] = [
        ("images", "", f"{found['samples']:,}"),
        (
            "top-1" if answers == "top1" else "mIoU",
            _percent(before.get(answers)),
            _percent(now[answers]),
        ),
    ]
    if found["drop_pp"] is not None:
        low, high = found["drop_ci95"]
        rows.append(("drop (95 %)", "", f"{found['drop_pp']:.2f} pp ({low:.2f} to {high:.2f})"))
    rows.append(("same answer as FP32", "", _percent(found["agreement"])))
    if found["logit_sqnr_db"] is not None:
        rows.append(("logit SQNR", "", f"{found['logit_sqnr_db']:.1f} dB"))
    if error := found.get("calibration"):
        was = error["reference"]["ece_pp"] if error["reference"] else None
        rows.append(("calibration error", _points(was), _points(error["engine"]["ece_pp"])))
    if "speedup" in found:
        low, high = found["speedup_ci95"]
        rows.append(("speed-up (95 %)", "", f"{found['speedup']:.2f}x ({low:.2f} to {high:.2f})"))
    return rows


def _classes(found: Mapping[str, Any]) -> str:
    worst = (found.get("classes") or {}).get("worst") or []
    if not worst or found["task"] != "classification":
        return ""
    rows = [
        (
            _text(row["class"]),
            f"{row['images']}",
            _percent(row["reference_top1"]),
            _percent(row["engine_top1"]),
            f"{row['p_holm']:.3f}",
        )
        for row in worst
    ]
    return _table(("class that lost", "images", "FP32", "engine", "p (Holm)"), rows)


def _flips(found: Mapping[str, Any]) -> str:
    examples = ((found.get("flips") or {}).get("examples") or {}).get("lost") or []
    if not examples:
        return ""
    rows = [
        (
            _text(row["image"]),
            _text(row["label"]),
            _text(row["engine"]),
            _percent(row["confidence"]),
        )
        for row in examples
    ]
    return _table(("lost, the surest first", "label", "engine says", "probability"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _text(value: object) -> str:
    """Names of files and classes are others' words: they must not become markup."""
    said = " ".join(str(value).split())
    return "".join(f"&#{ord(sign)};" if sign in _MARKUP else sign for sign in said)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2f} %"


def _points(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} pp"
