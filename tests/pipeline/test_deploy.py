"""The whole job on a tiny real network, and what of it a second call repeats."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgedense import artifact
from edgedense.benchmark import BenchmarkOptions
from edgedense.data import load_set
from edgedense.environment import has_gpu, installed
from edgedense.errors import InputError, MachineError
from edgedense.pipeline import DeployOptions, Inputs, deploy, plan
from edgedense.prune import PruneOptions
from edgedense.quantize import QuantizeOptions
from edgedense.validate import ValidateOptions

STAGES = ("reference", "prune", "quantize", "engine-cpu", "benchmark-cpu", "validate-cpu")
ENGINES = STAGES[3:]


def manifests(run: Path) -> dict[str, str]:
    return {p.parent.name: artifact.sha256_file(p) for p in run.glob("*/manifest.json")}


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        p.relative_to(folder).as_posix(): (p.stat().st_mtime_ns, p.read_bytes())
        for p in folder.rglob("*")
        if p.is_file()
    }


def test_a_run_holds_every_stage_with_its_origin(finished: Path) -> None:
    stages = {name: artifact.read(finished / name) for name in STAGES}
    assert {p.name for p in finished.iterdir()} == {*STAGES, "run.json"}
    sha256 = {name: stage.sha256 for name, stage in stages.items()}
    assert stages["quantize"].manifest.parents["model"] == sha256["prune"]
    assert stages["engine-cpu"].manifest.parents["model"] == sha256["quantize"]
    for name in ("benchmark-cpu", "validate-cpu"):
        assert stages[name].manifest.parents["engine"] == sha256["engine-cpu"]
    ledger = json.loads((finished / "run.json").read_text())["stages"]
    assert {name: entry["manifest"] for name, entry in ledger.items()} == sha256
    carried = stages["engine-cpu"].file("reference.npz").read_bytes()
    assert carried == stages["quantize"].file("reference.npz").read_bytes()


def test_one_preprocess_from_the_first_stage_to_the_last(finished: Path, inputs: Inputs) -> None:
    wanted = inputs.preprocess.to_dict()
    for name in ("reference", "prune", "quantize", "engine-cpu", "validate-cpu"):
        assert artifact.read(finished / name).manifest.preprocess == wanted


def test_the_engine_is_judged_against_the_network_before_pruning(
    finished: Path, inputs: Inputs
) -> None:
    import torch

    from edgedense.data import batches

    images = next(batches(inputs.evaluation, inputs.preprocess, len(inputs.evaluation))).images
    with torch.inference_mode():
        logits = inputs.model.network(torch.from_numpy(images)).numpy()
    kept = np.load(finished / "validate-cpu" / "predictions.npz")["reference_logits"]
    np.testing.assert_allclose(kept, logits, rtol=1e-4, atol=1e-4)


def test_a_second_call_reuses_every_stage(
    run: Path, inputs: Inputs, quick: Callable[..., DeployOptions], news: Any
) -> None:
    before = everything(run)
    report = deploy(inputs, run, quick(), news)
    assert report.reused == STAGES
    assert report.exit_code == 0
    assert news.lines == [f"{name}: unchanged, reused" for name in STAGES]
    assert everything(run) == before


CHANGES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "gate": ({"validate": ValidateOptions(max_drop_pp=6)}, ("validate-cpu",)),
    "latency": (
        {"benchmark": BenchmarkOptions(iterations=21, min_seconds=0, warmup_seconds=0)},
        ("benchmark-cpu", "validate-cpu"),
    ),
    "batch": ({"batch": (1, 2, 4)}, ENGINES),
    "precision": ({"precision": "fp32"}, ENGINES),
    "calibrator": ({"quantize": QuantizeOptions(calibrator="max")}, ("quantize", *ENGINES)),
    "macs": ({"prune": PruneOptions(macs=0.9)}, ("prune", "quantize", *ENGINES)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_option_remakes_what_depends_on_it(
    change: str, run: Path, inputs: Inputs, quick: Callable[..., DeployOptions]
) -> None:
    changed, remade = CHANGES[change]
    kept = tuple(name for name in STAGES if name not in remade)
    before = manifests(run)
    planned = plan(inputs, run, quick(**changed))
    assert tuple(line.stage for line in planned if line.reused) == kept
    assert manifests(run) == before
    assert deploy(inputs, run, quick(**changed)).reused == kept
    after = manifests(run)
    assert {name for name in STAGES if after[name] != before[name]} == set(remade)


def test_changed_images_and_weights_are_seen(
    run: Path, inputs: Inputs, quick: Callable[..., DeployOptions], tiny: Any, tmp_path: Path
) -> None:
    def reused(given: Inputs) -> set[str]:
        return {line.stage for line in plan(given, run, quick()) if line.reused}

    assert reused(inputs) == set(STAGES)
    copied = Path(shutil.copytree(tiny.train, tmp_path / "train"))
    (copied / "red" / "000.png").unlink()
    assert reused(replace(inputs, calibration=load_set(copied))) == {"reference"}
    copied = Path(shutil.copytree(tiny.test, tmp_path / "test"))
    (copied / "red" / "000.png").unlink()
    assert reused(replace(inputs, evaluation=load_set(copied))) == {"prune"}
    assert reused(replace(inputs, model=replace(inputs.model, sha256="0" * 64))) == set()
    assert reused(replace(inputs, preprocess=replace(inputs.preprocess, std=(0.3,) * 3))) == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_was_damaged_is_made_again(
    stage: str, run: Path, inputs: Inputs, quick: Callable[..., DeployOptions]
) -> None:
    payload = next(p for p in sorted((run / stage).iterdir()) if p.name != "manifest.json")
    data = bytearray(payload.read_bytes())
    data[len(data) // 2] ^= 1
    payload.write_bytes(bytes(data))
    first_lost = STAGES.index(stage)
    report = deploy(inputs, run, quick())
    assert stage not in report.reused
    assert set(STAGES[:first_lost]) <= set(report.reused)
    made = artifact.read(run / stage)
    assert made.file(payload.name).read_bytes() != data
    assert deploy(inputs, run, quick()).reused == STAGES


def test_a_stage_that_was_removed_is_made_again(
    run: Path, inputs: Inputs, quick: Callable[..., DeployOptions]
) -> None:
    shutil.rmtree(run / "quantize")
    assert deploy(inputs, run, quick()).reused == ("reference", "prune")


def test_without_pruning_the_report_leaves_the_pruned_network_out(
    run: Path, inputs: Inputs, quick: Callable[..., DeployOptions]
) -> None:
    from edgedense.report import read_run

    assert set(read_run(run)["stages"]) == set(STAGES)
    report = deploy(inputs, run, quick(prune=None))
    assert report.reused == ("reference",)
    assert set(read_run(run)["stages"]) == set(STAGES) - {"prune"}


def test_a_plan_writes_nothing(
    tmp_path: Path, inputs: Inputs, quick: Callable[..., DeployOptions]
) -> None:
    planned = plan(inputs, tmp_path / "run", quick())
    assert [line.stage for line in planned] == list(STAGES)
    assert not any(line.reused for line in planned)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file", "foreign ledger", "ledger that points out"])
def test_a_place_that_is_no_run_is_left_alone(
    kind: str, tmp_path: Path, inputs: Inputs, quick: Callable[..., DeployOptions]
) -> None:
    place = tmp_path / "place"
    ledger = {
        "foreign ledger": '{"stages": []}',
        "ledger that points out": '{"format": "edgedense/1", "stages": {"a": 1}}',
    }.get(kind)
    if kind == "file":
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "thesis.tex").write_text("mine")
    if ledger:
        (place / "run.json").write_text(ledger)
    before = everything(tmp_path)
    for call in (deploy, plan):
        with pytest.raises(InputError, match="no run of edgedense deploy"):
            call(inputs, place, quick())
    assert everything(tmp_path) == before


def test_an_empty_folder_becomes_a_run(
    tmp_path: Path, inputs: Inputs, quick: Callable[..., DeployOptions]
) -> None:
    """A run that ended before its first line, such as on a full disk, left just that."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".run.json.partial-1").write_text("")
    assert deploy(inputs, tmp_path / "run", quick()).verdict == "pass"
    assert not list((tmp_path / "run").glob(".*"))


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_a_calibration_image_among_the_evaluation_images_is_refused(
    suffix: str, tmp_path: Path, inputs: Inputs, quick: Callable[..., DeployOptions], tiny: Any
) -> None:
    evaluation = Path(shutil.copytree(tiny.test, tmp_path / "test"))
    with Image.open(tiny.train / "green" / "007.png") as image:
        image.save(evaluation / "red" / f"holiday{suffix}")
    leaky = replace(inputs, evaluation=load_set(evaluation))
    for call in (deploy, plan):
        with pytest.raises(InputError, match=rf"green/007.png = red/holiday{suffix}"):
            call(leaky, tmp_path / "run", quick())
    assert not (tmp_path / "run").exists()


