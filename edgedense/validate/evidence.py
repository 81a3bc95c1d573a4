"""What stands beside the verdict: which answers changed, by how much, and in which classes.

Everything here is plain JSON values; shares and probabilities are in percent unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedense import stats

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

# networks without a recorded activation are trained on cross-entropy, which means softmax
SOFTMAX = {"softmax": "recorded", "log_softmax": "recorded", "none": "supposed"}
FEWEST_IN_CLASS = 20  # images of a class below which its accuracy says little
PROVEN = 0.05
NOTABLE_ECE_PP = 0.5
MOST_WORST = 5
MOST_EXAMPLES = 5


def divergences(reference: Floats, engine: Floats, activation: str) -> dict[str, Any]:
    """KL(FP32 || engine) in nats an image: its mean and its largest; None with NaN or infinity.

    Of softmax; of independent labels (sigmoid) their sum.
    """
    by = stats.divergence if activation in SOFTMAX else stats.label_divergence
    found = by(reference, engine)
    whole = bool(len(found)) and bool(np.isfinite(found).all())
    return {
        "kl_nats": float(found.mean()) if whole else None,
        "kl_max_nats": float(found.max()) if whole else None,
    }


def margin_change(reference: Floats, engine: Floats) -> dict[str, float] | None:
    """How far the reference's answer leads the next class, in logits, in both networks.

    ``change`` is the mean of engine minus reference, ``change_p5`` its lower 5 %: a lead that
    shrinks is a flip to come. None with NaN or infinity, or fewer than two classes.
    """
    if reference.shape[1] < 2 or not stats.finite_rows(engine).all():
        return None
    answers = np.argmax(reference, axis=1)
    before, after = stats.margins(reference, answers), stats.margins(engine, answers)
    change = after - before
    return {
        "reference": float(before.mean()),
        "engine": float(after.mean()),
        "change": float(change.mean()),
        "change_p5": float(np.quantile(change, 0.05)),
    }


def flips(
    names: Sequence[str],
    labels: Ints,
    reference: Floats,
    engine: Floats,
    class_names: Sequence[str] = (),
) -> dict[str, Any]:
    """Images whose answer changed: how many each way, and some of each by name.

    ``lost``: only the reference was right; ``gained``: only the engine; ``wrong_both``: another
    wrong answer; ``unlabelled``: changed, and nobody knows which is right. Examples come with the
    engine's probability of its answer, the surest first. An answer is None where the engine gave
    NaN or infinity.
    """
    changed = ~stats.agreeing(engine, reference)
    was, now = np.argmax(reference, axis=1), np.argmax(engine, axis=1)
    finite = stats.finite_rows(engine)
    was_right, now_right, known = was == labels, (now == labels) & finite, labels >= 0
    kinds = {
        "lost": known & was_right & ~now_right,
        "gained": known & ~was_right & now_right,
        "wrong_both": changed & known & ~was_right & ~now_right,
        "unlabelled": changed & ~known,
    }
    sure = np.where(finite, stats.confidences(engine), -1.0)

    def example(row: int) -> dict[str, Any]:
        return {
            "image": names[row] if names else str(row),
            "label": _called(labels[row], class_names) if known[row] else None,
            "reference": _called(was[row], class_names),
            "engine": _called(now[row], class_names) if finite[row] else None,
            "confidence": 100 * float(sure[row]) if finite[row] else None,
        }

    examples = {}
    for kind, rows in kinds.items():
        surest = sorted(np.flatnonzero(rows), key=lambda row: -sure[row])[:MOST_EXAMPLES]
        examples[kind] = [example(int(row)) for row in surest]
    return {
        "changed": int(changed.sum()),
        **{kind: int(rows.sum()) for kind, rows in kinds.items()},
        "examples": examples,
    }


def per_class(
    labels: Ints, reference: Bools, engine: Bools, class_names: Sequence[str] = ()
) -> dict[str, Any]:
    """Which classes lost: McNemar's exact test for each, adjusted for all of them after Holm.

    ``few`` counts classes with fewer than ``fewest`` images; ``worse`` names those whose loss is
    proven; ``worst`` are the losing ones with the smallest p.
    """
    found = stats.class_changes(labels, reference, engine)
    losing = [change for change in found if change.counts.drop > 0]
    losing.sort(key=lambda change: (change.p, -change.counts.drop))
    return {
        "tested": len(found),
        "fewest": FEWEST_IN_CLASS,
        "few": sum(change.counts.n < FEWEST_IN_CLASS for change in found),
        "worse": [_called(c.index, class_names) for c in losing if c.p_holm <= PROVEN],
        "worst": [_class_row(change, class_names) for change in losing[:MOST_WORST]],
    }


def calibration(
    labels: Ints, reference: Floats | None, engine: Floats, activation: str
) -> dict[str, Any] | None:
    """Expected calibration error of both networks and its change, in percentage points.

    ``softmax`` says whether the trained network's softmax is ``recorded`` or ``supposed``. None for
    other activations, without labels, and where the engine gave NaN or infinity.
    """
    if activation not in SOFTMAX or engine.shape[1] < 2 or not len(labels):
        return None
    if not stats.finite_rows(engine).all():
        return None
    sure, right = stats.confidences(engine), stats.top_k(engine, labels, 1)
    found: dict[str, Any] = {
        "softmax": SOFTMAX[activation],
        "bins": stats.BINS,
        "engine": _errors(stats.calibration_error(sure, right)),
        "reference": None,
        "change_pp": None,
        "change_ci95": None,
    }
    if reference is not None:
        sure_before, right_before = (
            stats.confidences(reference),
            stats.top_k(reference, labels, 1),
        )
        change = stats.calibration_change((sure_before, sure), (right_before, right)).scaled(100)
        found["reference"] = _errors(stats.calibration_error(sure_before, right_before))
        found["change_pp"], found["change_ci95"] = change.value, list(change.interval)
    return found


def notes(details: dict[str, Any], activation: str, outputs: int) -> tuple[str, ...]:
    """Plain sentences on what deserves a look, whatever the verdict."""
    found = []
    classes, error = details["classes"], details["calibration"]
    if activation not in SOFTMAX:
        found.append(
            f"The network's {outputs} outputs are independent labels ({activation}): top-1 looks "
            "at the largest alone, and says little where several can be true."
        )
    if classes and classes["worse"]:
        named = ", ".join(map(str, classes["worse"][:MOST_WORST]))
        found.append(
            f"Classes with a proven loss (McNemar with Holm's correction for {classes['tested']}): "
            f"{named}{', …' if len(classes['worse']) > MOST_WORST else ''}."
        )
    if classes and classes["few"]:
        found.append(
            f"{classes['few']} of {classes['tested']} classes have fewer than {FEWEST_IN_CLASS} "
            "images: too few to judge a class by."
        )
    if error and error["change_ci95"] and error["change_ci95"][0] > NOTABLE_ECE_PP:
        low, high = error["change_ci95"]
        found.append(
            f"Probabilities are less to be trusted than FP32's: calibration error "
            f"{error['change_pp']:+.2f} pp, 95 % interval [{low:.2f}, {high:.2f}] pp."
        )
    return tuple(found)


def guessing(least_top1: float, outputs: int, activation: str) -> tuple[str, ...]:
    """A sentence where FP32 itself is not shown to be better than guessing; else none.

    ``least_top1`` is the lower end of its interval in percent. An engine can agree with a network
    that was fed wrong labels or colours, and pass.
    """
    if activation not in SOFTMAX or outputs < 2 or least_top1 > 100 / outputs:
        return ()
    return (
        f"FP32 itself is no better here than guessing among {outputs} classes: check the order of "
        "the class folders and --preprocess. The engine agrees with it, which says nothing then.",
    )


def _class_row(change: stats.ClassChange, class_names: Sequence[str]) -> dict[str, Any]:
    counts = change.counts
    both = counts.both or 0
    return {
        "class": _called(change.index, class_names),
        "images": counts.n,
        "reference_top1": 100 * (both + counts.lost) / counts.n,
        "engine_top1": 100 * (both + counts.gained) / counts.n,
        "drop_pp": 100 * counts.drop,
        "lost": counts.lost,
        "gained": counts.gained,
        "p": change.p,
        "p_holm": change.p_holm,
    }


def _errors(found: stats.CalibrationError) -> dict[str, float]:
    return {
        "ece_pp": 100 * found.ece,
        "ece_debiased_pp": 100 * found.debiased,
        "ece_adaptive_pp": 100 * found.adaptive,
    }


def _called(index: int | np.integer[Any], class_names: Sequence[str]) -> str | int:
    known = int(index)
    return class_names[known] if known < len(class_names) else known
