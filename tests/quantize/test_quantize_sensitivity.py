"""What each quantizer costs alone: forked runs are whole runs, and what is made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Floats, grey_set, images, sizes, specs, tiny, tiramisus, trained

from edgedense import artifact
from edgedense.data import Batch, ImageSet, Preprocess, batches
from edgedense.densenet.checkpoints import Model
from edgedense.densenet.family import Spec
from edgedense.errors import InputError
from edgedense.graph.lower import lower
from edgedense.graph.nodes import Concat, Graph, Quantize, Weighted, inputs_of
from edgedense.graph.run import GraphRunner
from edgedense.quantize import QuantizeOptions, quantize
from edgedense.quantize.concats import families
from edgedense.quantize.forks import Loss, Run, TailRunner, forks, quantized_only
from edgedense.quantize.place import (
    family_name,
    named_families,
    place_block,
    place_conv,
    weight_scales,
)
from edgedense.quantize.sensitivity import Row, Sensitivity, measure_sensitivity, units_of
from edgedense.stats import logit_sqnr_db

SIZE = (8, 8)
GREY = Preprocess("tiny", SIZE, None, (0.5,), (0.25,), "bilinear", "L")
SPEC = tiny((2, 3), 4, in_channels=1)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return grey_set(tmp_path_factory.mktemp("images"), 45, SIZE)


def scales_of(graph: Graph, x: Floats) -> dict[str, float]:
    """One for every value; a family's producers share theirs."""
    found: dict[str, float] = {}

    def observe(name: str, value: Any) -> None:
        found[name] = max(float(value.abs().max()) / 127, 1e-6)

    GraphRunner(graph)(x.copy(), observe)
    for family in families(graph):
        found.update(dict.fromkeys(family.producers, max(found[p] for p in family.producers)))
    return found


def only_pair(graph: Graph, name: str, scale: float, reader: str) -> Graph:
    """``graph`` with one Q/DQ pair in front of one reader: built by hand."""
    nodes = []
    for node in graph.nodes:
        if node.name == reader:
            nodes.append(Quantize("pair", name, scale))
            node = replace(node, input="pair")  # noqa: PLW2901
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


@pytest.mark.parametrize("placement", ["conv", "block"])
def test_a_sensitivity_is_that_of_the_whole_graph_with_this_quantizer_alone(
    placement: str, sample: ImageSet
) -> None:
    graph = lower(trained(SPEC), SIZE)
    some = next(iter(batches(sample, GREY, 20))).images
    scales = scales_of(graph, some)
    placed = (place_block if placement == "block" else place_conv)(graph, scales)
    found = measure_sensitivity(graph, placed, sample, GREY, 1000)
    assert found.images == 45

    # the same 45 images, in the same batches: rounding of sums is the same
    parts = [b.images for b in batches(sample, GREY, 32)]

    def answers(variant: Graph) -> Floats:
        return np.concatenate([GraphRunner(variant)(part.copy()) for part in parts])

    fp32 = answers(graph)

    def loss(variant: Graph) -> tuple[float | None, int]:
        logits = answers(variant)
        flips = int((logits.argmax(1) != fp32.argmax(1)).sum())
        return logit_sqnr_db(fp32, logits), flips

    weighted = {node.name: node for node in graph.weighted()}
    kinds = {"activation", "weight"} | ({"concat"} if placement == "block" else set())
    assert {row.kind for row in found.rows} == kinds
    for row in found.rows:
        if row.kind == "activation":
            assert row.reader is not None
            variant = only_pair(graph, row.name, scales[row.name], row.reader)
        elif row.kind == "weight":
            node = weighted[row.name]
            own = replace(node, weight_scale=weight_scales(node))
            variant = graph.map(lambda n, own=own: own if n.name == own.name else n)
        else:
            others = [name for name in named_families(graph) if name != row.name]
            variant = place_block(graph, scales, weighted, others)
        wanted_db, flips = loss(variant)
        assert row.loss.sqnr_db == pytest.approx(wanted_db, abs=1e-9), row
        assert (row.loss.flips, row.loss.flips_share) == (flips, flips / 45)
    assert sum(row.kind == "weight" for row in found.rows) == len(weighted)
    assert sum(row.kind == "activation" for row in found.rows) == len(weighted)
    assert sum(row.kind == "concat" for row in found.rows) == (2 if placement == "block" else 0)
    wanted_db, flips = loss(placed)
    assert found.everything.sqnr_db == pytest.approx(wanted_db, abs=1e-9)
    assert found.everything.flips == flips


class Kept(Run):
    """Also keeps the logits."""

    def add(self, live: Any, wanted: Floats) -> None:
        before = {name: value.clone() for name, value in live.items()}
        super().add(live, wanted)
        assert all((live[name] == value).all() for name, value in before.items())
        self.wanted, self.found = wanted, TailRunner(self.graph, live).resume(self.start, live)


