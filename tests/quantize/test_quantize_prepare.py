"""What all rewrites and ranges make of a graph together."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nets import grey_set, images, relative_error, tiny, trained

from edgedense.data import Preprocess
from edgedense.graph.lower import lower
from edgedense.graph.run import GraphRunner
from edgedense.quantize import QuantizeOptions
from edgedense.quantize.equalize import STEP, producers
from edgedense.quantize.prepare import prepare

SIZE = (32, 32)
GREY = Preprocess("tiny", SIZE, None, (0.5,), (0.25,), "bilinear", "L")


@pytest.mark.parametrize("effort", ["fast", "default", "best"])
@pytest.mark.parametrize("stem", ["cifar", "imagenet", "deep"])
def test_a_block_placement_rounds_every_concat_in_steps_of_the_equalized_spans(
    stem: str, effort: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Behind a ReLU and a pool, too: where the span is moved so that zeros are the lowest code."""
    hidden = (4, 5) if stem == "deep" else ()
    spec = replace(tiny((2, 2), 4, in_channels=1), stem=stem, stem_hidden=hidden)
    graph = lower(trained(spec), SIZE)
    sample = grey_set(tmp_path_factory.mktemp("images"), 24, SIZE)
    options = QuantizeOptions(placement="block", images=24, rest="fp32", effort=effort)
    prepared = prepare(graph, sample, GREY, options)
    assert {prepared.scales[name] for name in producers(prepared.graph)} == {STEP}
    x = images(spec, SIZE, 8)
    assert relative_error(GraphRunner(graph)(x), GraphRunner(prepared.graph)(x)) < 1e-4
