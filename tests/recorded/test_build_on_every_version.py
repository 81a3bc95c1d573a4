"""The whole device path against the recorded API of every version that we speak."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded_api import CLASSIC, CUDA_PYTHON, HIDDEN, PYCUDA_VERSION, RTX, Api, Script
from recorded_gpu import BINDINGS

from edgedense import artifact
from edgedense.artifact import Artifact
from edgedense.build import BuildOptions, build_engine
from edgedense.engines.layer_times import layer_times
from edgedense.engines.runner import Interface, Phases, is_phased
from edgedense.engines.tensorrt import TensorRTRunner
from edgedense.engines.tensorrt_api import dialect_of
from edgedense.errors import InputError, MachineError

Install = Callable[..., Api]
Source = Callable[[str], Artifact]
ORIN = BuildOptions("jetson-orin-nano", batch=(1, 2, 4), workspace_mib=512)
CUDA = [("pycuda", CUDA_PYTHON[0]), *(("cuda-python", version) for version in CUDA_PYTHON)]
HERE = Path(__file__).parent
T4 = BuildOptions("t4", batch=(1, 2, 4), workspace_mib=512)


def nothing_stays(api: Api) -> None:
    assert (api.gpu.contexts, api.gpu.live, api.gpu.wrongs) == ([], {}, [])


def flags(api: Api, names: type, bits: int) -> set[str]:
    return {member.name for member in names if bits >> member.value & 1}  # type: ignore[attr-defined]


@pytest.mark.parametrize("version", CLASSIC)
def test_build_inspect_deserialize_execute(
    version: str, api: Install, source: Artifact, tmp_path: Path
) -> None:
    fake = api(version, Script(sm=(7, 5)))
    report = build_engine(source, tmp_path / "engine", T4)
    old = version.startswith("8.")
    assert report.strongly_typed is not old
    assert report.onnx == ("int8.fp32.onnx" if old else "int8.fp16.onnx")
    assert fake.args("OnnxParser.parse") == [(report.onnx.removesuffix(".onnx").encode(),)]

    [(bits,)] = fake.args("Builder.create_network")
    created = flags(fake, fake.trt.NetworkDefinitionCreationFlag, bits)
    ten = version.startswith("10.")
    assert created == ({"EXPLICIT_BATCH"} if old else {"STRONGLY_TYPED"} if ten else set())
    precisions = {flag.name for (flag,) in fake.args("IBuilderConfig.set_flag")}
    assert precisions == ({"INT8", "FP16"} if old else set())

    [(name, *shapes)] = fake.args("IOptimizationProfile.set_shape")
    assert name == "images"
    assert [tuple(shape) for shape in shapes] == [(1, 3, 4, 4), (2, 3, 4, 4), (4, 3, 4, 4)]
    [(pool, size)] = fake.args("IBuilderConfig.set_memory_pool_limit")
    assert (pool.name, size) == ("WORKSPACE", 512 << 20)
    assert fake.args("IBuilderConfig.builder_optimization_level=") == [3]
    assert fake.args("IBuilderConfig.profiling_verbosity=") == [
        fake.trt.ProfilingVerbosity.DETAILED
    ]

    built = artifact.read(tmp_path / "engine")
    assert built.file("model.engine").read_bytes() == b"PLAN"
    assert json.loads(built.file("inspector.json").read_text()) == {"Layers": ["conv"]}
    assert report.activation_bytes == 4096
    assert built.manifest.interface["batch"] == [1, 2, 4]
    assert {"golden.npz", "calibration.json"} <= set(built.manifest.files)
    assert report.golden_sqnr_db is not None and report.golden_sqnr_db > 100
    assert (report.sm, report.gpu, report.tensorrt) == (75, "Orin (fake)", version)
    rows = json.loads(built.file("profile.json").read_text())
    assert rows[0] == {"count": 30}
    assert [(row["name"], row["averageMs"]) for row in rows[1:]] == [("stem", 5.0), ("head", 0.5)]

    interface = Interface.from_dict(built.manifest.interface)
    images = np.random.default_rng(0).normal(size=(9, 3, 4, 4)).astype(np.float32)
    fake.calls.clear()
    with TensorRTRunner(built.file("model.engine"), interface, graphs=False) as runner:
        logits = runner(images)
    expected = images.reshape(9, -1).mean(1)[:, None] * np.arange(1, 11)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-6)
    assert [next(iter(dims)) for _, dims in fake.args("IExecutionContext.set_input_shape")] == [
        4, 1,
    ]  # fmt: skip
    nothing_stays(fake)


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("version", CLASSIC)
def test_every_step_of_one_inference_is_in_order(
    version: str, binding: str, api: Install, source: Artifact, tmp_path: Path
) -> None:
    fake = api(version, binding=binding)
    plan = tmp_path / "plan"
    plan.write_bytes(b"PLAN")
    interface = Interface("images", (3, 4, 4), "logits", (10,))
    with TensorRTRunner(plan, interface) as runner:
        fake.calls.clear()
        runner(np.zeros((2, 3, 4, 4), np.float32))
        start, copy_in, copy_out, wait, end = STEPS[binding]
        assert fake.names() == [
            start, "Dims", "IExecutionContext.set_input_shape", copy_in,
            "IExecutionContext.execute_async_v3", copy_out, wait, end,
        ]  # fmt: skip
    nothing_stays(fake)


STEPS = {
    "pycuda": (
        "cuda.Context.push", "cuda.memcpy_htod_async", "cuda.memcpy_dtoh_async",
        "cuda.Stream.synchronize", "cuda.Context.pop",
    ),
    "cuda-python": (
        "driver.cuCtxPushCurrent", "driver.cuMemcpyHtoDAsync", "driver.cuMemcpyDtoHAsync",
        "driver.cuStreamSynchronize", "driver.cuCtxPopCurrent",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("binding", "cuda"), CUDA)
@pytest.mark.parametrize("version", [*CLASSIC, RTX])
def test_phases_forks_graphs_and_layer_times(
    version: str, binding: str, cuda: str, api: Install, tmp_path: Path
) -> None:
    """Everything that a run can ask for, against every recording of both kinds."""
    fake = api(version, binding=binding, cuda_version=cuda)
    plan = tmp_path / "plan"
    plan.write_bytes(b"PLAN")
    interface = Interface("images", (3, 4, 4), "logits", (10,))
    images = np.ones((3, 3, 4, 4), np.float32)
    name = "tensorrt_rtx" if version == RTX else "tensorrt"
    with TensorRTRunner(plan, interface, name) as runner, runner.fork() as fork:
        assert is_phased(fork)
        for lane in (runner, fork):
            for _ in range(3):
                logits, phases = lane.timed(images)
                np.testing.assert_allclose(logits, np.tile(np.arange(1, 11), (3, 1)))
                assert phases == Phases(1.0, 10.0, 2.0)
        assert layer_times(runner, images, runs=2) == {"stem": 7.0, "head": 0.5}
    captured = "driver.cuGraphLaunch" in fake.names()
    assert captured is (binding == "cuda-python" and version != RTX)
    strategies = fake.args("IRuntimeConfig.cuda_graph_strategy=")
    assert [strategy.name for strategy in strategies] == ["WHOLE_GRAPH_CAPTURE"] * (version == RTX)
    nothing_stays(fake)


def test_rtx_is_told_its_compute_capabilities_and_needs_no_gpu(
    api: Install, source: Artifact, tmp_path: Path
) -> None:
    fake = api(RTX, Script(log=[("INFO", "Total Weights Memory: 12 bytes")]))
    report = build_engine(source, tmp_path / "e", BuildOptions("rtx-any"))
    assert fake.args("IBuilderConfig.num_compute_capabilities=") == [5]
    told = [(sm.name, i) for sm, i in fake.args("IBuilderConfig.set_compute_capability")]
    assert told == [("SM80", 0), ("SM86", 1), ("SM89", 2), ("SM120", 3), ("SM121", 4)]
    assert (report.weights_bytes, report.activation_bytes) == (12, None)
    assert not {"Runtime", "cuda.init", "cuda.Device"} & set(fake.names())


def test_rtx_engine_runs_through_the_same_runner(api: Install, tmp_path: Path) -> None:
    api(RTX, Script(batches=(2, 2, 4)))
    plan = tmp_path / "plan"
    plan.write_bytes(b"PLAN")
    interface = Interface("images", (3, 4, 4), "logits", (10,))
    with TensorRTRunner(plan, interface, "tensorrt_rtx") as runner:
        logits = runner(np.ones((5, 3, 4, 4), np.float32))  # 4 and 1: the last is padded to 2
    np.testing.assert_allclose(logits, np.tile(np.arange(1, 11), (5, 1)))


@pytest.mark.parametrize("version", ["10.3.0", "10.16.1.11"])
def test_weak_typing_is_the_fallback_on_10_and_is_reported(
    version: str, api: Install, source: Artifact, tmp_path: Path
) -> None:
    fake = api(version, Script(typing_fails=True))
    report = build_engine(source, tmp_path / "e", ORIN)
    assert report.strongly_typed is False
    assert {flag.name for (flag,) in fake.args("IBuilderConfig.set_flag")} == {"INT8", "FP16"}
    assert [bits == 0 for (bits,) in fake.args("Builder.create_network")] == [False, True]
    assert any("weakly typed" in line for line in report.warnings)


@pytest.mark.parametrize(("version", "typed"), [("8.6.1", True), ("10.3.0", False)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_ends_have_the_type_that_the_manifest_says(
    dtype: str, version: str, typed: bool, api: Install, source_of: Source, tmp_path: Path
) -> None:
    """8.6 builds from the FP32 file, whose ends are FP32: there the builder is told."""
    kind = "HALF" if dtype == "float16" else "FLOAT"
    fake = api(version, Script(sm=(7, 5), dtype=kind))
    report = build_engine(source_of(dtype), tmp_path / "e", T4)
    assert [type.name for type in fake.args("ITensor.dtype=")] == [kind, kind] * typed
    built = artifact.read(tmp_path / "e")
    interface = Interface.from_dict(built.manifest.interface)
    assert interface.dtype == dtype
    said = "--inputIOFormats=fp16:chw --outputIOFormats=fp16:chw" in (report.trtexec or "")
    assert said is (typed and dtype == "float16")
    images = np.random.default_rng(0).normal(size=(5, 3, 4, 4)).astype(dtype)
    with TensorRTRunner(built.file("model.engine"), interface) as runner:
        for given in (images, images.astype(np.float32)):
            logits = runner(given)
            expected = images.reshape(5, -1).astype(np.float32).mean(1)[:, None] * np.arange(1, 11)
            assert logits.dtype == np.float32
            np.testing.assert_allclose(logits, expected, rtol=5e-3, atol=5e-3)
        pixels: Any = np.zeros((1, 3, 4, 4), np.uint8)
        with pytest.raises(InputError, match=f"uint8, where the engine takes {dtype}"):
            runner(pixels)


@pytest.mark.parametrize(("precision", "rest"), [("fp32", None), ("int8", "fp32")])
def test_fp32_files_keep_fp32_ends(
    precision: str, rest: str | None, api: Install, source_of: Source, tmp_path: Path
) -> None:
    fake = api("8.6.1", Script(sm=(7, 5)))
    build_engine(source_of("float16"), tmp_path / "e", BuildOptions("t4", precision, rest=rest))
    assert artifact.read(tmp_path / "e").manifest.interface["dtype"] == "float32"
    assert {type.name for type in fake.args("ITensor.dtype=")} == {"FLOAT"}


def test_there_is_no_fallback_on_11(api: Install, source: Artifact, tmp_path: Path) -> None:
    api("11.4.0.106", Script(sm=(7, 5), typing_fails=True))
    with pytest.raises(InputError, match=r"stem/Conv.*\n.*--skip-stem"):
        build_engine(source, tmp_path / "e", T4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quantized"]


@pytest.mark.parametrize(("rest", "wanted"), [(None, {"INT8", "FP16"}), ("fp32", {"INT8"})])
def test_precision_flags_of_8_6_follow_the_rest(
    rest: str | None, wanted: set[str], api: Install, source: Artifact, tmp_path: Path
) -> None:
    fake = api("8.6.1", Script(sm=(7, 5)))
    build_engine(source, tmp_path / "e", BuildOptions("t4", rest=rest))
    assert {flag.name for (flag,) in fake.args("IBuilderConfig.set_flag")} == wanted


@pytest.mark.parametrize("version", CLASSIC)
def test_timing_cache_is_read_and_written_back(
    version: str, api: Install, source: Artifact, tmp_path: Path
) -> None:
    fake = api(version, Script(sm=(7, 5)))
    cache = tmp_path / "timing.cache"
    cache.write_bytes(b"OLD")
    build_engine(source, tmp_path / "e", BuildOptions("t4", timing_cache=cache))
    assert fake.args("IBuilderConfig.create_timing_cache") == [(b"OLD",)]
    assert cache.read_bytes() == b"TIMINGS"


def test_foreign_timing_cache_is_refused_and_kept(
    api: Install, source: Artifact, tmp_path: Path
) -> None:
    api("10.3.0", Script(cache_matches=False))
    cache = tmp_path / "timing.cache"
    cache.write_bytes(b"OLD")
    with pytest.raises(InputError, match="another GPU"):
        build_engine(source, tmp_path / "e", BuildOptions("jetson-orin-nano", timing_cache=cache))
    assert cache.read_bytes() == b"OLD"


@pytest.mark.parametrize("version", [*CLASSIC, RTX])
def test_parser_error_names_the_node_in_one_line(
    version: str, api: Install, source: Artifact, tmp_path: Path
) -> None:
    api(version, Script(sm=(7, 5), parses=False))
    options = BuildOptions("rtx-ampere") if version == RTX else T4
    with pytest.raises(InputError) as caught:
        build_engine(source, tmp_path / "e", options)
    place = "node 5:" if version == "8.6.1" else "node 5 (QuantizeLinear stem_q):"
    assert f"{place} Assertion failed: non-zero zero point" in caught.value.what


def test_uint8_read_as_int8_is_refused(api: Install, source: Artifact, tmp_path: Path) -> None:
    fake = api("10.3.0")
    fake.trt.OnnxParser.parse = lambda *_: fake.say("WARNING", "Defaulting to INT8 instead") or True
    with pytest.raises(InputError, match="uint8"):
        build_engine(source, tmp_path / "e", ORIN)


@pytest.mark.parametrize("spoils", [np.nan, np.inf])
def test_an_engine_that_computes_nan_is_refused(
    spoils: float, api: Install, source: Artifact, tmp_path: Path
) -> None:
    api("10.3.0", Script(spoils=spoils))
    with pytest.raises(InputError, match=r"NaN or infinity.*\n.*--rest fp32"):
        build_engine(source, tmp_path / "e", ORIN)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quantized"]


@pytest.mark.parametrize(
    ("spoils", "precision", "warned"),
    [(0.5, "int8", False), (-1.0, "int8", True), (0.5, "fp16", True), (0.99, "fp16", False)],
)
def test_an_engine_far_from_fp32_is_built_with_a_warning(
    spoils: float, precision: str, warned: bool, api: Install, source: Artifact, tmp_path: Path
) -> None:
    api("10.3.0", Script(spoils=spoils))
    report = build_engine(source, tmp_path / "e", replace(ORIN, precision=precision))
    assert report.golden_sqnr_db == pytest.approx(-20 * np.log10(abs(spoils - 1)), abs=0.01)
    assert any("from FP32 on the golden images" in line for line in report.warnings) is warned


def test_without_cuda_from_python_the_engine_is_built_and_not_tried(
    api: Install, source: Artifact, tmp_path: Path
) -> None:
    api("10.3.0", binding="none")
    report = build_engine(source, tmp_path / "e", ORIN)
    assert "not compared with the target" in report.warnings[0]
    assert (report.golden_sqnr_db, report.sm, report.activation_bytes) == (None, None, 4096)
    assert not artifact.read(tmp_path / "e").has("profile.json")


def test_an_engine_that_cannot_be_run_now_is_kept_with_a_warning(
    api: Install, source: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = api("10.3.0")
    full = fake.cuda_python.CUresult.CUDA_ERROR_OUT_OF_MEMORY
    monkeypatch.setattr(fake.cuda_python, "cuMemAlloc", lambda size: (full, None))
    report = build_engine(source, tmp_path / "e", ORIN)
    assert "not tried: CUDA: cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY" in report.warnings[-1]
    assert artifact.read(tmp_path / "e").file("model.engine").read_bytes() == b"PLAN"


def test_layers_are_told_as_far_as_may_be_without_memory_for_a_context(
    api: Install, source: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = api("10.3.0")
    monkeypatch.setattr(fake.trt.ICudaEngine, "create_execution_context", lambda *_: None)
    report = build_engine(source, tmp_path / "e", ORIN)
    assert artifact.read(tmp_path / "e").file("inspector.json").read_text() == HIDDEN
    assert "not tried" in report.warnings[-1]


def test_a_list_of_layers_that_is_no_json_costs_no_engine(
    api: Install, source: Artifact, tmp_path: Path
) -> None:
    api("10.3.0", Script(inspector='{"Layers": [nan'))
    report = build_engine(source, tmp_path / "e", ORIN)
    assert any("no JSON" in line for line in report.warnings)
    built = artifact.read(tmp_path / "e")
    assert (built.has("inspector.json"), built.has("profile.json")) == (False, True)


@pytest.mark.parametrize("version", [*CLASSIC, RTX])
def test_the_inspector_is_asked_at_the_optimal_batch(
    version: str, api: Install, source: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Formats are hidden as long as the batch is free, as that of every engine here is."""
    monkeypatch.setattr("edgedense.build.device.has_gpu", lambda: True)
    fake = api(version, Script(sm=(8, 6) if version == RTX else (7, 5)))
    build_engine(source, tmp_path / "e", replace(T4, target="rtx-any" if version == RTX else "t4"))
    asked = fake.names().index("EngineInspector.get_engine_information")
    shapes = [args for name, args in fake.calls[:asked] if name.endswith("set_input_shape")]
    assert [(name, tuple(dims)) for name, dims in shapes] == [("images", (2, 3, 4, 4))]
    assert "EngineInspector.execution_context=" in fake.names()[:asked]
    assert json.loads((tmp_path / "e" / "inspector.json").read_text()) == {"Layers": ["conv"]}
    nothing_stays(fake)


