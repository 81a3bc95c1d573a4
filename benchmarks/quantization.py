"""Quantizers side by side: edgedense, ONNX Runtime, NVIDIA Model Optimizer and NNCF.

Same network, same calibration images, same evaluation images, same runtime and session settings;
what is not INT8 stays FP32 in every file. Every quantizer runs in a process of its own, so that its
peak memory is its own; "above imports" is that peak less what the process held before it began.
Seconds leave imports out; ours include reading the checkpoint, decoding the images and checking
the files, where the others get an ONNX file and preprocessed arrays. The CPU latencies (one image)
are interleaved over all files: the medians' ratio to the FP32 ONNX. SQNR is only comparable
between files with the same operators in INT8: a classifier in float has few multiply-accumulates
but can be worth most of a decibel.

    python benchmarks/quantization.py MODEL --calib SET --eval SET --preprocess cifar10 --work DIR
    python benchmarks/quantization.py --network densenet121 --images 64
    python benchmarks/quantization.py --record-lint tests/recorded/lint

The second line takes random weights and synthetic images, and has no accuracy; the third makes the
lint's test cases anew. With ``--work``, files and rows are kept there, and a second run goes on
where the first one ended (delete NAME.row.json there to have one anew). The other tools are looked
for in the interpreter ``--peer-python``, because they want their own versions of much; for one:
python -m venv peers && peers/bin/pip install 'nvidia-modelopt[onnx]' nncf onnxruntime
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np
from peers import DEFAULTS, PEERS, Memory
from quantization_cases import Case, Given, case_of, case_options, prepared, synthetic
from quantized_file import judged, latencies
from side_by_side import alone, check_same, slug, table

from edgedense.densenet.checkpoints import load_model
from edgedense.errors import EdgedenseError
from edgedense.quantize import QuantizeOptions, quantize
from edgedense.quantize.options import EFFORTS, PLACEMENTS

# a row each; a row that is kept in --work is made anew when its options change
OURS = {
    f"edgedense {placement}{'' if effort == 'default' else f', {effort}'}": QuantizeOptions(
        placement=placement, effort=effort, rest="fp32"
    )
    for placement in PLACEMENTS
    for effort in EFFORTS
}
TOOLS = (*OURS, *PEERS)
FP32 = "FP32 ONNX"
# pixels of a batch for the others: more made none faster
PIXELS = 8 * 32 * 32


def rows(given: Given, tools: Iterable[str], rounds: int) -> Iterator[dict[str, Any]]:
    """One row a tool; those with a file have ``path``."""
    found = [row_of(name, given) for name in (FP32, *tools)]
    paths = {row["tool"]: Path(row["path"]) for row in found if "failed" not in row}
    image = np.load(given.images, mmap_mode="r")[:1].copy()
    taken = latencies(paths, given.interface, image, rounds) if rounds else {}
    for row in found:
        milliseconds = taken.get(row["tool"])
        if milliseconds is not None:
            row |= {"cpu_ms": milliseconds, "cpu_ratio": milliseconds / taken[FP32]}
        yield row


def row_of(name: str, given: Given) -> dict[str, Any]:
    """The row of ``name``, out of the folder where an earlier run has left it there."""
    kept = given.folder / f"{slug(name)}.row.json"
    settings = repr(OURS.get(name, name))
    if kept.exists():
        row: dict[str, Any] = json.loads(kept.read_text())
        if row["settings"] == settings and Path(row["path"]).exists():
            return row
    click.echo(f"{name} …", err=True)
    row = {"tool": name, "settings": settings, "path": str(given.fp32)}
    if name != FP32:
        row |= quantized(name, given)
    if "failed" not in row:
        case = given.case
        try:
            row |= judged(
                Path(row["path"]), given.interface, given.reference, case.judged, case.preprocess
            )
        except EdgedenseError as error:
            row["failed"] = error.what
        if not case.trained:
            row = {key: value for key, value in row.items() if key not in ("top1", "agreement")}
    if "failed" not in row:
        kept.write_text(json.dumps(row))
    return row


def quantized(name: str, given: Given) -> dict[str, Any]:
    """Quantize in a fresh process: ``path``, seconds and peak memory, or why it failed."""
    out = given.folder / f"{slug(name)}.onnx"
    if name in OURS:
        return alone(_ours, OURS[name], given.case, out.with_suffix(""))
    # ONNX Runtime's quantizer comes with our extras, and so is of the version that runs the files
    of_ours = (PEERS | DEFAULTS)[name].package == "onnxruntime"
    height, width = given.case.preprocess.input_size
    batch = max(1, PIXELS // (height * width))
    result = out.with_suffix(".json")
    result.unlink(missing_ok=True)
    script = Path(__file__).with_name("peers.py")
    words = [script, name, given.fp32, given.interface.input_name, given.images, batch, out, result]
    run = subprocess.run(
        [sys.executable if of_ours else given.peer_python, *map(str, words)],
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if not result.exists():
        return {"failed": f"exit code {run.returncode}: {run.stderr.strip()[-200:]}"}
    return json.loads(result.read_text()) | {"path": str(out)}


def _ours(options: QuantizeOptions, case: Case, out: Path) -> dict[str, Any]:
    import onnxruntime  # noqa: F401
    import torch  # noqa: F401

    shutil.rmtree(out, ignore_errors=True)  # of a run that was interrupted
    memory = Memory()
    started = time.perf_counter()
    try:
        quantize(load_model(case.model), case.sample, case.preprocess, out, options)
    except EdgedenseError as error:
        return {"failed": error.what}
    seconds = time.perf_counter() - started
    return {"path": str(out / "int8.fp32.onnx"), "seconds": seconds, **memory.peak()}


COLUMNS = {
    "tool": "quantizer", "int8_convolutions": "INT8 convolutions",
    "in_float": "left in float", "int8_macs_percent": "INT8 MACs %",
    "sqnr_db": "logit SQNR dB", "top1": "top-1 %",
    "agreement": "same top-1 %", "seconds": "seconds", "peak_mb": "peak MB",
    "above_imports_mb": "above imports MB", "file_bytes": "file bytes",
    "built": "TensorRT-RTX builds it", "activation_bytes": "activation bytes",
    "cpu_ratio": "CPU time / FP32's", "lint_errors": "lint errors",
    "lint_warnings": "lint warnings",
}  # fmt: skip


def cells(row: dict[str, Any]) -> list[str]:
    shown = dict(row)
    if "failed" in row:
        shown["built"] = f"failed: {row['failed']}"
    if "version" in row:
        shown["tool"] = f"{row['tool']} ({row['version']})"
    if "int8_convolutions" in row:
        left = row["in_float"]
        shown["in_float"] = ", ".join(left) if len(left) < 3 else f"{len(left)} operators"
        shown["int8_convolutions"] = f"{row['int8_convolutions']} of {row['convolutions']}"
    return [shown_as(shown.get(key)) for key in COLUMNS]


def shown_as(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else " ".join(str(value).split())[:120]


@click.command()
@case_options
@click.option("--images", default=512, show_default=True, help="Calibration images.")
@click.option("--eval-images", default=5000, show_default=True)
@click.option("--rounds", default=60, show_default=True, help="Latency runs of each file; 0: none.")
@click.option("--peer-python", default=sys.executable, help="An interpreter with the other tools.")
@click.option("--only", multiple=True, type=click.Choice(TOOLS), help="May be given repeatedly.")
@click.option("--quick", is_flag=True, help="64 calibration and 256 evaluation images, 10 rounds.")
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), help="Keeps all files.")
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="All rows, into a file.")
@click.option("--markdown", is_flag=True, help="The table in Markdown.")
@click.option("--record-lint", type=click.Path(path_type=Path), help="Make the lint's test cases.")
def main(model: Path | None, calib: Path | None, evaluation: Path | None, preprocess: str | None,
         network: str | None, images: int, eval_images: int, rounds: int, peer_python: str,
         only: tuple[str, ...], quick: bool, work: Path | None, as_json: Path | None,
         markdown: bool, record_lint: Path | None) -> None:  # fmt: skip
    if quick:
        images, eval_images, rounds = min(images, 64), min(eval_images, 256), min(rounds, 10)
    with ExitStack() as stack:
        folder = work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        given = (model, calib, evaluation, preprocess, network, images, eval_images)
        asked = [str(x) for x in (*given, bool(record_lint))]
        check_same(folder / "run.json", asked)
        if record_lint:
            from lint_cases import record

            case = synthetic("densenet121", 16, folder)
            record(prepared(case, folder, peer_python), record_lint)
            return
        case = case_of(*given, folder)
        found = list(rows(prepared(case, folder, peer_python), only or TOOLS, rounds))
        if as_json:
            as_json.write_text(json.dumps(found, indent=1))
        click.echo(table([list(COLUMNS.values()), *map(cells, found)], markdown))


if __name__ == "__main__":
    main()
