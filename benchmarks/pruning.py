"""Pruners side by side: edgedense and torch-pruning, at the same share of the MACs.

Same network, same calibration images, same evaluation images, one process a row. Each row tells
what pruning alone gives, what re-estimating the BN statistics on the calibration images makes of
it, and what a fixed small number of fine-tuning steps makes of that: the papers' recipe, labels
only, batches of 64 training images, the same rate and the same draws for all. BN
statistics are re-estimated in two ways: the plain averages of the calibration batches (adaptive
BN), and their move from the original's, which is edgedense's and torch-pruning does not have.
Fine-tuned is, of the three, the one with the least cross-entropy on the calibration images;
`reconstruct`, whose layers were solved again, as it is. Seconds of CPU time and peak memory are of
pruning alone; ours include decoding the images and writing the artifact.

    python benchmarks/pruning.py MODEL --calib SET --eval SET --preprocess cifar10 --work DIR
    python benchmarks/pruning.py MODEL … --work DIR --shares 0.57 --finetune-steps 100
    python benchmarks/pruning.py MODEL … --choose

The second line goes on from the first one's rows in DIR, which are kept (delete NAME.row.json there
to have one anew). The third shows what the settings of pruning_peers.py were chosen by: held-out
training images.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from peers import Memory
from side_by_side import alone, check_same, slug, table

from edgedense.data import load_preprocess, load_set
from edgedense.prune import PruneOptions

# a row each and share; a row that is kept in --work is made anew when its options change
OURS = {
    "edgedense reconstruct": PruneOptions(method="reconstruct"),
    "edgedense magnitude": PruneOptions(method="magnitude"),
}
PEER_NAMES = tuple(
    f"torch-pruning {name}"
    for name in ("magnitude", "group norm", "BN scale", "Taylor", "FPGM", "LAMP")
)
TOOLS = (*OURS, *PEER_NAMES)
# of a pruned network: BN statistics left, averaged over the calibration batches, or moved
STATES = ("as it is", "BN averaged", "BN moved")
SHARES = (0.7, 0.57, 0.45)
TRIED_STEPS = 50  # in place of torch-pruning's 400: settings are compared, not shown


@dataclass(frozen=True)
class Given:
    """What all rows share: the case (of pruned_network.py) and the folder of the rows."""

    case: Any
    folder: Path

    def path(self, tool: str, share: float) -> Path:
        return self.folder / slug(f"{tool} {share:g}")


def rows(
    given: Given, tools: Sequence[str], shares: Sequence[float], steps: int, lr: float
) -> Iterator[dict[str, Any]]:
    """One row a share and tool, each share's after each other."""
    for share in shares:
        for tool in tools:
            settings = settings_of(tool, share)
            row = kept(given, tool, share, "row", settings, _prune_row)
            if steps and "failed" not in row:
                kind = f"tuned-{steps}-{lr:g}"
                row |= kept(given, tool, share, kind, settings, _tune_row, steps, lr)
            yield row


def kept(
    given: Given, tool: str, share: float, kind: str, settings: str, make: Any, *more: Any
) -> dict[str, Any]:
    """What ``make`` gives in a fresh process, or what an earlier run has left."""
    path = given.path(tool, share)
    file = path.with_name(f"{path.name}.{kind}.json")
    if file.exists():
        row: dict[str, Any] = json.loads(file.read_text())
        if row["settings"] == settings:
            return row
    if kind == "row":  # what was fine-tuned is of the network that is made anew
        for tuned in path.parent.glob(f"{path.name}.tuned-*.json"):
            tuned.unlink()
    click.echo(f"{tool} {share:g}, {kind} …", err=True)
    row = {"settings": settings, **alone(make, given, tool, share, *more)}
    if "failed" not in row:
        file.write_text(json.dumps(row))
    return row


def settings_of(tool: str, share: float) -> str:
    """What a row depends on, beside the images."""
    if tool in OURS:
        return repr(replace(OURS[tool], macs=share))
    from pruning_peers import BEST

    return str(BEST[tool])


def base_answers(given: Given) -> None:
    """The original network's right answers, into the folder."""
    from pruned_network import answers

    from edgedense.densenet.checkpoints import load_model

    file = given.folder / "base.npy"
    if not file.exists():
        network = load_model(given.case.model).network
        np.save(file, answers(network, given.case.judged, given.case.preprocess).right)


