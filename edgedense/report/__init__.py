"""A run's evidence: one JSON file, one Markdown page, one HTML page, and a model card.

``run`` reads, ``engines`` puts together what belongs to one engine, ``verdict`` says it in a
sentence, ``accuracy``, ``choices``, ``speed``, ``removed``, ``where`` and ``calibration`` are the
sections of ``page``; ``charts`` and ``cells`` on ``svg`` are its plots. ``html`` escapes
everything; without a template library, a device that has edgedense can write them all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgedense import artifact
from edgedense.errors import InputError
from edgedense.report.card import CARD_FILE, MADE_BY, model_card
from edgedense.report.markdown import markdown
from edgedense.report.page import page
from edgedense.report.run import REPORT_FORMAT, Raw, read_raw, read_run

__all__ = [
    "REPORT_FORMAT",
    "Raw",
    "markdown",
    "model_card",
    "page",
    "read_raw",
    "read_run",
    "schema",
    "write_card",
    "write_reports",
]


def schema() -> str:
    """The JSON Schema of ``report.json`` (draft 2020-12), as text."""
    return Path(__file__).with_name("schema").joinpath("report-1.json").read_text(encoding="utf-8")


def write_reports(
    found: dict[str, Any], run: Path, html: Path | None = None
) -> tuple[Path, Path, Path]:
    """Write ``RUN/report.json``, ``RUN/report.md`` and the page (``RUN/report.html``).

    Existing ones are replaced. Errors: InputError for a damaged record, or a place that cannot be.
    """
    json_path, text_path, page_path = (
        run / "report.json",
        run / "report.md",
        html or run / "report.html",
    )
    raw = read_raw(run, found["stages"])
    with artifact.disk_errors(page_path):
        page_path.parent.mkdir(parents=True, exist_ok=True)
        artifact.write_json(json_path, found)
        artifact.write_whole(text_path, markdown(found, raw).encode())
        artifact.write_whole(page_path, page(found, raw).encode())
    return json_path, text_path, page_path


def write_card(found: dict[str, Any], run: Path) -> Path:
    """Write the model card ``RUN/README.md``; an earlier one is replaced.

    Errors: InputError where somebody else wrote a README.md there.
    """
    path = run / CARD_FILE
    if path.exists() and MADE_BY not in path.read_bytes().decode(errors="replace"):
        raise InputError(f"{path} exists, and is no model card of ours", "Move it away first.")
    raw = read_raw(run, found["stages"])
    with artifact.disk_errors(path):
        artifact.write_whole(path, model_card(found, raw).encode())
    return path
