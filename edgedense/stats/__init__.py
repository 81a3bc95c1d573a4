"""Statistics of the evidence, in numpy only: paired accuracy, segmentation, latency, logits.

Every function takes plain arrays or counts and knows nothing of engines or files.
"""

from edgedense.stats.latency import (
    block_variation,
    bootstrap_ratio,
    percentile,
    percentile_interval,
    variation,
)
from edgedense.stats.logits import (
    SQNR_CAP_DB,
    agreeing,
    finite_rows,
    logit_sqnr_db,
    sqnr_db,
    top_k,
)
from edgedense.stats.paired import (
    Estimate,
    PairedCounts,
    images_to_decide,
    mcnemar_p,
    paired_difference,
    wilson,
)
from edgedense.stats.segmentation import (
    NO_CLASS,
    answers,
    bootstrap_drop,
    class_pixels,
    confusion,
    images_to_separate,
    iou,
    mean_iou,
    pixel_accuracy,
)

__all__ = [
    "NO_CLASS",
    "SQNR_CAP_DB",
    "Estimate",
    "PairedCounts",
    "agreeing",
    "answers",
    "block_variation",
    "bootstrap_drop",
    "bootstrap_ratio",
    "class_pixels",
    "confusion",
    "finite_rows",
    "images_to_decide",
    "images_to_separate",
    "iou",
    "logit_sqnr_db",
    "mcnemar_p",
    "mean_iou",
    "paired_difference",
    "percentile",
    "percentile_interval",
    "pixel_accuracy",
    "sqnr_db",
    "top_k",
    "variation",
    "wilson",
]
