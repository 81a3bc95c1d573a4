from __future__ import annotations

import json

import pytest
from packaging.version import Version

from edgedense.errors import InputError
from edgedense.targets import TARGETS, TENSORRT, TENSORRT_RTX, find_target

# Compute capabilities that TensorRT for RTX 1.7 builds for without a GPU (its ComputeCapability).
AHEAD_OF_TIME = {75, 80, 86, 89, 120, 121}


def test_names_are_unique_and_found() -> None:
    names = [target.name for target in TARGETS]
    assert len(set(names)) == len(names)
    assert [find_target(name).name for name in names] == names


@pytest.mark.parametrize("name", ["Jetson_Orin_Nano", " jetson-orin-nano ", "JETSON-ORIN-NANO"])
def test_spelling_is_forgiven(name: str) -> None:
    assert find_target(name).sm == 87


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("jetson-orin-nan", "jetson-orin-nano"), ("orin", "jetson-orin-nx"), ("rtx-4090", "rtx-")],
)
def test_a_near_miss_is_guessed(wrong: str, right: str) -> None:
    with pytest.raises(InputError) as caught:
        find_target(wrong)
    assert right in caught.value.remedy


@pytest.mark.parametrize("name", ["", "tpu", "xyz"])
def test_unknown_names_point_to_the_list(name: str) -> None:
    with pytest.raises(InputError) as caught:
        find_target(name)
    assert "edgedense targets" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "sm"),
    [("jetson-nano", 53), ("jetson-tx2", 62), ("jetson-xavier-nx", 72), ("jetson-agx-xavier", 72),
     ("jetson-orin-nano", 87), ("jetson-agx-orin", 87), ("jetson-thor", 110), ("t4", 75),
     ("l4", 89), ("h100", 90)],
)  # fmt: skip
def test_compute_capabilities(name: str, sm: int) -> None:
    assert find_target(name).sm == sm


def test_only_nano_and_tx2_lack_int8() -> None:
    assert {t.name for t in TARGETS if not t.int8} == {"jetson-nano", "jetson-tx2"}
    assert all(t.int8_tops is None for t in TARGETS if not t.int8)


def test_dense_int8_is_twice_dense_fp16_where_both_are_known() -> None:
    """Tensor cores from Volta on double at INT8: a sparse figure among dense ones breaks this."""
    for target in TARGETS:
        if target.int8_tops and target.fp16_tflops:
            assert 1.9 < target.int8_tops / target.fp16_tflops < 2.1, target.name


def test_rtx_targets_are_those_that_can_be_built_without_a_gpu() -> None:
    for target in TARGETS:
        assert target.ahead_of_time == (target.backend == TENSORRT_RTX)
        if target.ahead_of_time:
            assert set(target.sms) <= AHEAD_OF_TIME


@pytest.mark.parametrize(
    ("name", "version", "known"),
    [("jetson-orin-nano", "8.6.2", True), ("jetson-orin-nano", "10.3.0", True),
     ("jetson-orin-nano", "10.16.2.10", True), ("jetson-orin-nano", "11.4.1", False),
     ("jetson-agx-orin", "11.4.1", True), ("jetson-agx-orin", "11.4.0.106", False),
     ("jetson-agx-orin", "11.2.1", False), ("jetson-thor", "10.3.0", False),
     ("jetson-thor", "10.13.3.9", True), ("jetson-nano", "8.2.1", True), ("t4", "11.4.0", True)],
)  # fmt: skip
def test_tensorrt_versions(name: str, version: str, known: bool) -> None:
    assert find_target(name).versions.contains(Version(version)) is known


def test_every_row_is_plain_json_and_says_where_tensorrt_runs() -> None:
    for target in TARGETS:
        row = json.loads(json.dumps(target.to_dict()))
        assert row["int8"] is target.int8
        assert bool(target.tensorrt) == (target.backend in (TENSORRT, TENSORRT_RTX))
