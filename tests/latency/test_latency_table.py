"""Tables measured on a device: a round trip, what lies between rows, and damaged files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedense import artifact
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.densenet.spec import DenseNetSpec
from edgedense.errors import InputError
from edgedense.latency import LatencyTable, Row, predict, read_table
from edgedense.latency.kernels import PLACEMENTS
from edgedense.targets import find_target

CPU, ORIN = find_target("cpu"), find_target("jetson-orin-nano")
SPEC = DenseNetSpec.build([2, 2], 16, num_classes=10)
LAUNCH_US, MACS_US, ELEMENTS_US = 5.0, 1e-4, 1e-3


def us_of(row: Row) -> float:
    """A device that is exactly linear."""
    kernel = row.kernel()
    work = (
        MACS_US * kernel.macs(16) if kernel.side else ELEMENTS_US * (kernel.read + kernel.written)
    )
    return LAUNCH_US + work


def rows(*precisions: Any) -> tuple[Row, ...]:
    blank = [
        Row(kind, precision, wide, narrow if kind != "pass" else wide, side**2, 1.0)
        for precision in precisions
        for kind in ("conv1x1", "conv3x3", "pass")
        for wide, narrow in ((16, 16), (64, 16), (64, 64), (256, 64))
        for side in (1, 8, 32)
    ]
    return tuple(replace(row, us=us_of(row)) for row in blank)


def table(*precisions: Any, target: str = "cpu") -> LatencyTable:
    return LatencyTable(target, "onnxruntime 1.0", 20.0, rows(*precisions), {"cpu": "some"})


@pytest.fixture
def written(tmp_path: Path) -> Path:
    artifact.write_json(tmp_path / "table.json", table("fp32", "int8").to_dict())
    return tmp_path / "table.json"


def test_what_is_written_is_read(written: Path) -> None:
    found = read_table(written)
    assert found == table("fp32", "int8")
    assert found.device == {"cpu": "some"}


def test_a_measured_kernel_takes_what_was_measured() -> None:
    found = table("fp32")
    for row in found.rows:
        assert found.time(row.kernel(), CPU)[0] == row.us


@given(
    st.sampled_from(("conv1x1", "conv3x3", "pass")),
    st.integers(8, 512),
    st.integers(8, 512),
    st.integers(4, 4096),
)
@settings(deadline=None)
def test_between_and_beyond_the_rows_a_linear_device_stays_linear(
    kind: Any, fan_in: int, out: int, pixels: int
) -> None:
    row = Row(kind, "fp32", fan_in, out if kind != "pass" else fan_in, pixels, 1.0)
    found = table("fp32").time(row.kernel(), CPU)[0]
    # the shortest row counts as the launch, though it has some work
    assert found == pytest.approx(us_of(row), rel=0.05, abs=0.1)


def test_a_prediction_from_a_table_is_labelled_and_has_the_call() -> None:
    found = predict(SPEC, (32, 32), CPU, "fp32", table=table("fp32"))
    assert (found.measured, found.basis) == (True, "from measured table")
    assert (found.layers[-1].name, found.layers[-1].us) == ("call", 20.0)
    assert found.latency_ms * 1e3 == pytest.approx(sum(layer.us for layer in found.layers))
    # a table needs no data sheet, and the roofline has no say
    assert predict(SPEC, (32, 32), ORIN, "fp16", table=table("fp16", target=ORIN.name)).measured


def test_on_a_cpu_convolutions_with_floating_outputs_are_floating() -> None:
    dear = tuple(replace(row, us=1000 * row.us) for row in rows("int8"))
    mixed = replace(table("fp32"), rows=(*rows("fp32"), *dear))
    conv, block = (
        {
            layer.name: layer.us
            for layer in predict(SPEC, (32, 32), CPU, "int8", p, table=mixed).layers
        }
        for p in ("conv", "block")
    )
    name = "features.denseblock1.denselayer1"
    assert conv[f"{name}.conv1"] == block[f"{name}.conv1"] > 1000  # its one reader is INT8
    assert conv[f"{name}.conv2"] < block[f"{name}.conv2"] / 100


def test_on_a_cpu_transposed_convolutions_are_floating() -> None:
    spec = FCDenseNetSpec.build((2, 2), 2, 4, num_classes=3)
    dear = tuple(replace(row, us=1000 * row.us) for row in rows("int8"))
    mixed = replace(table("fp32"), rows=(*rows("fp32"), *dear))
    for placement in PLACEMENTS:
        found = predict(spec, (32, 32), CPU, "int8", placement, table=mixed)
        up = [layer.us for layer in found.layers if layer.kind == "transposed"]
        assert len(up) == 2
        assert max(up) < 1000


def test_a_table_of_another_device_is_refused() -> None:
    with pytest.raises(InputError, match="measured on cpu, not on jetson-orin-nano"):
        predict(SPEC, (32, 32), ORIN, table=table("fp32"))


def test_rows_that_are_missing_are_named() -> None:
    with pytest.raises(InputError, match="no INT8 rows of conv"):
        predict(SPEC, (32, 32), CPU, "int8", "block", table=table("fp32"))


def _with_row(**changes: Any) -> dict[str, Any]:
    raw = json.loads(json.dumps(table("fp32").to_dict()))
    raw["rows"][3].update(changes)
    return raw


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({}, "format None"),
        ([], "format None"),
        (_with_row() | {"format": "edgedense-latency/2"}, "format 'edgedense-latency/2'"),
        (_with_row() | {"rows": []}, "no rows"),
        (_with_row() | {"rows": None}, "damaged"),
        (_with_row() | {"rows": [1]}, "damaged"),
        (_with_row() | {"device": 3}, "damaged"),
        (_with_row() | {"call_us": -1}, "no time"),
        (_with_row() | {"call_us": True}, "no time"),
        (_with_row(us=float("nan")), "nan is no time"),
        (_with_row(us=float("inf")), "inf is no time"),
        (_with_row(us=10**400), "no time"),
        (_with_row(us=1e300), "no time"),
        (_with_row(us="9"), "no time"),
        (_with_row(us=0), "no time"),
        (_with_row(kind="conv5x5"), "conv5x5"),
        (_with_row(kind=[]), "damaged"),
        (_with_row(precision="int4"), "int4"),
        (_with_row(positions=0), "channels and pixels"),
        (_with_row(fan_in=1.5), "channels and pixels"),
        (_with_row(out=1 << 40), "channels and pixels"),
        (_with_row(more=1), "a row of"),
        ({k: v for k, v in _with_row().items() if k != "target"}, "target"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_tables_are_refused(raw: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(raw))
    with pytest.raises(InputError, match=r"t\.json") as caught:
        read_table(tmp_path / "t.json")
    assert said in caught.value.what
    assert "profile-target" in caught.value.remedy


def test_no_table_at_all(written: Path) -> None:
    text = written.read_text()
    written.write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match="cut short"):
        read_table(written)
    written.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="no JSON"):
        read_table(written)
    with pytest.raises(InputError, match="No such file"):
        read_table(written.parent / "none.json")
    with pytest.raises(InputError):
        read_table(written.parent)
