"""Statistics of the evidence, in numpy only: paired accuracy, latency, logits.

Every function takes plain arrays or counts and knows nothing of engines or files.
"""

from edgedense.stats.latency import (
    block_variation,
    bootstrap_ratio,
    percentile,
    percentile_interval,
    variation,
)
from edgedense.stats.logits import SQNR_CAP_DB, agreeing, finite_rows, logit_sqnr_db, top_k
from edgedense.stats.paired import (
    Estimate,
    PairedCounts,
    images_to_decide,
    mcnemar_p,
    paired_difference,
    wilson,
)

__all__ = [
    "SQNR_CAP_DB",
    "Estimate",
    "PairedCounts",
    "agreeing",
    "block_variation",
    "bootstrap_ratio",
    "finite_rows",
    "images_to_decide",
    "logit_sqnr_db",
    "mcnemar_p",
    "paired_difference",
    "percentile",
    "percentile_interval",
    "top_k",
    "variation",
    "wilson",
]
