"""``edgedense deploy``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, count, emit, number, percent, size
from edgedense.environment import COMPRESS, require

if TYPE_CHECKING:
    from edgedense.pipeline import DeployOptions, DeployReport, Inputs, Planned
    from edgedense.prune.options import Method
    from edgedense.quantize.options import Effort, Float, Placement
    from edgedense.quantize.ranges import Calibrator


@click.command()
@params.model_argument
@params.calib_option
@params.evaluation_option
@click.option(
    "--target",
    "targets",
    metavar="NAME",
    shell_complete=params.complete_target,
    multiple=True,
    default=("cpu",),
    show_default=True,
    help="May be given several times; see: edgedense targets",
)
@params.run_option
@click.option("--macs", type=float, help="Prune first, to this share of the MACs.")
@params.parameters_option
@params.method_option
@params.align_option
@click.option("--precision", type=params.PRECISION, default="int8", show_default=True)
@params.placement_option
@params.effort_option
@params.calibrator_option
@params.io_option
@params.stem_option
@params.sensitivity_option
@params.images_option
@params.batch_option
@click.option(
    "--max-drop",
    default=1.0,
    show_default=True,
    metavar="PP",
    help="Gate: top-1 (or mean IoU) may fall by this many percentage points.",
)
@click.option(
    "--min-speedup", type=float, metavar="X", help="Gate: times faster than FP32 PyTorch."
)
@params.preprocess_option
@params.seed_option
@click.option("--dry-run", is_flag=True, help="Check the inputs and show the plan; do nothing.")
@params.json_option
def deploy(
    model: Path,
    calib: Path,
    evaluation: Path,
    output: Path,
    preprocess: str | None,
    macs: float | None,
    parameters: float | None,
    dry_run: bool,
    as_json: bool,
    **asked: Any,
) -> int:
    """Do all stages in one run; call again to resume.

    Prune (with --macs or --params), quantize, build, benchmark and validate. Stages whose inputs
    did not change are not repeated, so an interrupted run goes on where it stopped. Exit 1 when a
    gate fails; 3 when a target has to be built on another machine.

    \b
    Example:  edgedense deploy net.pth --calib train/ --eval test/ -o runs/first
                --preprocess cifar10 --target cpu --target rtx-ada
    """
    if macs is not None and parameters is not None:
        raise click.UsageError("Give --macs or --params, not both.")
    for module in COMPRESS:
        require(module, "deploy")
    from edgedense.pipeline import Inputs

    calibration, data = params.read_set(calib), params.read_set(evaluation)
    loaded = params.read_model(model)
    chosen = params.choose_preprocess(
        preprocess, loaded.preprocess, calibration, data, preset=loaded.preset
    )
    inputs = Inputs(loaded, calibration, data, chosen)
    options = _options(macs=macs, parameters=parameters, **asked)
    return execute(inputs, output, options, dry_run=dry_run, as_json=as_json)


def execute(
    inputs: Inputs, output: Path, options: DeployOptions, *, dry_run: bool, as_json: bool
) -> int:
    """Plan or run a deployment, show what came out, and give the exit code."""
    from edgedense.pipeline import deploy as run
    from edgedense.pipeline import plan
    from edgedense.report import read_run, write_reports

    terminal = Terminal()
    if dry_run:
        _show_plan(terminal, plan(inputs, output, options, terminal), output, as_json)
        return 0
    found = run(inputs, output, options, terminal)
    write_reports(read_run(output), output)
    if as_json:
        emit(found.to_dict())
    else:
        show(terminal, found)
    return found.exit_code


def _show_plan(terminal: Terminal, planned: list[Planned], output: Path, as_json: bool) -> None:
    from edgedense.doctor import examine

    machine = examine()
    able = {"engine": machine.builds, "benchmark": machine.runs, "validate": machine.runs}
    here = {line.stage: _here(line.stage, able) for line in planned}
    if as_json:
        told = [vars(line) | {"here": here[line.stage]} for line in planned]
        emit({"run": str(output), "plan": told})
    rows = [
        (p.stage, p.what, "reuse" if p.reused else "do" if here[p.stage] else "elsewhere")
        for p in planned
    ]
    terminal.table(f"plan for {output}", ("stage", "what", ""), rows)
    if not all(here.values()):
        terminal.say("elsewhere: not on this machine; see: edgedense doctor")


def _here(stage: str, able: dict[str, tuple[str, ...]]) -> bool:
    """Whether this machine can do a stage."""
    kind, _, target = stage.partition("-")
    return kind not in able or target in able[kind]


def show(terminal: Terminal, found: DeployReport) -> None:
    """Print the outcome: FP32 and each engine side by side, the verdict, where the evidence is."""
    targets = [n.removeprefix("engine-") for n in found.stages if n.startswith("engine-")]
    columns = [_fp32(found, targets), *(_engine(found, target) for target in targets)]
    head = ["", "FP32 PyTorch", *(f"{target} engine" for target in targets)]
    names = (
        "MACs an image",
        "weights",
        "engine file",
        found.answer[1],
        f"{found.answer[1]} drop",
        "same answer as FP32",
        "logit SQNR",
    )
    rows = zip((*names, "latency p50", "speed-up"), *columns, strict=True)
    terminal.table("", head, rows)
    for reason in found.reasons:
        terminal.say(f"  {reason}")
    terminal.say(f"verdict: {found.verdict.upper()} (judged on {', '.join(found.judged_on)})")
    for name, why in found.elsewhere.items():
        what, _, remedy = why.partition("\n")
        terminal.say(f"{name}: not on this machine. {what}")
        if remedy:
            terminal.say(f"  → {remedy}")
    if any(name.startswith("engine-") for name in found.elsewhere):
        terminal.say("or all of it as one file, for run-bundle there:")
        terminal.say(f"  edgedense pack {found.run} -o bundle.edz")
    terminal.say(f"evidence: {found.run}/report.html")


def _fp32(found: DeployReport, targets: list[str]) -> tuple[str, ...]:
    """The column of the network that was given."""
    ran = [target for target in targets if f"validate-{target}" in found.stages]
    model = found.stages["reference"]
    right = p50_ms = None
    if ran:
        right = found.stages[f"validate-{ran[0]}"]["reference"][found.answer[0]]
        p50_ms = found.stages[f"benchmark-{ran[0]}"]["against"]["p50_ms"]
    latency = f"{number(p50_ms)} ms"
    weights = size(4 * model["params"])
    return count(model["macs"]), weights, "", percent(right), "", "", "", latency, ""


def _engine(found: DeployReport, target: str) -> tuple[str, ...]:
    """The column of one engine; dashes where it does not run on this machine."""
    engine, stages = found.stages[f"engine-{target}"], found.stages
    macs = stages["prune"]["macs_after"] if "prune" in stages else stages["reference"]["macs"]
    fixed = (count(macs), size(engine["weights_bytes"]), size(engine["engine_bytes"]))
    judged, timed = stages.get(f"validate-{target}"), stages.get(f"benchmark-{target}")
    if not judged or not timed:
        return (*fixed, "needs its GPU", "-", "-", "-", "-", "-")
    sqnr, steady = judged["logit_sqnr_db"], timed["stable"] and timed["against"]["stable"]
    drop = "-" if judged["drop_pp"] is None else f"{judged['drop_pp']:.2f} pp"
    return (
        *fixed,
        percent(judged["engine"][found.answer[0]]),
        drop,
        percent(judged["agreement"]),
        "-" if sqnr is None else f"{sqnr:.1f} dB",
        f"{number(timed['p50_ms'])} ms",
        f"{timed['speedup']:.2f}x" + ("" if steady else " (unstable)"),
    )


def _options(
    targets: tuple[str, ...],
    macs: float | None,
    parameters: float | None,
    method: Method | None,
    align: int | None,
    precision: str,
    placement: Placement,
    effort: Effort,
    calibrator: Calibrator,
    io: Float,
    int8_stem: bool | None,
    sensitivity: bool,
    images: int,
    batch: tuple[int, int, int],
    max_drop: float,
    min_speedup: float | None,
    seed: int,
) -> DeployOptions:
    from edgedense.benchmark import BenchmarkOptions
    from edgedense.pipeline import DeployOptions
    from edgedense.prune import PruneOptions
    from edgedense.quantize import QuantizeOptions
    from edgedense.validate import ValidateOptions

    if macs is None and parameters is None and (method or align is not None):
        raise click.UsageError("--method and --align are for pruning: give --macs or --params too.")
    pruning = PruneOptions(
        macs=0.7 if macs is None else macs,
        params=parameters,
        method=method,
        align=8 if align is None else align,
        images=images,
        seed=seed,
    )
    return DeployOptions(
        targets=targets,
        precision=precision,
        batch=batch,
        prune=None if macs is None and parameters is None else pruning,
        quantize=QuantizeOptions(
            calibrator=calibrator,
            placement=placement,
            effort=effort,
            io=io,
            int8_stem=int8_stem,
            sensitivity=sensitivity,
            images=images,
            seed=seed,
        ),
        validate=ValidateOptions(max_drop_pp=max_drop, min_speedup=min_speedup),
        benchmark=BenchmarkOptions(batch=batch[0], seed=seed),
    )