def test_inputs_that_do_not_fit_are_refused_before_any_work(
    tmp_path: Path, inputs: Inputs, quick: Callable[..., DeployOptions], tiny: Any
) -> None:
    shutil.copytree(tiny.test / "red", tmp_path / "two" / "red")
    shutil.copytree(tiny.test / "blue", tmp_path / "two" / "blue")
    two = load_set(tmp_path / "two")
    few = replace(inputs.calibration, items=inputs.calibration.items[:3])
    grey = replace(inputs.preprocess, colour="L", mean=(0.5,), std=(0.25,))
    for bad, said in (
        ({"evaluation": two}, "2 classes, but the model has 3"),
        ({"calibration": few}, "3 calibration images, at least 16"),
        ({"preprocess": grey}, "reads 3 channel"),
    ):
        with pytest.raises(InputError, match=said):
            deploy(replace(inputs, **bad), tmp_path / "run", quick())
    with pytest.raises(InputError, match="toaster"):
        deploy(inputs, tmp_path / "run", quick(targets=("toaster",)))
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(installed("tensorrt"), reason="this machine could build it")
def test_a_target_for_elsewhere_leaves_the_rest_done(
    run: Path, inputs: Inputs, quick: Callable[..., DeployOptions]
) -> None:
    report = deploy(inputs, run, quick(targets=("jetson-orin-nano",)))
    assert report.exit_code == 3
    assert (report.verdict, report.judged_on) == ("pass", ("cpu",))
    assert set(report.elsewhere) == {"engine-jetson-orin-nano"}
    assert "edgedense build-engine quantize" in report.elsewhere["engine-jetson-orin-nano"]
    assert not list(run.glob("*jetson*"))


