"""Laws of the roofline, and what others measured."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nets import sizes, specs, tiramisus

from edgedense.densenet.count import count_macs
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.densenet.spec import DenseNetSpec
from edgedense.densenet.specs import Spec
from edgedense.densenet.wiring import wires
from edgedense.errors import InputError
from edgedense.latency import Form, Precision, Predictor, predict
from edgedense.latency.kernels import kernels
from edgedense.prune.groups import prunable, with_widths
from edgedense.targets import TARGETS, Target, find_target

SIZE = (224, 224)
ORIN = find_target("jetson-orin-nano")


def imagenet(blocks: list[int], growth: int = 32) -> DenseNetSpec:
    return DenseNetSpec.build(
        blocks, growth, num_classes=1000, stem="imagenet", stem_width=2 * growth
    )


D121 = imagenet([6, 12, 24, 16])
NETWORKS = (
    D121,
    imagenet([6, 12, 32, 32]),
    imagenet([6, 12, 48, 32]),
    imagenet([6, 12, 36, 24], 48),
)
FAMILY = st.one_of(specs(), tiramisus())


def device(bandwidth: float, rate: float, **facts: Any) -> Target:
    changes = {"bandwidth_gbps": bandwidth, "int8_tops": rate, "fp16_tflops": rate, **facts}
    return replace(ORIN, **changes)


# images a second of torchvision's networks in FP16, batch 1, as torch2trt's README has them
@pytest.mark.parametrize(
    ("target", "published"),
    [("jetson-nano", (41.9, 33.2, 25.4, 15.6)), ("jetson-agx-xavier", (168, 118, 90.9, 82.4))],
)
def test_published_latencies_rank_alike(target: str, published: tuple[float, ...]) -> None:
    found = [predict(spec, SIZE, find_target(target), "fp16").latency_ms for spec in NETWORKS]
    ratios = np.array(found) * np.array(published) / 1000
    assert ratios.max() / ratios.min() < 1.15
    assert ratios.min() > 0.35
    assert ratios.max() < 1.05


@given(st.data(), FAMILY, st.sampled_from(("int8", "fp16")), st.sampled_from(("conv", "block")))
@settings(deadline=None, max_examples=50)
def test_more_channels_are_never_faster(
    data: st.DataObject, spec: Spec, precision: Precision, placement: Any
) -> None:
    size = data.draw(sizes(spec))
    predictor = Predictor(ORIN, size, precision, placement)
    group = data.draw(st.sampled_from(prunable(spec, "all")))
    wide = with_widths(spec, {group.name: group.width + data.draw(st.integers(1, 40))})
    assert predictor.latency_ms(wide) >= predictor.latency_ms(spec)


@given(st.data(), FAMILY, st.sampled_from(("int8", "fp16")), st.sampled_from(("conv", "block")))
@settings(deadline=None, max_examples=50)
def test_products_are_those_that_are_counted(
    data: st.DataObject, spec: Spec, precision: Precision, placement: Any
) -> None:
    size, batch = data.draw(sizes(spec)), data.draw(st.integers(1, 3))
    found = list(kernels(spec, size, Form(precision, placement, batch)))
    layers = [kernel for kernel in found if kernel.side]
    assert [kernel.name for kernel in layers] == [wire.name for wire in wires(spec)]
    assert sum(kernel.macs(1) for kernel in layers) == batch * count_macs(spec, size)
    assert len({kernel.name for kernel in found}) == len(found)
    # every value that a convolution reads was written with as many elements, or is the image
    for before, after in itertools.pairwise(found):
        if before.kind == "pass" and after.kind != "pool":
            assert (before.written, before.writes) == (after.read, after.reads)


@given(st.data(), FAMILY)
@settings(deadline=None, max_examples=30)
def test_twice_the_device_takes_half_the_time_but_for_launches(
    data: st.DataObject, spec: Spec
) -> None:
    size = data.draw(sizes(spec))
    slow, fast = device(1e-3, 1e-3), device(2e-3, 2e-3)
    found = [predict(spec, size, target, "int8") for target in (slow, fast)]
    launches = len(found[0].layers) * ORIN.launch_us / 1e3
    assert found[1].latency_ms - launches == pytest.approx((found[0].latency_ms - launches) / 2)


def test_what_bounds_a_layer() -> None:
    for target, bound in (
        (device(1e6, 1e-3), "compute"),
        (device(1e-3, 1e6), "memory"),
        (device(1e6, 1e6), "launch"),
    ):
        layers = [layer for layer in predict(D121, SIZE, target).layers if layer.kind == "conv"]
        assert {layer.bound for layer in layers} == {bound}


def test_time_is_the_longer_of_traffic_and_products() -> None:
    spec = DenseNetSpec.build([1], 32, num_classes=10, stem_width=64)
    predicted = predict(spec, (32, 32), device(100, 10, launch_us=0), "int8")
    found = {layer.name: layer.us for layer in predicted.layers}
    share, pixels = 0.6, 32 * 32
    conv2 = max((128 + 2 * 32) * pixels + 9 * 128 * 32, 0) / (100e3 * share)
    products = 2 * 9 * 128 * 32 * pixels / (10e6 * share)
    assert found["features.denseblock1.denselayer1.conv2"] == pytest.approx(max(conv2, products))
    # BN and ReLU over the concat: FP16 in, INT8 out
    assert found["features.denseblock1.denselayer1.norm1"] == pytest.approx(
        3 * 64 * pixels / (100e3 * share)
    )
    assert found["features.norm5"] == pytest.approx(4 * 96 * pixels / (100e3 * share))


def test_int8_channels_are_padded() -> None:
    target = device(1e6, 1e-3, launch_us=0)
    times = [
        Predictor(target, SIZE).latency_ms(
            DenseNetSpec.build([1], 32, num_classes=32, stem_width=width)
        )
        for width in (33, 64)
    ]
    assert times[0] == pytest.approx(times[1], rel=1e-3)  # the traffic of BN is not padded
    half = Predictor(target, SIZE, "fp16")
    narrow, wide = (
        half.latency_ms(DenseNetSpec.build([1], 32, num_classes=32, stem_width=width))
        for width in (33, 64)
    )
    assert narrow < 0.9 * wide


@given(st.data(), FAMILY)
@settings(deadline=None, max_examples=30)
def test_int8_concats_save_where_memory_bounds(data: st.DataObject, spec: Spec) -> None:
    size = data.draw(sizes(spec))
    target = device(1e-3, 1e6)
    block, conv = (
        predict(spec, size, target, "int8", each).latency_ms for each in ("block", "conv")
    )
    half = predict(spec, size, target, "fp16").latency_ms
    assert block < conv
    assume(all(wire.norm and wire.relu for wire in wires(spec) if wire.reads))
    assert conv < half


def test_a_batch_shares_the_launches_and_the_weights() -> None:
    one, eight = (predict(D121, SIZE, ORIN, batch=batch).latency_ms for batch in (1, 8))
    assert one < eight < 8 * one


@pytest.mark.parametrize(
    ("name", "precision", "said"),
    [
        ("cpu", "int8", "no bandwidth and no INT8 rate"),
        ("dgx-spark", "fp16", "no FP16 rate"),
        ("jetson-thor", "int8", "no INT8 rate"),
        ("rtx-ada", "fp32", "no FP32 rate"),
        ("jetson-nano", "int8", "no INT8 kernels"),
    ],
)
def test_what_a_data_sheet_lacks_is_named(name: str, precision: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        predict(D121, SIZE, find_target(name), precision)
    assert "profile-target" in caught.value.remedy or "FP16" in caught.value.remedy


def test_every_target_with_rates_predicts() -> None:
    for target in TARGETS:
        if target.fp16_tflops and target.bandwidth_gbps:
            found = predict(D121, SIZE, target, "fp16")
            assert 0 < found.latency_ms < 100
            assert (found.measured, found.basis) == (False, "predicted")
            assert found.latency_ms * 1e3 == pytest.approx(sum(layer.us for layer in found.layers))


@pytest.mark.parametrize(
    "wrong", [{"precision": "int4"}, {"placement": "some"}, {"batch": 0}], ids=str
)
def test_bad_forms_are_refused(wrong: Any) -> None:
    with pytest.raises(InputError):
        predict(D121, SIZE, ORIN, **wrong)


def test_json_of_a_prediction() -> None:
    found = predict(FCDenseNetSpec.build((2, 2), 2, 4, num_classes=3), (32, 32), ORIN).to_dict()
    assert (found["target"], found["precision"], found["placement"]) == (ORIN.name, "int8", "conv")
    assert {"transposed", "pass", "conv", "pool"} == {layer["kind"] for layer in found["layers"]}
    assert set(found["layers"][0]) == {"name", "kind", "us", "bound"}
