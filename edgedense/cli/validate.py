"""``edgedense validate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedense.cli import params
from edgedense.cli.gate import Asked, prove, read_set
from edgedense.cli.terminal import Terminal, emit, number, percent
from edgedense.errors import EdgedenseError

if TYPE_CHECKING:
    from edgedense.artifact import Artifact
    from edgedense.data import ImageSet
    from edgedense.validate import ValidateReport


_WORST = 3


@click.command()
@params.engine_argument
@click.option(
    "--data", type=params.PATH, required=True, help="Evaluation images with labels or masks."
)
@params.reference_option
@click.option(
    "--max-drop",
    default=1.0,
    show_default=True,
    metavar="PP",
    help="Gate: top-1 (segmentation: mean IoU) may fall by this many percentage points.",
)
@click.option(
    "--min-speedup",
    type=float,
    metavar="X",
    help="Gate: times faster than FP32 PyTorch, measured interleaved now.",
)
@click.option("--baseline", type=params.PATH, metavar="FILE", help="Gate: no worse than before.")
@click.option("--write-baseline", type=params.PATH, metavar="FILE", help="Remember what passed.")
@click.option(
    "--max-regression",
    default=0.0,
    show_default=True,
    metavar="PP",
    help="How far top-1 may be proven to fall behind the baseline.",
)
@click.option(
    "--max-slowdown",
    default=10.0,
    show_default=True,
    metavar="PERCENT",
    help="How far the median latency may be proven to exceed the baseline's.",
)
@click.option(
    "--latency/--no-latency",
    default=True,
    show_default=True,
    help="Whether baselines hold latency, too: not on machines that others use.",
)
@click.option(
    "--force", is_flag=True, help="Compare with a baseline of another device, set or network."
)
@click.option(
    "--ignore-class",
    type=click.IntRange(0, 255),
    multiple=True,
    metavar="N",
    help="A mask value that is void too (255 always is); may be given several times.",
)
@click.option(
    "--summary",
    type=params.PATH,
    metavar="FILE",
    help="Append the result as Markdown, for CI: $GITHUB_STEP_SUMMARY.",
)
@params.output_option(required=False)
@params.json_option
def validate(
    engine: Path,
    data: Path,
    output: Path | None,
    summary: Path | None,
    as_json: bool,
    **asked: Any,
) -> int:
    """Judge an engine against FP32 on the same images.

    Exit 0 when every gate is proved to hold, 1 when one fails or the images cannot decide.

    \b
    Example:  edgedense validate engine --data test/ --max-drop 0.5
    """
    from edgedense import artifact

    if output is not None:
        artifact.check_absent(output)
    terminal = Terminal()
    wanted = Asked(**asked)
    try:
        source, images = artifact.read(engine), read_set(data, wanted)
        found = prove(source, images, wanted, terminal)
    except EdgedenseError as error:
        if summary is not None:
            _append(summary, engine, {"error": error.what, "remedy": error.remedy})
        raise
    if output is not None:
        _write(output, found, source, images, wanted)
    if summary is not None:
        _append(summary, engine, found.to_dict())
    if as_json:
        emit(found.to_dict())
    else:
        show(terminal, str(engine), found.to_dict())
    return found.exit_code


def show(terminal: Terminal, name: str, found: dict[str, Any]) -> None:
    """Print accuracy, agreement and the verdict."""
    dense = found["task"] == "segmentation"
    rows = _segmentation(found) if dense else _classification(found)
    terminal.table(f"{name} on {found['samples']} images", ("", "FP32", "engine"), rows)
    if found["drop_pp"] is not None:
        low, high = found["drop_ci95"]
        what = "mIoU drop" if dense else "drop"
        terminal.say(f"{what} {found['drop_pp']:.2f} pp (95 % {low:.2f} to {high:.2f})")
    what = "pixels of the same class" if dense else "same top-1"
    sqnr = found["logit_sqnr_db"]
    noise = "" if sqnr is None else f"   logit SQNR: {number(sqnr, 1)} dB"
    terminal.say(f"{what} as FP32: {percent(found['agreement'])}{noise}")
    if changed := _changed(found):
        terminal.say(changed)
    for reason in (*found["reasons"], *found["notes"]):
        terminal.say(f"  {reason}")
    terminal.say(f"verdict: {found['verdict'].upper()}")


def _changed(found: dict[str, Any]) -> str | None:
    """Answers that flipped each way, and the image on which the engine is surest and wrong."""
    flips = found.get("flips")
    if not flips or not flips["changed"]:
        return None
    said = f"other answers: {flips['changed']}, {flips['lost']} lost, {flips['gained']} gained"
    surest = flips["examples"]["lost"][:1]
    if surest and surest[0]["confidence"] is not None:
        one = surest[0]
        said += f"; the surest loss: {one['image']} ({one['label']}, now {one['engine']})"
    return said


def _classification(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    reference, engine = found["reference"] or {}, found["engine"]
    return [
        ("top-1", percent(reference.get("top1")), percent(engine["top1"])),
        ("top-5", percent(reference.get("top5")), percent(engine["top5"])),
        *_calibration(found),
    ]


def _calibration(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    error = found["calibration"]
    if error is None:
        return []
    before = error["reference"]["ece_pp"] if error["reference"] else None
    return [("calibration error", percent(before), percent(error["engine"]["ece_pp"]))]


def _segmentation(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Mean IoU, pixel accuracy, and IoU of the classes that lost most (else: that are worst)."""
    reference, engine = found["reference"] or {}, found["engine"]
    before = reference.get("iou", {})
    present = {name: share for name, share in engine["iou"].items() if share is not None}
    worst = sorted(present, key=lambda c: (present[c] - (before.get(c) or 0.0), present[c]))
    return [
        ("mIoU", percent(reference.get("miou")), percent(engine["miou"])),
        (
            "pixel accuracy",
            percent(reference.get("pixel_accuracy")),
            percent(engine["pixel_accuracy"]),
        ),
        *(
            (f"IoU {name}", percent(before.get(name)), percent(present[name]))
            for name in worst[:_WORST]
        ),
    ]


def _write(
    output: Path,
    found: ValidateReport,
    source: Artifact,
    images: ImageSet,
    asked: Asked,
) -> None:
    from dataclasses import asdict

    from edgedense.artifact import sha256_file, sha256_of
    from edgedense.data import set_sha256
    from edgedense.validate import write_report

    parents = {"engine": source.sha256, "data": set_sha256(images)}
    if asked.reference is not None:
        parents["reference"] = sha256_of(asked.reference)
    options = {**asdict(found.gates), "ignore_class": list(asked.ignore_class)}
    if asked.baseline is not None:
        parents["baseline"] = sha256_file(asked.baseline)
        options |= {
            "baseline": asked.baseline.name,
            "max_regression_pp": asked.max_regression,
            "max_slowdown_percent": asked.max_slowdown,
            "latency": asked.latency,
            "force": asked.force,
        }
    write_report(
        output, found, parents=parents, options=options, preprocess=source.manifest.preprocess
    )


def _append(path: Path, engine: Path, found: dict[str, Any]) -> None:
    from edgedense.artifact import disk_errors
    from edgedense.distributed import world
    from edgedense.validate import markdown

    if not world().first:
        return
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(markdown(str(engine), found))