def test_rtx_engines_are_tried_where_that_gpu_is(
    api: Install, source: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgedense.build.device.has_gpu", lambda: True)
    for sm, tried in (((8, 6), True), ((8, 7), False)):
        api(RTX, Script(sm=sm))
        path = tmp_path / f"e{sm[1]}"
        report = build_engine(source, path, BuildOptions("rtx-any", batch=(1, 2, 4)))
        assert (report.golden_sqnr_db is not None) is tried
        assert artifact.read(path).has("profile.json") is tried
        assert artifact.read(path).has("inspector.json") is tried
        assert (report.sm, report.gpu) == (None, None)


def test_rtx_serves_the_gpus_that_were_chosen_and_is_not_refittable(
    api: Install, source: Artifact, tmp_path: Path
) -> None:
    fake = api(RTX)
    report = build_engine(source, tmp_path / "e", BuildOptions("rtx-any", sms=(89, 86)))
    told = [(sm.name, i) for sm, i in fake.args("IBuilderConfig.set_compute_capability")]
    assert told == [("SM89", 0), ("SM86", 1)]
    assert report.sms == (89, 86)
    assert artifact.read(tmp_path / "e").manifest.options["sms"] == [89, 86]
    assert fake.args("IBuilderConfig.set_flag") == []


def test_golden_images_that_are_damaged_are_seen_before_the_build(
    api: Install, source: Artifact, tmp_path: Path
) -> None:
    fake = api("10.3.0")
    with artifact.create(tmp_path / "bad", "quantize", parents={}, options={}) as draft:
        for name in source.manifest.files:
            (draft.path / name).write_bytes(source.data(name))
        (draft.path / "golden.npz").write_bytes(source.data("golden.npz")[:100])
        draft.interface = source.manifest.interface
    with pytest.raises(InputError, match=r"golden\.npz is damaged"):
        build_engine(artifact.read(tmp_path / "bad"), tmp_path / "e", ORIN)
    assert "Builder.build_serialized_network" not in fake.names()


def test_another_gpu_than_the_targets_is_refused_with_the_ways_out(
    api: Install, source: Artifact, tmp_path: Path
) -> None:
    api("10.3.0", Script(sm=(7, 5)))
    with pytest.raises(MachineError, match="SM 75, the target's is SM 87") as caught:
        build_engine(source, tmp_path / "e", ORIN)
    assert "edgedense build-engine quantized -o e --target jetson-orin-nano" in caught.value.remedy
    assert "--target cpu" in caught.value.remedy


def test_builder_out_of_memory_keeps_its_own_remedy(
    api: Install, source: Artifact, tmp_path: Path
) -> None:
    api("10.3.0", Script(plan=None, log=[("ERROR", "Error Code 2: out of memory")]))
    with pytest.raises(MachineError, match="workspace"):
        build_engine(source, tmp_path / "e", ORIN)


def test_unknown_version_for_the_target_is_a_warning(
    api: Install, source: Artifact, tmp_path: Path
) -> None:
    api("11.4.0.106")
    report = build_engine(source, tmp_path / "e", ORIN)
    assert "11.4.0.106 is outside" in report.warnings[0]


def test_trtexec_line_speaks_the_versions_language(
    api: Install, source: Artifact, tmp_path: Path
) -> None:
    lines = {}
    for version in ("8.6.1", "10.3.0", "11.4.0.106"):
        api(version, Script(sm=(7, 5)))
        lines[version] = build_engine(source, tmp_path / version, T4).trtexec or ""
    assert "int8.fp32.onnx" in lines["8.6.1"]
    assert "--fp16 --int8" in lines["8.6.1"]
    assert "--stronglyTyped" in lines["10.3.0"]
    assert not {"--int8", "--fp16", "--stronglyTyped"} & set(lines["11.4.0.106"].split())
    api("10.3.0", Script(sm=(7, 5), typing_fails=True))
    weak = build_engine(source, tmp_path / "weak", T4).trtexec or ""
    assert "--fp16 --int8" in weak
    assert "--stronglyTyped" not in weak
    fast = replace(T4, optimization_level=5, timing_cache=tmp_path / "cache")
    fully = build_engine(source, tmp_path / "fast", fast).trtexec or ""
    assert f"--timingCacheFile={tmp_path / 'cache'} --builderOptimizationLevel=5" in fully
    for line in lines.values():
        assert "--maxShapes=images:4x3x4x4" in line
        assert "--memPoolSize=workspace:512" in line


def test_every_recording_is_used() -> None:
    """The whole path above runs against each file that lies here, so none may be forgotten."""
    used = {f"tensorrt-{version}.json" for version in CLASSIC} | {f"tensorrt-rtx-{RTX}.json"}
    used |= {f"cuda-bindings-{version}.json" for version in CUDA_PYTHON}
    assert {path.name for path in HERE.glob("*.json")} == used | {f"pycuda-{PYCUDA_VERSION}.json"}


@pytest.mark.parametrize("version", [*CLASSIC, RTX])
def test_every_dialect_names_what_its_version_has(version: str, api: Install) -> None:
    """The table of versions against the recordings, where no call would show a wrong line."""
    fake = api(version)
    dialect = dialect_of(fake.trt)
    for flag in filter(None, dialect.typings.values()):
        assert hasattr(fake.trt.NetworkDefinitionCreationFlag, flag)
    assert hasattr(fake.trt.ICudaEngine, dialect.memory_size)
    assert hasattr(fake.trt, "IProgressMonitor") is dialect.progress_monitor
    assert hasattr(fake.trt.ParserError, "node_name") is dialect.node_names
    assert hasattr(fake.trt, "ComputeCapability") is dialect.ahead_of_time
    assert hasattr(fake.trt, "CudaGraphStrategy") is dialect.own_graphs
    weak = "weak" in dialect.typings
    assert hasattr(fake.trt.BuilderFlag, "INT8") is weak
    assert hasattr(fake.trt.BuilderFlag, "FP16") is weak


def test_the_fake_refuses_what_a_version_lacks(api: Install) -> None:
    """The oracle of this file: without this, nothing above would mean anything."""
    fake = api("10.3.0")

    class Quiet(fake.trt.ILogger):  # type: ignore[misc]
        pass

    builder = fake.trt.Builder(Quiet())
    config = builder.create_builder_config()
    with pytest.raises(AttributeError):
        config.max_workspace_size = 1
    with pytest.raises(AttributeError):
        builder.build_engine  # noqa: B018
    with pytest.raises(AttributeError):
        api("11.4.0.106").trt.BuilderFlag.INT8  # noqa: B018
    with pytest.raises(TypeError):
        builder.build_serialized_network(config)
    old = api("8.6.1")
    with pytest.raises(TypeError):
        old.make("IExecutionContext").set_input_shape("images", (1, 3, 4, 4))


def test_the_fakes_of_cuda_refuse_what_the_bindings_lack(api: Install) -> None:
    fake = api("10.3.0")
    for module, name in ((fake.pycuda, "Graph"), (fake.cuda_python, "cuGraphInstantiateWithFlags")):
        with pytest.raises(AttributeError):
            getattr(module, name)
    with pytest.raises(TypeError):
        fake.cuda_python.cuMemAlloc(1, 2)
    with pytest.raises(TypeError):
        fake.cuda_python.cuStreamBeginCapture(1, 1)
    with pytest.raises(AttributeError):
        fake.cuda_python.CUresult.CUDA_FINE  # noqa: B018
    fake.pycuda.Device(0).retain_primary_context().push()
    with pytest.raises(AttributeError):
        fake.pycuda.Stream().begin_capture()
    with pytest.raises(TypeError):
        fake.pycuda.Event().time_till()
    with pytest.raises(TypeError):
        fake.pycuda.mem_alloc("many")
