"""``edgedense build-engine``."""

from __future__ import annotations

from pathlib import Path

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, emit, size
from edgedense.environment import has_gpu, require


class Capabilities(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """Compute capabilities as ``86,89`` or ``8.6,8.9``."""

    name = "SM[,SM...]"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Numbers times ten; none of the empty text."""
        words = [word.strip().replace(".", "") for word in str(value).split(",")]
        if words == [""]:
            return ()
        if not all(word.isdecimal() for word in words):
            self.fail(f"{value!r} is no list of compute capabilities, such as 86,89", param, ctx)
        return tuple(map(int, words))


@click.command("build-engine")
@params.model_argument
@params.output_option()
@click.option(
    "--target",
    metavar="NAME",
    default="cpu",
    show_default=True,
    shell_complete=params.complete_target,
    help="See: edgedense targets",
)
@click.option(
    "--precision",
    type=click.Choice(["int8", "fp16", "fp32"]),
    default="int8",
    show_default=True,
    help="int8 keeps what is not quantized in --rest.",
)
@click.option(
    "--rest",
    type=click.Choice(["fp16", "fp32"]),
    help="Type beside INT8 (default: fp16 on a GPU, fp32 on the CPU).",
)
@params.batch_option
@click.option("--workspace", type=int, metavar="MIB", help="Memory limit while building.")
@click.option("--timing-cache", type=params.PATH, help="File to read and extend (TensorRT).")
@click.option(
    "--optimization-level", default=3, show_default=True, help="0 (fast build) to 5 (TensorRT)."
)
@click.option(
    "--sm", "sms", type=Capabilities(), default="", help="GPUs of one RTX engine, such as 86,89."
)
@params.json_option
def build_engine(
    model: Path,
    output: Path,
    target: str,
    precision: str,
    rest: str | None,
    batch: tuple[int, int, int],
    workspace: int | None,
    timing_cache: Path | None,
    optimization_level: int,
    sms: tuple[int, ...],
    as_json: bool,
) -> None:
    """Build an engine for a target from what quantize wrote.

    \b
    Example:  edgedense build-engine int8 -o engine --target rtx-ada --batch 1:1:8
    """
    from edgedense import artifact
    from edgedense.build import BuildOptions
    from edgedense.build import build_engine as run
    from edgedense.targets import ONNXRUNTIME

    options = BuildOptions(
        target=target,
        precision=precision,
        batch=batch,
        workspace_mib=workspace,
        timing_cache=timing_cache,
        optimization_level=optimization_level,
        rest=rest,
        sms=sms,
    )
    if options.check().backend == ONNXRUNTIME:
        require("onnxruntime", "an engine for cpu")
    artifact.check_absent(output)
    terminal = Terminal()
    found = run(artifact.read(model), output, options, terminal)
    if as_json:
        emit(found.to_dict())
        return
    for warning in found.warnings:
        terminal.say(f"warning: {warning}")
    rows = [
        ("engine", size(found.engine_bytes)),
        ("weights", size(found.weights_bytes)),
        (f"activations, batch {batch[2]}", size(found.activation_bytes)),
        ("built by", f"{found.backend} {found.runtime_version} in {found.seconds:.1f} s"),
    ]
    if found.golden_sqnr_db is not None:
        rows.append(("logits against FP32", f"{found.golden_sqnr_db:.1f} dB on the golden images"))
    terminal.table(f"{precision} engine for {target}", ("", ""), rows)
    if found.trtexec:
        terminal.say(f"the same without edgedense: {found.trtexec}")
    where = "" if found.backend == ONNXRUNTIME or has_gpu() else ", on the machine with that GPU"
    terminal.say(f"next{where}: edgedense validate {output} --data SET")
