"""``edgedense validate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedense.cli import params
from edgedense.cli.engines import fp32_of, opened, reference_of
from edgedense.cli.terminal import Terminal, emit, number, percent
from edgedense.distributed import joined, world
from edgedense.errors import InputError

if TYPE_CHECKING:
    from edgedense.artifact import Artifact
    from edgedense.benchmark import ComparisonReport
    from edgedense.data import ImageSet
    from edgedense.engines.runner import Runner
    from edgedense.validate import Baseline, ValidateReport


_WORST = 3


@dataclass(frozen=True)
class _Asked:
    """What the command line asks for."""

    reference: Path | None
    max_drop: float
    min_speedup: float | None
    baseline: Path | None
    write_baseline: Path | None
    ignore_class: tuple[int, ...]
    force: bool


@click.command()
@params.engine_argument
@click.option(
    "--data", type=params.PATH, required=True, help="Evaluation images with labels or masks."
)
@click.option(
    "--reference",
    type=params.PATH,
    metavar="MODEL",
    help="FP32 network to judge against (default: the logits that travel along).",
)
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
@click.option("--write-baseline", type=params.PATH, metavar="FILE", help="Remember the result.")
@click.option("--force", is_flag=True, help="Compare with a baseline of another device or set.")
@click.option(
    "--ignore-class",
    type=click.IntRange(0, 255),
    multiple=True,
    metavar="N",
    help="A mask value that is void too (255 always is); may be given several times.",
)
@params.output_option(required=False)
@params.json_option
def validate(engine: Path, data: Path, output: Path | None, as_json: bool, **asked: Any) -> int:
    """Judge an engine against FP32 on the same images.

    Exit 0 when every gate is proved to hold, 1 when one fails or the images cannot decide.

    \b
    Example:  edgedense validate engine --data test/ --max-drop 0.5
    """
    from edgedense import artifact

    if output is not None:
        artifact.check_absent(output)
    terminal = Terminal()
    wanted = _Asked(**asked)
    source, images = artifact.read(engine), _read_set(data, wanted)
    found = _validate(source, images, wanted, terminal)
    if output is not None:
        _write(output, found, source, images, wanted)
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
    for reason in found["reasons"]:
        terminal.say(f"  {reason}")
    terminal.say(f"verdict: {found['verdict'].upper()}")


def _classification(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    reference, engine = found["reference"] or {}, found["engine"]
    return [
        ("top-1", percent(reference.get("top1")), percent(engine["top1"])),
        ("top-5", percent(reference.get("top5")), percent(engine["top5"])),
    ]


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


def _read_set(data: Path, asked: _Asked) -> ImageSet:
    from edgedense.validate import no_baseline

    images = params.read_set(data)
    if images.has_masks and (asked.baseline or asked.write_baseline):
        raise no_baseline()
    if asked.ignore_class and not images.has_masks:
        raise InputError(
            f"--ignore-class is for masks, and {images.source} has none", "Leave it away."
        )
    return images.ignoring(asked.ignore_class) if asked.ignore_class else images


def _validate(
    source: Artifact, images: ImageSet, asked: _Asked, terminal: Terminal
) -> ValidateReport:
    from edgedense import validate as stage
    from edgedense.artifact import calibration_content
    from edgedense.engines.reference import require_labels

    require_labels(images)
    remembered = stage.read_baseline(asked.baseline) if asked.baseline else None
    # other processes only share the images: they would disturb the timing
    gate = asked.min_speedup if world().first else None
    with opened(source) as runner, joined():
        timed = _timed(runner, source, asked, terminal) if world().first else None
        found = stage.validate(
            runner,
            images,
            params.choose_preprocess(None, source.manifest.preprocess, images),
            reference_of(source, asked.reference),
            stage.ValidateOptions(max_drop_pp=asked.max_drop, min_speedup=gate),
            calibration=calibration_content(source),
            speedup=timed.speedup if timed else None,
            progress=terminal,
        )
    if remembered is not None:
        current = _baseline(found, source, timed)
        found = found.judged_also(stage.compare_baseline(current, remembered, force=asked.force))
    if asked.write_baseline is not None:
        if found.verdict == "pass":
            stage.write_baseline(asked.write_baseline, _baseline(found, source, timed))
            terminal.say(f"baseline: {asked.write_baseline}")
        else:
            terminal.say(f"no baseline written: the verdict is {found.verdict}")
    return found


def _timed(
    runner: Runner, source: Artifact, asked: _Asked, terminal: Terminal
) -> ComparisonReport | None:
    from edgedense.benchmark import BenchmarkOptions, compare

    if asked.min_speedup is None:
        return None
    if asked.reference is None:
        raise InputError(
            "--min-speedup measures against FP32 PyTorch, which needs the network",
            "Give it with --reference MODEL.",
        )
    least = runner.interface.batch[0] if runner.interface.batch else 1
    options = BenchmarkOptions(batch=least)
    return compare(runner, fp32_of(asked.reference, source), options, progress=terminal)


def _baseline(found: ValidateReport, source: Artifact, timed: ComparisonReport | None) -> Baseline:
    from edgedense.benchmark import describe_device
    from edgedense.validate import baseline_of

    engine = Path(source.fact("report", "engine")).name
    return baseline_of(
        found,
        device=describe_device()["name"],
        target=source.fact("report", "target"),
        engine_sha256=source.manifest.files[engine].sha256,
        batch=timed.engine.batch if timed else None,
        p50_ms=timed.engine.p50_ms if timed else None,
    )


def _write(
    output: Path,
    found: ValidateReport,
    source: Artifact,
    images: ImageSet,
    asked: _Asked,
) -> None:
    from dataclasses import asdict

    from edgedense.artifact import sha256_of
    from edgedense.data import set_sha256
    from edgedense.validate import write_report

    parents = {"engine": source.sha256, "data": set_sha256(images)}
    if asked.reference is not None:
        parents["reference"] = sha256_of(asked.reference)
    write_report(
        output,
        found,
        parents=parents,
        options={**asdict(found.gates), "ignore_class": list(asked.ignore_class)},
        preprocess=source.manifest.preprocess,
    )