def test_a_failed_gate_wins_over_a_target_for_elsewhere(
    run: Path, inputs: Inputs, quick: Callable[..., DeployOptions]
) -> None:
    gates = ValidateOptions(max_drop_pp=5, min_speedup=1e6)
    report = deploy(inputs, run, quick(targets=("jetson-orin-nano",), validate=gates))
    assert (report.exit_code, report.verdict) == (1, "fail")
    assert any("1e+06x" in reason for reason in report.reasons)


@pytest.mark.rtx
@pytest.mark.skipif(not installed("tensorrt_rtx"), reason="tensorrt-rtx is not installed")
@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_a_gpu_engine_is_built_and_judged_by_a_rehearsal(
    run: Path, inputs: Inputs, quick: Callable[..., DeployOptions]
) -> None:
    report = deploy(inputs, run, quick(targets=("rtx-ada",)))
    assert report.exit_code == 0
    assert (report.judged_on, set(report.elsewhere)) == (("cpu",), {"benchmark-rtx-ada"})
    assert report.stages["engine-rtx-ada"]["backend"] == "tensorrt-rtx"
    assert artifact.read(run / "engine-rtx-ada").file("model.engine").stat().st_size > 10_000
    assert "engine-rtx-ada" in deploy(inputs, run, quick(targets=("rtx-ada",))).reused


def test_a_full_disk_is_no_inability(
    run: Path,
    inputs: Inputs,
    quick: Callable[..., DeployOptions],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An engine that could not be written must not end as 'not on this machine'."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    shutil.rmtree(run / "engine-cpu")
    monkeypatch.setattr("edgedense.build.cpu.shutil.copyfile", full)
    with pytest.raises(MachineError, match="the disk is full"):
        deploy(inputs, run, quick())
    monkeypatch.undo()
    assert not list(run.glob("*engine-cpu*")) + list(run.glob(".*"))
    assert deploy(inputs, run, quick()).reused == ("reference", "prune", "quantize")


def test_an_engine_of_another_runtime_is_made_again(
    inputs: Inputs,
    finished: Path,
    quick: Callable[..., DeployOptions],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from edgedense.pipeline import steps

    monkeypatch.setattr(steps, "version", lambda module: "another")
    found = {line.stage: line.reused for line in plan(inputs, finished, quick())}
    assert found["quantize"]
    assert not any(found[name] for name in ENGINES)


def test_a_target_has_one_name(
    inputs: Inputs, quick: Callable[..., DeployOptions], tmp_path: Path
) -> None:
    planned = plan(inputs, tmp_path / "run", quick(prune=PruneOptions(params=0.6)))
    assert [line.what for line in planned if line.stage == "prune"] == [
        "remove channels down to 0.6 of the parameters"
    ]
    planned = plan(inputs, tmp_path / "run", quick(targets=("CPU", "cpu")))
    assert [line.stage for line in planned].count("engine-cpu") == 1


def test_words_of_prune_and_quantize_reach_their_stages(
    tiny: Any, tmp_path: Path, edgedense: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[DeployOptions] = []

    def execute(inputs: Inputs, output: Path, options: DeployOptions, **_: bool) -> int:
        given.append(options)
        return 0

    monkeypatch.setattr("edgedense.cli.deploy.execute", execute)
    words = ["deploy", tiny.checkpoint, "--calib", tiny.train, "--eval", tiny.test]
    words += ["--preprocess", tiny.toml, "-o", tmp_path / "run"]
    more = ["--method", "fpgm", "--align", 4, "--io", "fp16", "--skip-stem", "--sensitivity"]
    assert edgedense(*words, "--params", 0.6, *more).code == 0
    assert edgedense(*words).code == 0
    assert given[0].prune == PruneOptions(params=0.6, method="fpgm", align=4)
    assert given[0].quantize == QuantizeOptions(io="fp16", int8_stem=False, sensitivity=True)
    assert (given[1].prune, given[1].quantize) == (None, QuantizeOptions())
    assert edgedense(*words, "--params", 0.6, "--macs", 0.6).code == 2
    ended = edgedense(*words, "--method", "fpgm")
    assert (ended.code, "--macs or --params" in ended.err) == (2, True)
