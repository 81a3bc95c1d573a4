"""What a sweep gave: a row a point, which rows are worth having, and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from edgedense.pipeline.pareto import front

FORMAT = "edgedense-sweep/1"
STAR = "★"
# what accuracy is called in a report, and by people
ANSWER = {"classification": ("top1", "top-1"), "segmentation": ("miou", "mean IoU")}


@dataclass(frozen=True)
class PointReport:
    """One point: what was asked, and what came out; ``failed`` says why nothing did.

    ``share`` is of the MACs; ``accuracy`` is top-1 or mean IoU of the ``cpu`` engine in percent,
    ``drop_pp`` and ``drop_ci95`` its paired difference from FP32; ``latency_ms`` the median of the
    ``cpu`` engine, ``speedup`` against FP32 PyTorch; ``predicted_ms`` has one entry a target, None
    where that cannot be told. ``onnx_bytes`` is the file meant for GPUs, ``engine_bytes`` the
    ``cpu`` engine. ``stages`` are the directories. ``best`` points are on the Pareto front.
    """

    name: str
    share: float
    precision: str
    placement: str | None
    effort: str | None
    stages: dict[str, str]
    failed: str | None = None
    macs: int | None = None
    params: int | None = None
    accuracy: float | None = None
    drop_pp: float | None = None
    drop_ci95: tuple[float, float] | None = None
    agreement: float | None = None
    logit_sqnr_db: float | None = None
    onnx_bytes: int | None = None
    engine_bytes: int | None = None
    latency_ms: float | None = None
    speedup: float | None = None
    speedup_ci95: tuple[float, float] | None = None
    stable: bool | None = None
    predicted_ms: dict[str, float | None] = field(default_factory=dict)
    best: bool = False


@dataclass(frozen=True)
class SweepReport:
    """All points of a sweep, and the FP32 network that they are held against.

    ``judged_on`` is what the front weighs against the drop of accuracy: a target (its predicted
    latency), ``cpu`` (measured) or ``macs``.
    """

    run: str
    task: str
    judged_on: str
    fp32: dict[str, Any]
    points: tuple[PointReport, ...]
    reused: tuple[str, ...]
    format: str = FORMAT

    @property
    def answer(self) -> tuple[str, str]:
        """What accuracy is called in a report, and by people."""
        return ANSWER[self.task]

    @property
    def exit_code(self) -> int:
        """0 where every point was made, else 1."""
        return 1 if any(point.failed for point in self.points) else 0

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def starred(
    points: Sequence[PointReport], targets: Sequence[str]
) -> tuple[str, tuple[PointReport, ...]]:
    """What the points are judged on, and the points with those of the Pareto front marked.

    The first of ``targets``, ``cpu`` and ``macs`` that is known of any point; where it is not known
    of a point, that one cannot be on the front.
    """
    for judged_on in (*targets, "cpu", "macs"):
        costs = {
            point.name: (point.drop_pp, cost)
            for point in points
            if point.drop_pp is not None and (cost := _cost(point, judged_on)) is not None
        }
        if costs:
            break
    best = dict(zip(costs, front(list(costs.values())), strict=True))
    return judged_on, tuple(replace(point, best=best.get(point.name, False)) for point in points)


def _cost(point: PointReport, judged_on: str) -> float | None:
    if judged_on == "macs":
        return point.macs
    return point.latency_ms if judged_on == "cpu" else point.predicted_ms[judged_on]


def markdown(found: SweepReport) -> str:
    """The page: the table, what the star means, what failed."""
    answer = found.answer[1]
    targets = list(found.points[0].predicted_ms)
    head = ["", "point", "MACs M", "params M", f"{answer} %", "drop pp (95 %)", "ONNX MB"]
    head += ["engine MB", "cpu ms", "speed-up", *(f"{target} ms" for target in targets)]
    fp32 = found.fp32
    whole = ["", "FP32 PyTorch", _mega(fp32["macs"], 1), _mega(fp32["params"])]
    whole += [_number(fp32["accuracy"]), "", "", "", _number(fp32["latency_ms"]), "1"]
    rows = [whole, *(_row(point, targets) for point in found.points)]
    lines = [head, ["---"] * len(head), *(row + [""] * (len(head) - len(row)) for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    lost = [f"- {names}: {why}" for why, names in failures(found).items()]
    notes = [legend(found), *(["Not made:\n\n" + "\n".join(lost)] if lost else [])]
    return "\n\n".join(["# edgedense sweep", table, *notes]) + "\n"


def legend(found: SweepReport) -> str:
    """What the star means, and which latencies are predictions."""
    against = {"cpu": "the measured latency on cpu", "macs": "MACs"}.get(
        found.judged_on, f"the predicted latency on {found.judged_on}"
    )
    targets = [name for point in found.points for name in point.predicted_ms]
    told = ["Latencies of targets are predictions, not measurements."] if targets else []
    star = f"{STAR}: no other point is as good in both accuracy and {against}, and better in one."
    return " ".join([star, "cpu is a rehearsal on this machine.", *told])


def failures(found: SweepReport) -> dict[str, str]:
    """For each reason the points that were not made for it."""
    reasons = dict.fromkeys(point.failed for point in found.points if point.failed)
    return {
        why: ", ".join(point.name for point in found.points if point.failed == why)
        for why in reasons
    }


def interval(point: PointReport) -> str:
    """The drop in percentage points with its interval, or a dash."""
    if point.drop_pp is None:
        return "-"
    ends = f" [{point.drop_ci95[0]:.2f}, {point.drop_ci95[1]:.2f}]" if point.drop_ci95 else ""
    return f"{point.drop_pp:.2f}{ends}"


def _row(point: PointReport, targets: Sequence[str]) -> list[str]:
    if point.failed:
        return ["", point.name, "failed"]
    return [
        STAR if point.best else "",
        point.name,
        _mega(point.macs, 1),
        _mega(point.params),
        _number(point.accuracy),
        interval(point),
        _mega(point.onnx_bytes),
        _mega(point.engine_bytes),
        _number(point.latency_ms),
        _number(point.speedup) + ("" if point.stable else " (unstable)"),
        *(_number(point.predicted_ms[target], 3) for target in targets),
    ]


def _mega(value: int | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value / 1e6:.{digits}f}"


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
