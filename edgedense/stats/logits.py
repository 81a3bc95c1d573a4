"""What logits say: right answers, agreement, noise and divergence against a reference."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SQNR_CAP_DB = 200.0
ROWS_AT_ONCE = 4096


def finite_rows(logits: Floats) -> Bools:
    """Which rows of logits (N, classes) hold neither NaN nor infinity: (N,)."""
    rows = [np.isfinite(logits[part]).all(axis=1) for part in _parts(len(logits))]
    return np.concatenate(rows) if rows else np.zeros(0, dtype=np.bool_)


def top_k(logits: Floats, labels: Ints, k: int) -> Bools:
    """Whether each label (N,) is among the k largest of its row of logits (N, classes): (N,).

    Ties go to the lower class, as in argmax, so k = 1 is what argmax says. A row with NaN or
    infinity is wrong whatever its label.
    """
    right = np.zeros(len(logits), dtype=np.bool_)
    classes = np.arange(logits.shape[1])
    for part in _parts(len(logits)):
        rows, label = logits[part], labels[part, None]
        own = np.take_along_axis(rows, label, axis=1)
        ahead = (rows > own) | ((rows == own) & (classes < label))
        right[part] = np.count_nonzero(ahead, axis=1) < k
    right &= finite_rows(logits)
    return right


def agreeing(first: Floats, second: Floats) -> Bools:
    """Whether two sets of logits (N, classes) name the same class, row by row: (N,).

    A row with NaN or infinity in either names none.
    """
    same: Bools = np.argmax(first, axis=1) == np.argmax(second, axis=1)
    return same & finite_rows(first) & finite_rows(second)


def logit_sqnr_db(reference: Floats, logits: Floats) -> float | None:
    """Signal-to-quantization-noise ratio of logits (N, classes) in dB, over all of them at once.

    10 * log10(sum(reference^2) / sum((reference - logits)^2)), in float64. Equal logits give
    SQNR_CAP_DB instead of infinity, which JSON does not know; None where something is not finite,
    or where the reference is all zero.
    """
    signal = noise = 0.0
    for part in _parts(len(reference)):
        expected = reference[part].astype(np.float64)
        got = logits[part].astype(np.float64)
        if not (np.isfinite(expected).all() and np.isfinite(got).all()):
            return None
        signal += float(np.sum(expected**2))
        noise += float(np.sum((expected - got) ** 2))
    return sqnr_db(signal, noise)


def divergence(reference: Floats, logits: Floats) -> Doubles:
    """KL(reference || logits) of the softmax of each row of logits (N, classes): nats, (N,).

    What is lost, on average, by coding with the second network's probabilities what the first's
    say; 0 where both agree. Source: Kullback and Leibler, Annals of Mathematical Statistics 22
    (1951) 79-86. NaN in rows that hold NaN or infinity.
    """
    found = [
        np.sum(np.exp(p) * (p - q), axis=1)
        for p, q in zip(_log_softmax(reference), _log_softmax(logits), strict=True)
    ]
    return _not_negative(found)


def label_divergence(reference: Floats, logits: Floats) -> Doubles:
    """The same for independent labels, each by sigmoid: summed over a row's labels, (N,)."""
    found = []
    for part in _parts(len(reference)):
        p, q = reference[part].astype(np.float64), logits[part].astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            yes = 1 / (1 + np.exp(-p))
            cost = np.logaddexp(0, q) - yes * q - (np.logaddexp(0, p) - yes * p)
        found.append(np.where(np.isfinite(p) & np.isfinite(q), cost, np.nan).sum(axis=1))
    return _not_negative(found)


def margins(logits: Floats, classes: Ints) -> Doubles:
    """How far the logit of ``classes`` (N,) is above the largest other one of its row: (N,).

    Negative where another class is named. Errors: ValueError for fewer than two classes.
    """
    if logits.shape[1] < 2:
        raise ValueError("a margin needs two classes")
    others = logits.astype(np.float64)
    rows = np.arange(len(logits))
    own = others[rows, classes]
    others[rows, classes] = -np.inf
    found: Doubles = own - others.max(axis=1)
    return found


def confidences(logits: Floats) -> Doubles:
    """Softmax probability of the largest of each row of logits (N, classes): (N,)."""
    found = [np.exp(part.max(axis=1)) for part in _log_softmax(logits)]
    return np.concatenate(found) if found else np.zeros(0)


def sqnr_db(signal: float, noise: float) -> float | None:
    """10 * log10(signal / noise) of two energies, at most SQNR_CAP_DB.

    None where there is no signal, or where one of them is not finite.
    """
    if signal == 0 or not (math.isfinite(signal) and math.isfinite(noise)):
        return None
    return min(SQNR_CAP_DB, 10 * math.log10(signal / noise)) if noise else SQNR_CAP_DB


def _log_softmax(logits: Floats) -> Iterator[Doubles]:
    for part in _parts(len(logits)):
        rows = logits[part].astype(np.float64)
        with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN, as it should be
            shifted = rows - rows.max(axis=1, keepdims=True)
            yield shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _not_negative(parts: list[Doubles]) -> Doubles:
    """Rounding must not make a divergence negative; NaN stays."""
    return np.maximum(np.concatenate(parts), 0.0) if parts else np.zeros(0)


def _parts(rows: int) -> Iterator[slice]:
    """Slices that keep temporary arrays small however many images there are."""
    return (slice(start, start + ROWS_AT_ONCE) for start in range(0, rows, ROWS_AT_ONCE))
