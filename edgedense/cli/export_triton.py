"""``edgedense export-triton``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, emit, size
from edgedense.errors import InputError

if TYPE_CHECKING:
    from edgedense.serving import TritonReport


@click.command("export-triton")
@params.engine_argument
@click.option(
    "-o",
    "--output",
    "repository",
    type=params.PATH,
    required=True,
    metavar="REPOSITORY",
    help="Model repository, created or added to; the model in it is written whole or not at all.",
)
@click.option("--name", help="Name of the model on the server.  [default: ENGINE's directory]")
@click.option("--max-batch", type=int, metavar="N", help="Largest batch.  [default: the engine's]")
@click.option(
    "--instances", default=1, show_default=True, metavar="N", help="Run at the same time, per GPU."
)
@click.option(
    "--max-queue-delay-us",
    type=int,
    metavar="US",
    help="How long a request may wait for others to fill a batch.  [default: not at all]",
)
@click.option(
    "--labels",
    type=params.PATH,
    metavar="FILE.txt|SET",
    help="Names of the classes: one a line, or those of an image set.",
)
@click.option("--dry-run", is_flag=True, help="Check all, show config.pbtxt; write nothing.")
@params.json_option
def export_triton(
    engine: Path,
    repository: Path,
    name: str | None,
    max_batch: int | None,
    instances: int,
    max_queue_delay_us: int | None,
    labels: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write an engine as a model that NVIDIA Triton serves.

    REPOSITORY/NAME gets config.pbtxt and the engine, whose hash was checked: model.plan for
    TensorRT, model.onnx for an engine for cpu. The model's parameters say how its input is to be
    preprocessed, which Triton does not do. Serve it with tritonserver --model-repository
    REPOSITORY.

    \b
    Example:  edgedense export-triton engine -o repository --name densenet121
    """
    from edgedense import artifact
    from edgedense.serving import TritonOptions
    from edgedense.serving import export_triton as run

    options = TritonOptions(
        name=engine.resolve().name if name is None else name,
        max_batch=max_batch,
        instances=instances,
        max_queue_delay_us=max_queue_delay_us,
        labels=() if labels is None else _labels(labels),
    )
    found = run(artifact.read(engine), repository, options, dry_run=dry_run)
    if as_json:
        emit(found.to_dict())
    else:
        _show(found)


def _labels(path: Path) -> tuple[str, ...]:
    if path.suffix.lower() != ".txt":
        names = params.read_set(path).class_names
        if not names:
            raise InputError(f"{path} does not name its classes", "Give a text file: one a line.")
        return names
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not readable text ({error})", "One name a line.") from error
    if not lines:
        raise InputError(f"{path} is empty", "Write one name a line.")
    return tuple(line.strip() for line in lines)


def _show(found: TritonReport) -> None:
    terminal = Terminal()
    for warning in found.warnings:
        terminal.say(f"warning: {warning}")
    if found.artifact is None:
        terminal.say(found.config.rstrip(), whole=True)
        terminal.say(f"dry run: nothing was written to {found.repository}")
        return
    batches = f"1 to {found.max_batch_size}"
    if found.preferred_batch_sizes:
        batches += f", preferred {' and '.join(map(str, found.preferred_batch_sizes))}"
    rows = [
        ("file", f"{found.file}, {size(found.engine_bytes)}"),
        ("backend", found.backend),
        ("batches", batches),
        ("instances", str(found.instances)),
    ]
    terminal.table(f"model {found.name} in {found.repository}", ("", ""), rows)
    terminal.say(f"next: tritonserver --model-repository {found.repository}")