def _prune_row(given: Given, tool: str, share: float) -> dict[str, Any]:
    from pruned_network import against, answers, averaged, save, worth

    from edgedense.densenet.checkpoints import load_model
    from edgedense.errors import EdgedenseError

    case = given.case
    whole = load_model(case.model).network
    make = _by_ours if tool in OURS else _by_peer
    try:
        network, moved, cost = make(given, tool, share)
    except (EdgedenseError, RuntimeError) as error:
        return {"tool": tool, "asked": share, "failed": str(error)}
    base = np.load(given.folder / "base.npy")
    row = {"tool": tool, "asked": share, **cost}
    row |= worth(network, whole, case.preprocess.input_size)
    states = {STATES[0]: network, STATES[1]: averaged(network, case)}
    if moved is not None:
        states[STATES[2]] = moved
    losses = {}
    for name, state in states.items():
        losses[name] = answers(state, case.sample, case.preprocess).loss
        right = answers(state, case.judged, case.preprocess).right
        row[name] = {"calibration_loss": losses[name], **against(base, right)}
    solved = tool in OURS and OURS[tool].method == "reconstruct"
    row["best"] = STATES[0] if solved else min(losses, key=losses.__getitem__)
    save(states[row["best"]], given.path(tool, share))
    return row


def _by_ours(given: Given, tool: str, share: float) -> tuple[Any, Any, dict[str, Any]]:
    """The pruned network, the one with BN statistics moved (None where that makes no sense)."""
    from edgedense.densenet.checkpoints import load_model
    from edgedense.prune import prune

    case, options = given.case, replace(OURS[tool], macs=share)
    model = load_model(case.model)
    with tempfile.TemporaryDirectory() as folder:

        def pruned(options: PruneOptions) -> Any:
            out = Path(folder) / "pruned"
            shutil.rmtree(out, ignore_errors=True)
            prune(model, case.sample, case.preprocess, out, options)
            return load_model(out).network

        memory, started = Memory(), time.process_time()
        network = pruned(replace(options, reestimate_bn=False))
        cost = {"cpu_seconds": time.process_time() - started, **memory.peak()}
        return network, pruned(options) if options.moves_bn else None, cost


def _by_peer(given: Given, tool: str, share: float) -> tuple[Any, Any, dict[str, Any]]:
    from copy import deepcopy

    from pruning_peers import BEST, PEERS, prune_by_peer

    from edgedense.densenet.checkpoints import load_model
    from edgedense.prune.batchnorm import reestimate_bn

    case = given.case
    network = load_model(case.model).network
    size = case.preprocess.input_size
    memory, started = Memory(), time.process_time()
    found = prune_by_peer(network, PEERS[tool], BEST[tool], share, size, case.calibration)
    cost = {"cpu_seconds": time.process_time() - started, **memory.peak()}
    moved = deepcopy(found.network)
    reestimate_bn(moved, network, found.groups, found.kept, case.calibration())
    return found.network, moved, cost


def _tune_row(given: Given, tool: str, share: float, steps: int, lr: float) -> dict[str, Any]:
    from pruned_network import against, answers, finetuned, read

    network, seconds = finetuned(read(given.path(tool, share)), given.case, steps, lr)
    right = answers(network, given.case.judged, given.case.preprocess).right
    tuned = against(np.load(given.folder / "base.npy"), right)
    return {"tuned": tuned, "tuned_steps": steps, "tuned_lr": lr, "tuned_cpu_seconds": seconds}


def _try_setting(given: Given, tool: str, setting: Any, share: float) -> dict[str, Any]:
    """A setting of torch-pruning, judged by training images that nothing else has seen."""
    from pruned_network import answers, averaged
    from pruning_peers import PEERS, prune_by_peer

    from edgedense.densenet.checkpoints import load_model

    case = given.case
    network = load_model(case.model).network
    size = case.preprocess.input_size
    try:
        found = prune_by_peer(
            network, PEERS[tool], setting, share, size, case.calibration, TRIED_STEPS
        )
    except RuntimeError as error:
        return {"failed": str(error)}
    seen = {item.name for item in case.sample.items}
    others = [item for item in case.training.items if item.name not in seen]
    held_out = replace(case.training, items=tuple(others)).sample(500, 1)
    states = {"top1": found.network, "top1_bn": averaged(found.network, case)}
    judged = {name: answers(state, held_out, case.preprocess) for name, state in states.items()}
    return {name: 100 * float(found.right.mean()) for name, found in judged.items()} | {
        f"loss{name[4:]}": found.loss for name, found in judged.items()
    }


