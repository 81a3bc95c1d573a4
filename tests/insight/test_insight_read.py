"""The inspector's JSON of every TensorRT: recorded files (tests/recorded/inspector), and damage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedense.errors import InputError
from edgedense.insight.layers import data_type, kernel_type
from edgedense.insight.profile import read_profile
from edgedense.insight.read import Inspected, read_layers

RECORDED = Path(__file__).parent.parent / "recorded" / "inspector"
INT8_KERNEL = (
    "sm80_xmma_fprop_implicit_gemm_interleaved_i8f16_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32_nchw"
)


def recorded(name: str) -> Inspected:
    return read_layers((RECORDED / name).read_bytes(), name)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Thirty-two wide channel vectorized row major Int8 format", "INT8"),
        ("Four wide channel vectorized row major Int8 format.", "INT8"),
        ("Row major Int8 format", "INT8"),
        ("Channel major FP16 format where channel % 8 == 0", "FP16"),
        ("Row major linear FP16 format", "FP16"),
        ("Row major linear FP32", "FP32"),
        ("Channel major FP32 format", "FP32"),
        ("Row major linear BF16", "BF16"),
        ("Float", "FP32"),
        ("Half", "FP16"),
        ("Int8", "INT8"),
        ("UInt8", "UINT8"),
        ("Int64", "INT64"),
        ("FP8", "FP8"),
        ("Bool", "BOOL"),
        ("N/A due to dynamic shapes", None),
        ("", None),
    ],
)
def test_types_in_the_words_of_all_versions(text: str, found: str | None) -> None:
    assert data_type(text) == found


@pytest.mark.parametrize(
    ("tactic", "found"),
    [
        (INT8_KERNEL, "INT8"),
        ("ampere_fp32_icudnn_int8x4_128x64_relu_medium_nn_v1", "INT8"),
        ("sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc", "FP16"),
        ("sm80_xmma_fprop_implicit_gemm_f32f32_tf32f32_f32_nhwckrsc_nhwc", "FP32"),
        ("ampere_scudnn_128x64_relu_xregs_large_nn_v1", "FP32"),
        ("ampere_h16816cudnn_128x128_ldg8_relu_exp_stages_64x3_large_nhwc_tn_v1", "FP16"),
        ("first_layer_hmma_fprop_f16f16f32_nhwc_nhwc_k64r7s7c4_stride2x2", "FP16"),
        ("__myl_CastMulMax_0x0", None),
        ("", None),
    ],
)
def test_types_of_operands_in_names_of_kernels(tactic: str, found: str | None) -> None:
    assert kernel_type(tactic) == found


def test_both_key_styles_tell_the_same() -> None:
    raw = json.loads((RECORDED / "v11_densenet.json").read_text())
    older = json.loads((RECORDED / "v11_densenet.json").read_text())
    words = {"Float": "Row major linear FP32", "Half": "Row major linear FP16 format"}
    for layer in older["Layers"]:
        for end in (*layer["Inputs"], *layer["Outputs"]):
            kind = end.pop("DataType")
            end["Format/Datatype"] = words.get(kind, f"Row major {kind} format")
            del end["Format"]
    older["Bindings"] = [end["Name"] for end in older.pop("I/O Tensors")]
    newer, elder = (read_layers(json.dumps(one).encode(), "x") for one in (raw, older))
    for first, second in zip(newer.layers, elder.layers, strict=True):
        assert first.precision == second.precision
        assert first.role == second.role
        assert [end.type for end in first.inputs] == [end.type for end in second.inputs]
    assert newer.inputs == {"images"}
    assert newer.outputs == {"denseblock1.denselayer1.conv2"}
    assert elder.inputs == newer.inputs | newer.outputs


@pytest.mark.parametrize("key", ["Layers", "layers", "LayerInfo", "layerInfo", None])
def test_layers_are_found_under_every_name(key: str | None) -> None:
    layers = json.loads((RECORDED / "trex_resnet18_fp16.json").read_text())["Layers"]
    raw = json.dumps(layers if key is None else {key: layers}).encode()
    assert read_layers(raw, "x").layers == recorded("trex_resnet18_fp16.json").layers


def test_names_only_are_no_layers() -> None:
    found = recorded("v10_names_only.json")
    assert found.names_only
    assert not found.layers
    assert found.names[1] == "conv0 + conv0.relu"


def test_onnx_nodes_come_from_the_metadata() -> None:
    gemm = recorded("v10_myelin.json").layers[2]
    assert gemm.nodes == ("/fc1/Gemm", "/fc1/input/DequantizeLinear", "/fc1/QuantizeLinear")
    assert recorded("trex_resnet18_qat.json").layers[1].nodes == (
        "conv1.weight",
        "QuantizeLinear_7",
        "Conv_9",
    )


def test_roles_of_recorded_layers() -> None:
    qat = [layer.role for layer in recorded("trex_resnet18_qat.json").layers]
    assert qat == [
        *("quantizer", "weighted", "other", "reformat", "quantizer", "weighted", "weighted"),
        *("quantizer", "nothing", "weighted", "nothing"),
    ]
    myelin = [layer.role for layer in recorded("v10_myelin.json").layers]
    assert myelin == ["other", "quantizer", "weighted", "other", "weighted", "quantizer"]


def test_hidden_types_are_taken_from_weights_and_kernels() -> None:
    raw = json.loads((RECORDED / "trex_resnet18_qat.json").read_text())
    for layer in raw["Layers"]:
        for end in (*layer["Inputs"], *layer["Outputs"]):
            end["Format/Datatype"] = "N/A due to dynamic shapes"
    conv = read_layers(json.dumps(raw).encode(), "x").layers[5]
    assert (conv.told, conv.precision) == (False, "INT8")
    for layer in raw["Layers"]:
        layer.pop("Weights", None)
    assert read_layers(json.dumps(raw).encode(), "x").layers[5].precision == "INT8"
    for layer in raw["Layers"]:
        layer.pop("TacticName", None)
    assert read_layers(json.dumps(raw).encode(), "x").layers[5].precision is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "7", "null", '{"Layers": {}}', "[1]", '[{"name": "x"}]', "[" * 100_000],
)
def test_what_is_no_list_of_layers_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="given"):
        read_layers(text.encode(), "given")


def test_a_truncated_file_is_refused() -> None:
    data = (RECORDED / "trex_resnet18_qat.json").read_bytes()
    with pytest.raises(InputError, match="no JSON"):
        read_layers(data[: len(data) // 2], "x")


scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
KEYS = ("Name", "LayerType", "Inputs", "Outputs", "Weights", "Groups", "Metadata", "Kernel")


@given(st.lists(st.dictionaries(st.sampled_from(KEYS), values), min_size=1, max_size=3))
def test_hostile_layers_never_break_the_reader(layers: list[dict[str, object]]) -> None:
    layers[0]["Name"] = "first"
    for layer in read_layers(json.dumps(layers).encode(), "x").layers:
        assert layer.role in ("weighted", "quantizer", "reformat", "nothing", "other")
        assert layer.precision is None or isinstance(layer.precision, str)
        assert layer.block


def test_a_profile_is_milliseconds_by_layer() -> None:
    data = (RECORDED / "trex_resnet18_qat.profile.json").read_bytes()
    times = read_profile(data, "x")
    assert len(times) == 11
    assert times["MaxPool_12"] == 0.095232


def test_a_profile_without_averages_is_divided_by_its_calls() -> None:
    text = '[{"count": 4}, {"name": "a", "timeMs": 8}, {"name": "a", "timeMs": 2}]'
    assert read_profile(text.encode(), "x") == {"a": 2.5}


@pytest.mark.parametrize(
    "text", ["{}", "[]", '[{"count": 1}]', '[{"name": "a"}]', '[{"name": "a", "averageMs": -1}]',
             '[{"name": "a", "averageMs": NaN}]'],
)  # fmt: skip
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        read_profile(text.encode(), "x")
