"""Images reach the first convolution without quantization error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import relative_error, sizes, specs, tiny, tiramisus, trained

from edgedense.data import Preprocess
from edgedense.graph.lower import lower
from edgedense.graph.nodes import Affine, Conv, Quantize
from edgedense.graph.run import GraphRunner
from edgedense.quantize.pixels import PIXELS, exact_pixels

any_specs = specs() | tiramisus()


def normal(channels: int, size: tuple[int, int], seed: int) -> Preprocess:
    random = np.random.default_rng(seed)
    mean, std = random.uniform(0.1, 0.9, channels), random.uniform(0.05, 0.4, channels)
    colour = "RGB" if channels == 3 else "L"
    return Preprocess("any", size, None, tuple(mean), tuple(std), "bilinear", colour)


def eight_bits(channels: int, size: tuple[int, int], count: int = 2) -> np.ndarray:
    shape = (count, *size, channels)
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_the_function_stays(data: st.DataObject) -> None:
    spec = data.draw(any_specs.filter(lambda spec: spec.in_channels in (1, 3)))
    size = data.draw(sizes(spec))
    graph = lower(trained(spec, data.draw(st.integers(0, 99))), size)
    preprocess = normal(spec.in_channels, size, data.draw(st.integers(0, 9)))
    x = preprocess.normalise(eight_bits(spec.in_channels, size))
    exact = exact_pixels(graph, preprocess)
    assert relative_error(GraphRunner(graph)(x), GraphRunner(exact)(x)) < 1e-4


@pytest.mark.parametrize("stem", ["cifar", "imagenet", "deep"])
def test_every_pixel_value_is_its_own_code(stem: str) -> None:
    spec = replace(tiny(), stem=stem)
    preprocess = normal(3, (32, 32), 0)
    graph = exact_pixels(lower(trained(spec), (32, 32)), preprocess)
    pixels = eight_bits(3, (32, 32))
    seen = {}
    GraphRunner(graph)(preprocess.normalise(pixels), lambda n, v: seen.update({n: v.numpy()}))
    stem_conv = next(node for node in graph.nodes if isinstance(node, Conv))
    assert stem_conv.input == PIXELS
    assert stem_conv.padding == 0
    border = (seen[PIXELS].shape[2] - 32) // 2
    inner = seen[PIXELS][:, :, border:-border, border:-border]
    np.testing.assert_allclose(inner, pixels.transpose(0, 3, 1, 2) - 128.0, atol=1e-3)
    quantized = replace(graph, nodes=(*graph.nodes, Quantize("codes", PIXELS, 1.0)))
    GraphRunner(quantized)(preprocess.normalise(pixels), lambda n, v: seen.update({n: v.numpy()}))
    codes = seen["codes"][:, :, border:-border, border:-border]
    np.testing.assert_array_equal(codes, pixels.transpose(0, 3, 1, 2) - 128.0)


def test_a_stem_that_stays_in_float_reads_the_images_as_they_are() -> None:
    graph = lower(trained(tiny()), (32, 32))
    assert exact_pixels(graph, normal(3, (32, 32), 0), ["conv0"]) is graph
    assert any(
        isinstance(n, Affine) and n.name == PIXELS
        for n in exact_pixels(graph, normal(3, (32, 32), 0)).nodes
    )
