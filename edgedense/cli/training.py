"""What ``train`` and ``finetune`` have in common on the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, count, emit, number, percent
from edgedense.errors import InputError
from edgedense.progress import SILENT

if TYPE_CHECKING:
    from edgedense.data import ImageSet, Preprocess
    from edgedense.densenet.checkpoints import Model
    from edgedense.train import Plan, TrainOptions, TrainReport
    from edgedense.train.job import Job

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--batch", type=int, help="Images of one step, over all processes. The few that "
                 "do not fill the last one are left out, others each epoch.  [recipe]"),
    click.option("--optimizer", type=click.Choice(["sgd", "rmsprop"]),
                 help="[recipe: sgd, segmentation rmsprop]"),
    click.option("--lr", type=float, help="Learning rate of the first epoch.  [recipe]"),
    click.option("--schedule", type=click.Choice(["step", "cosine", "exponential"]),
                 help="[recipe: step, with rmsprop exponential]"),
    click.option("--momentum", type=float, help="Nesterov's with sgd.  [recipe: 0.9, rmsprop 0]"),
    click.option("--weight-decay", type=float, help="[default: 1e-4]"),
    click.option("--label-smoothing", type=float, help="[default: 0]"),
    click.option("--dropout", type=float, help="After each layer; the papers' is 0.2 for "
                 "segmentation, and without augmentation."),
    click.option(
        "--augment/--no-augment",
        default=True,
        show_default=True,
        help="Random crops and mirrored images. Not where a mirrored image means something else.",
    ),
    click.option("--eval", "evaluation", type=params.PATH, help="Images to judge each epoch by."),
    click.option(
        "--keep",
        type=click.Choice(["last", "best"]),
        help="Weights of the last epoch, or of the best on --eval by top-1 or mean IoU (its figure "
        "then flatters).  [default: last; best with --patience]",
    ),
    click.option(
        "--patience", type=int, help="Stop after so many epochs in a row without a gain on --eval."
    ),
    click.option("--memory-efficient", is_flag=True, help="Less memory, some more time."),
    click.option("--amp", is_flag=True, help="Mixed precision; on a GPU only."),
    click.option("--workers", type=int, default=0, show_default=True, help="Decoding processes."),
    click.option(
        "--sync-bn/--no-sync-bn",
        default=True,
        show_default=True,
        help="Under torchrun: BN sees the images of all processes.",
    ),
    click.option("--dry-run", is_flag=True, help="Print the plan and an estimate; train nothing."),
    params.preprocess_option,
    params.seed_option,
    params.json_option,
)  # fmt: skip


def training_options(command: F) -> F:
    """The options of both commands."""
    return reduce(lambda inner, option: option(inner), reversed(_OPTIONS), command)


def chosen(base: TrainOptions, augment: bool, **asked: Any) -> TrainOptions:
    """The recipe with what the user asked for; None leaves the recipe's value."""
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    if not augment:
        given["augmentation"] = "none"
    if "patience" in given:
        given.setdefault("keep", "best")
    return replace(base, **given)


def read_images(
    data: Path, evaluation: Path | None, asked: str | None, model: Model | None = None
) -> tuple[ImageSet, ImageSet | None, Preprocess]:
    """Training images, evaluation images and the one preprocessing of both, and of ``model``."""
    images = params.read_set(data)
    judges = None if evaluation is None else params.read_set(evaluation)
    sets = [images] if judges is None else [images, judges]
    recorded, preset = (model.preprocess, model.preset) if model else (None, None)
    return images, judges, params.choose_preprocess(asked, recorded, *sets, preset=preset)


def carry_out(job: Job, output: Path | None, dry_run: bool, as_json: bool) -> None:
    """Do the job, or only plan it, and tell what came out."""
    from edgedense.train import plan, run

    terminal = Terminal()
    if dry_run:
        _tell_plan(plan(job, terminal), terminal, as_json)
        return
    if output is None:
        raise InputError("no place for the result", "Give -o DIR, or --dry-run.")
    # what is no terminal gets one line an epoch
    steps = terminal if terminal.console.is_terminal else SILENT
    report = run(job, output, terminal, steps)
    if as_json:
        emit(report.to_dict())
    else:
        _tell(report, job.stage, terminal)
    if report.diverged:
        first, last = (number(epoch.loss, 4) for epoch in (report.epochs[0], report.epochs[-1]))
        terminal.say(
            f"warning: training diverged: the loss was {first} in epoch 1 and {last} in the last; "
            f"give a --lr below {job.options.lr:g}, and check --preprocess and the labels"
        )


def _tell(report: TrainReport, stage: Literal["train", "finetune"], terminal: Terminal) -> None:
    rows: list[tuple[str, object]] = [
        ("parameters", count(report.params)),
        ("MACs", count(report.macs)),
        ("training images", report.images),
        ("epochs", f"{len(report.epochs)}{', stopped early' if report.stopped_early else ''}"),
        ("loss of the last epoch", number(report.epochs[-1].loss, 4)),
    ]
    if report.evaluated:
        rows += _accuracy(report)
    rows.append(("weights kept", f"epoch {report.kept_epoch}"))
    terminal.table(f"{stage}: {report.epochs[-1].epoch} epochs", ("", ""), rows)
    if report.seen:
        terminal.say(
            f"{report.seen} of {report.evaluated} evaluation images are training images too: "
            "the accuracy flatters"
        )
    terminal.say(f"{report.artifact}: written in {report.seconds:.1f} s")
    terminal.say(f"next: edgedense quantize {report.artifact} -o DIR --calib SET")


def _accuracy(report: TrainReport) -> list[tuple[str, object]]:
    if report.last_miou is None:
        name, last, best = "top-1", report.last_top1, report.best_top1
    else:
        name, last, best = "mean IoU", report.last_miou, report.best_miou
    rows: list[tuple[str, object]] = [
        (f"{name}, last", percent(last)),
        (f"{name}, best", f"{percent(best)} in epoch {report.best_epoch}"),
    ]
    if report.last_miou is not None:
        rows.append(("pixel accuracy, last", percent(report.epochs[-1].pixel_accuracy)))
    return rows


def _tell_plan(plan: Plan, terminal: Terminal, as_json: bool) -> None:
    if as_json:
        emit(plan.to_dict())
        return
    rates = [f"{rate:g} from epoch {epoch}" for epoch, rate in plan.lr[:4]]
    rows = [
        ("parameters", count(plan.params)),
        ("MACs", count(plan.macs)),
        ("images", plan.images),
        ("left out", f"{plan.left_out} each epoch (others each time): no whole batch"),
        ("batch", f"{plan.batch} over {plan.processes} process(es)"),
        ("epochs", f"{plan.epochs} of {plan.steps_per_epoch} steps"),
        ("learning rate", ", ".join(rates) + (", …" if len(plan.lr) > 4 else "")),
        ("time", f"{_duration(plan.seconds)} ({plan.seconds_per_step:.3g} s a step, measured now)"),
    ]
    terminal.table("plan (nothing was trained)", ("", ""), rows)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"about {seconds / length:.1f} {unit}"
    return f"about {seconds:.0f} seconds"