@settings(deadline=None, max_examples=20)
@given(st.data())
def test_a_forked_run_is_the_whole_run_to_the_last_bit(data: st.DataObject) -> None:
    """Any network of the family, either placement; and a fork changes nothing that it reads."""
    spec: Spec = data.draw(specs() | tiramisus())
    size = data.draw(sizes(spec))
    graph = lower(trained(spec), size)
    x = images(spec, size, 2)
    place = data.draw(st.sampled_from((place_conv, place_block)))
    placed = place(graph, scales_of(graph, x))
    units = units_of(graph, placed)
    names = [name for unit in units for name in unit.members]
    assert len(set(names)) == len(names)
    assert set(names) == {
        node.name
        for node in placed.nodes
        if isinstance(node, Quantize)
        or (isinstance(node, Weighted) and node.weight_scale is not None)
    }
    runs = [Kept(graph, quantized_only(graph, placed, unit.members)) for unit in units]
    pre = Preprocess("x", size, None, (0.0,), (1.0,), "bilinear", "L")
    batch = Batch(x, np.zeros(2, np.int64), ("a", "b"), ("a", "b"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgedense.quantize.forks.batches", lambda *_: iter([batch]))
        done = list(forks(graph, list(runs), ImageSet("x", ()), pre))
    assert len(done) == len(runs)
    whole = GraphRunner(graph)(x.copy())
    for run in runs:
        np.testing.assert_array_equal(run.wanted, whole)
        np.testing.assert_array_equal(run.found, GraphRunner(run.graph)(x.copy()))
        assert graph.nodes[: run.start] == run.graph.nodes[: run.start]
    everything = quantized_only(graph, placed, names)
    np.testing.assert_array_equal(GraphRunner(everything)(x.copy()), GraphRunner(placed)(x.copy()))
    assert quantized_only(graph, placed, ()).nodes == graph.nodes


def test_images_are_taken_by_stride(sample: ImageSet) -> None:
    graph = lower(trained(SPEC), SIZE)
    placed = place_conv(graph, scales_of(graph, images(SPEC, SIZE)))
    one = replace(sample, items=(sample.items[0], sample.items[15], sample.items[30]))
    few = measure_sensitivity(graph, placed, sample, GREY, 3)
    assert few == measure_sensitivity(graph, placed, one, GREY, 50)
    assert few.images == 3


def row(reader: str, sqnr_db: float | None, kind: Any = "activation", flips: int = 0) -> Row:
    block, layer = reader.partition(".")[0], int(reader.split("layer")[1][0])
    return Row(kind, f"{reader}.x", reader, block, layer, Loss(sqnr_db, flips, 0.0))


def test_maps_lines_and_the_worst() -> None:
    rows = (
        row("b1.layer1.conv1", 40.0),
        row("b1.layer1.conv2", 50.0),
        row("b1.layer2.conv1", 61.0),
        row("b1.layer2.conv2", 40.0, flips=3),
        row("b2.layer1.conv1", None),
        row("b2.layer3.conv1", 20.0, "weight"),
    )
    found = Sensitivity(7, Loss(19.0, 1, 0.1), rows)
    assert found.worst(3) == (rows[4], rows[5], rows[3])
    maps = {(m.kind, m.operator): m for m in found.maps()}
    assert set(maps) == {("activation", "conv1"), ("activation", "conv2"), ("weight", "conv1")}
    first = maps["activation", "conv1"]
    assert (first.blocks, first.layers) == (("b1", "b2"), (1, 2))
    assert first.sqnr_db == ((40.0, 61.0), (None, None))
    assert maps["weight", "conv1"].sqnr_db == ((None, None, 20.0),)
    lines = {(line.block, line.kind): line for line in found.lines()}
    both = 10 * np.log10(1 / (1e-4 + 1e-5))
    assert lines["b1", "activation"].worst_db == pytest.approx(
        min(both, 10 * np.log10(1 / (10**-6.1 + 1e-4)))
    )
    assert lines["b2", "activation"].worst_db is None
    assert lines["b2", "activation"].bars == lines["b2", "weight"].bars == "█"
    assert lines["b1", "activation"].bars == "▂▂"  # some 20 dB better: six steps lower


def test_a_map_of_many_layers_fits_a_line() -> None:
    first = row("b1.layer1.conv1", 40.0)
    rows = tuple(replace(first, layer=n, loss=Loss(40.0 + n, 0, 0.0)) for n in range(1, 65))
    (line,) = Sensitivity(1, Loss(1.0, 0, 0.0), rows).lines()
    assert len(line.bars) == 32
    assert line.bars[0] == "█"
    assert list(line.bars) == sorted(line.bars, reverse=True)


@settings(deadline=None, max_examples=25)
@given(specs() | tiramisus(), st.data())
def test_families_have_names_by_their_dense_blocks(spec: Spec, data: st.DataObject) -> None:
    graph = lower(trained(spec), (64, 64))
    named = named_families(graph)
    assert list(named.values()) == list(families(graph))  # no two have one name
    blocks = [block for name in named for block in name.split("+")]
    assert len(set(blocks)) == len(blocks)
    for name in named:
        for called in (name, *name.split("+")):
            assert family_name(graph, called) == name


@settings(deadline=None, max_examples=25)
@given(specs() | tiramisus(), st.data())
def test_a_block_whose_concat_stays_in_floating_point(spec: Spec, data: st.DataObject) -> None:
    graph = lower(trained(spec), (64, 64))
    scales = scales_of(graph, images(spec, (64, 64), 1))
    named = named_families(graph)
    if not named:
        return
    left = data.draw(st.lists(st.sampled_from(list(named)), unique=True, min_size=1))
    placed = place_block(graph, scales, (), [name.split("+")[0] for name in left])
    nodes = {node.name: node for node in placed.nodes}
    for name, family in named.items():
        for concat in family.concats:
            node = nodes[concat]
            assert isinstance(node, Concat)
            parts = [nodes.get(part) for part in node.inputs]
            pairs = [part for part in parts if isinstance(part, Quantize)]
            if name in left:
                assert not pairs
            else:
                direct = [p for p in parts if not isinstance(p, Concat)]
                assert pairs == direct
                assert len({pair.scale for pair in pairs}) <= 1
    # its convolutions are INT8 all the same, and read by the scales of placement conv
    for node in placed.nodes:
        if isinstance(node, Weighted):
            assert node.weight_scale is not None
            assert isinstance(nodes[node.input], Quantize)
    if set(left) == set(named):
        conv = place_conv(graph, scales)
        assert [n.name for n in placed.nodes] == [n.name for n in conv.nodes]
        assert [inputs_of(n) for n in placed.nodes] == [inputs_of(n) for n in conv.nodes]
        for ours, theirs in zip(placed.nodes, conv.nodes, strict=True):
            if isinstance(ours, Quantize) and isinstance(theirs, Quantize):
                assert ours.scale == theirs.scale


def test_an_unknown_dense_block_names_those_that_are_there() -> None:
    graph = lower(trained(SPEC), SIZE)
    with pytest.raises(InputError, match="--float-concat denseblock9: no such") as caught:
        family_name(graph, "denseblock9")
    assert "denseblock1" in caught.value.remedy
    with pytest.raises(InputError) as caught:
        family_name(graph, "??")
    assert caught.value.remedy == "There are: denseblock1, denseblock2"


def test_float_concats_and_sensitivity_through_the_stage(sample: ImageSet, tmp_path: Path) -> None:
    model = Model(trained(SPEC), "torchvision", "0" * 64, Path("model.pth"))
    options = QuantizeOptions(
        placement="block",
        images=24,
        rest="fp32",
        float_concats=("denseblock2",),
        sensitivity=True,
        sensitivity_images=20,
    )
    report = quantize(model, sample, GREY, tmp_path / "x", options)
    assert report.float_concats == ("denseblock2",)
    assert report.sensitivity is not None
    assert [r.name for r in report.sensitivity.rows if r.kind == "concat"] == ["denseblock1"]
    made = artifact.read(tmp_path / "x")
    table = json.loads(made.data("sensitivity.json"))
    assert table == json.loads(json.dumps(report.sensitivity.to_dict()))
    assert table["images"] == 20
    first = table["rows"][0]
    assert set(first) == {
        *("kind", "name", "reader", "block", "layer"),
        *("sqnr_db", "flips", "flips_share"),
    }
    assert made.manifest.report["sensitivity"]["worst"][0]["sqnr_db"] == min(
        r["sqnr_db"] for r in table["rows"]
    )
    for found in table["maps"]:
        assert len(found["sqnr_db"]) == len(found["blocks"]) == 2
        assert {len(line) for line in found["sqnr_db"]} == {len(found["layers"])} == {3}
        assert found["sqnr_db"][0][2] is None


def test_the_command_line(tiny: Any, edgedense: Callable[..., Any], tmp_path: Path) -> None:
    words = ["quantize", tiny.checkpoint, "--calib", tiny.train, "--preprocess", tiny.toml]
    words += ["--images", 32, "--rest", "fp32"]
    wide = ["--sensitivity", "--placement", "block", "--float-concat", "denseblock1"]
    ended = edgedense(*words, "-o", tmp_path / "a", *wide, "--sensitivity-images", 20)
    assert ended.code == 0, ended.err
    assert "what costs most, alone in INT8, on 20 calibration images" in ended.err
    assert "everything" in ended.err
    assert "denseblock2" in ended.err
    assert max(map(len, ended.err.splitlines()[:-3])) <= 80

    ended = edgedense(*words, "-o", tmp_path / "b", "--float-concat", "denseblock1")
    assert ended.code == 2
    assert "with --placement conv no concat is in INT8" in ended.error[0]
    wrong = [*words, "--placement", "block", "--float-concat", "denseblok1"]
    ended = edgedense(*wrong, "-o", tmp_path / "b")
    assert ended.code == 2
    assert "no such dense block" in ended.error[0]
    assert "Nearest: denseblock1" in ended.error[1]
    assert edgedense(*words, "-o", tmp_path / "b", "--sensitivity-images", 0).code == 2
    assert not (tmp_path / "b").exists()
