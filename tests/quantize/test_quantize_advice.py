"""INT8 concats that cost too much are told of, with the dense block to leave out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nets import Floats, grey_set, images, tiny, trained

from edgedense.data import Preprocess
from edgedense.graph.lower import lower
from edgedense.graph.run import GraphRunner
from edgedense.quantize import QuantizeOptions
from edgedense.quantize.advice import concat_advice
from edgedense.quantize.choose import Chosen
from edgedense.quantize.place import named_families, place_block
from edgedense.quantize.prepare import Prepared, prepare
from edgedense.quantize.verify import decibels

SIZE = (8, 8)
SPEC = tiny((2, 3), 4, in_channels=1)
GREY = Preprocess("tiny", SIZE, None, (0.5,), (0.25,), "bilinear", "L")
OPTIONS = QuantizeOptions(placement="block", images=24, rest="fp32")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    sample = grey_set(tmp_path_factory.mktemp("images"), 24, SIZE)
    graph = lower(trained(SPEC), SIZE)
    return prepare(graph, sample, GREY, OPTIONS)


def coarse(prepared: Prepared, block: str, factor: float) -> Prepared:
    """With the concat of one dense block on a grid ``factor`` times as wide."""
    producers = named_families(prepared.graph)[block].producers
    wide = {name: factor * prepared.scales[name] for name in producers}
    return replace(prepared, scales={**prepared.scales, **wide})


def advised(
    prepared: Prepared, options: QuantizeOptions = OPTIONS, left: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], float]:
    """The advice, and the SQNR that it was given for."""
    placed = place_block(
        prepared.graph, prepared.scales, (), left, rest="fp32", weights=prepared.weights
    )
    x: Floats = images(SPEC, SIZE, 20)
    fp32 = GraphRunner(prepared.graph)(x)
    found_db = decibels(fp32, GraphRunner(placed)(x))
    chosen = Chosen(placed, (), left, None, None)
    return concat_advice(prepared, chosen, options, x, fp32, found_db), found_db


def test_nothing_is_said_of_concats_that_cost_little(prepared: Prepared) -> None:
    assert advised(prepared)[0] == ()


@pytest.mark.parametrize("block", ["denseblock1", "denseblock2"])
def test_the_block_that_costs_most_is_named(prepared: Prepared, block: str) -> None:
    broken = coarse(prepared, block, 24)
    (line,), found_db = advised(broken)
    better_db = advised(broken, left=(block,))[1]
    assert better_db > found_db + 6
    assert f"to {found_db:.1f} dB: --float-concat {block} gives {better_db:.1f} dB" in line
    assert advised(broken, left=(block,))[0] == ()


def test_placement_conv_has_no_such_concats(prepared: Prepared) -> None:
    options = replace(OPTIONS, placement="conv")
    assert advised(coarse(prepared, "denseblock1", 24), options)[0] == ()


def test_all_concats_in_float_leave_nothing_to_say(prepared: Prepared) -> None:
    assert advised(prepared, left=tuple(named_families(prepared.graph)))[0] == ()
