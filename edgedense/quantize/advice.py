"""What to do about INT8 concats that cost more than they are worth."""

from __future__ import annotations

from collections.abc import Iterable

from edgedense.graph.nodes import Array
from edgedense.graph.run import GraphRunner
from edgedense.quantize.choose import Chosen
from edgedense.quantize.options import QuantizeOptions
from edgedense.quantize.place import named_families, place_block
from edgedense.quantize.prepare import Prepared
from edgedense.quantize.verify import decibels, in_parts

# concats that add three times the noise of all else
_DEAR_DB = 6.0


def concat_advice(
    prepared: Prepared,
    chosen: Chosen,
    options: QuantizeOptions,
    images: Array,
    fp32: Array,
    found_db: float,
) -> tuple[str, ...]:
    """A line where INT8 concats take more than 6 dB from the logits, and whose to leave out.

    ``fp32`` are the logits of ``images`` (N, C, H, W), ``found_db`` the SQNR of what was chosen.
    Measured in the simulation; networks trained on photographs can lose most in their first block,
    whose concat holds the stem's long-tailed values.
    """
    named = tuple(named_families(prepared.graph))
    left = [name for name in named if name not in chosen.float_concats]
    if options.placement != "block" or not left:
        return ()

    def sqnr_db(float_concats: Iterable[str]) -> float:
        graph, scales = prepared.graph, prepared.scales
        placed = place_block(
            graph, scales, chosen.skip, float_concats, rest=options.rest, weights=prepared.weights
        )
        return decibels(fp32, in_parts(GraphRunner(placed), images))

    best_db = sqnr_db(named)
    if not best_db - found_db > _DEAR_DB:
        return ()
    without = {name: sqnr_db((*chosen.float_concats, name)) for name in left}
    name = max(left, key=lambda name: without[name])
    return (
        f"INT8 concats take the logits from {best_db:.1f} to {found_db:.1f} dB: --float-concat "
        f"{name} gives {without[name]:.1f} dB, and --max-drop leaves out what costs too much",
    )