def choose(given: Given, tools: Sequence[str], share: float) -> Iterator[list[str]]:
    """All settings of torch-pruning that are worth a try, as rows of cells."""
    from pruning_peers import PEERS

    yield ["pruner", "settings", "top-1 %", "with BN averaged", "cross-entropy", "with BN averaged"]
    for tool in tools:
        for setting in PEERS[tool].tried if tool in PEERS else ():
            row = alone(_try_setting, given, tool, setting, share)
            found = [f"{row[key]:.2f}" for key in TRIAL if key in row]
            line = [tool, str(setting), *(found or [row["failed"], "", "", ""])]
            click.echo("  ".join(line), err=True)
            yield line


TRIAL = ("top1", "top1_bn", "loss", "loss_bn")
COLUMNS = (
    *("pruner", "MACs", "parameters", "top-1 %, drop pp (95 %)", "BN averaged", "BN moved"),
    *("fine-tuned", "from", "CPU seconds", "peak MB", "settings"),
)


def cells(row: dict[str, Any]) -> list[str]:
    if "failed" in row:
        return [row["tool"], f"{row['asked']:g}", *[""] * 8, f"failed: {row['failed']}"]
    shown = [row["tool"], f"{row['macs_share']:.3f}", f"{row['params_share']:.3f}"]
    shown += [accuracy(row.get(state)) for state in (*STATES, "tuned")]
    shown += [row["best"] if "tuned" in row else ""]
    shown += [f"{row['cpu_seconds']:.0f}", f"{row['peak_mb']:.0f}"]
    return [*shown, "" if row["tool"] in OURS else row["settings"]]


def accuracy(part: dict[str, Any] | None) -> str:
    if part is None:
        return ""
    low, high = part["drop_ci95"]
    return f"{part['top1']:.2f}, {part['drop_pp']:.2f} ({low:.2f} to {high:.2f})"


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--calib", type=click.Path(path_type=Path), required=True, help="Trains too.")
@click.option("--eval", "evaluation", type=click.Path(path_type=Path), required=True)
@click.option("--preprocess", required=True)
@click.option("--images", default=512, show_default=True, help="Calibration images.")
@click.option("--eval-images", default=5000, show_default=True)
@click.option("--shares", multiple=True, type=float, help=f"Of the MACs.  [default: {SHARES}]")
@click.option("--finetune-steps", default=0, show_default=True, help="Of 64 images; 0: none.")
@click.option("--finetune-lr", default=0.01, show_default=True, help="A tenth of the papers'.")
@click.option("--only", multiple=True, type=click.Choice(TOOLS), help="May be given repeatedly.")
@click.option("--quick", is_flag=True, help="64 calibration, 256 evaluation images; one share.")
@click.option("--choose", "choosing", is_flag=True, help="Try the settings of torch-pruning.")
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), help="Keeps the rows.")
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="All rows, into a file.")
@click.option("--markdown", is_flag=True, help="The table in Markdown.")
def main(model: Path, calib: Path, evaluation: Path, preprocess: str, images: int,
         eval_images: int, shares: tuple[float, ...], finetune_steps: int, finetune_lr: float,
         only: tuple[str, ...], quick: bool, choosing: bool, work: Path | None,
         as_json: Path | None, markdown: bool) -> None:  # fmt: skip
    shares = shares or SHARES
    if quick:
        images, eval_images, shares = min(images, 64), min(eval_images, 256), shares[:1]
    from pruned_network import Case

    with ExitStack() as stack:
        folder = work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        asked = [str(x) for x in (model, calib, evaluation, preprocess, images, eval_images)]
        check_same(folder / "run.json", asked)
        training, data = load_set(calib), load_set(evaluation)
        judged = data.sample(min(eval_images, len(data)), 0)
        sample = training.sample(images, 0)
        given = Given(Case(model, sample, training, judged, load_preprocess(preprocess)), folder)
        if choosing:
            lines = list(choose(given, only or TOOLS, shares[0]))
        else:
            alone(base_answers, given)
            found = list(rows(given, only or TOOLS, shares, finetune_steps, finetune_lr))
            if as_json:
                as_json.write_text(json.dumps(found, indent=1))
            lines = [list(COLUMNS), *map(cells, found)]
        click.echo(table(lines, markdown))


if __name__ == "__main__":
    main()
