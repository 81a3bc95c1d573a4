"""Latencies as tables that fit 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from edgedense.cli.terminal import Terminal, number

_WIDTH = 80
UNSTABLE_REMEDY = (
    "UNSTABLE exits 1: let nothing else run, fix the clocks, warm up longer (--warm-up), or take "
    "it as it is (--allow-unstable)."
)
_PERCENTILES = ("p50", "p90", "p99")


def show(
    terminal: Terminal, name: str, found: dict[str, Any], remedy: str = UNSTABLE_REMEDY
) -> None:
    """Print the latencies of one engine, or of two that took turns, and what to think of them."""
    sides = [(name, found)]
    if "against" in found:
        sides.append((found["against"]["engine_name"], found["against"]))
    head = ("", "p50 ms", "p90 ms", "p99 ms", "images/s", "cov", "stable")
    rows = [row for who, side in sides for row in _rows(who, side)]
    terminal.table(f"latency, batch {found['batch']}, {_calls(found)}", head, rows)
    if "speedup" in found:
        low, high = found["speedup_ci95"]
        terminal.say(f"speed-up {found['speedup']:.2f} (95 % {low:.2f} to {high:.2f})")
    lines = [[*_state(side), *side["notes"]] for _, side in sides]
    for line in lines[0]:
        if all(line in others for others in lines):
            _say(terminal, line)
    for (who, _), own in zip(sides, lines, strict=True):
        for line in own:
            if not all(line in others for others in lines):
                _say(terminal, f"{who}: {line}")
    if not all(side["stable"] for _, side in sides):
        _say(terminal, remedy)


def show_cells(terminal: Terminal, found: dict[str, Any]) -> None:
    """Print a table of batches and streams; a star marks the Pareto front, an arrow the choice."""
    head = ("", "batch", "streams", "images/s", "p50 ms", "p90 ms", "p99 ms", "calls", "stable")
    rows = [
        (
            (">" if cell["best"] else " ") + ("*" if cell["front"] else ""),
            cell["batch"],
            cell["streams"],
            number(cell["throughput_ips"], 1),
            *(number(cell[f"{name}_ms"]) for name in _PERCENTILES),
            cell["iterations"],
            _verdict(cell),
        )
        for cell in found["cells"]
    ]
    terminal.table(f"{found['engine_name']}: throughput and latency", head, rows)
    terminal.say("*: no other cell has more throughput without more latency")
    _say(terminal, found["remark"])
    for reason in found["reasons"]:
        _say(terminal, f"{reason}.")
    if not found["stable"]:
        _say(terminal, UNSTABLE_REMEDY)


def _rows(name: str, side: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The whole call, its intervals, MLPerf's bounds, and phases where there are such."""
    yield (
        name,
        *(number(side[f"{key}_ms"], 3) for key in _PERCENTILES),
        number(side["throughput_ips"], 1),
        f"{100 * side['cov']:.1f} %",
        _verdict(side),
    )
    yield ("  95 % from", *(_end(side, key, 0) for key in _PERCENTILES), "", "", "")
    yield ("  95 % to", *(_end(side, key, 1) for key in _PERCENTILES), "", "", "")
    early = [number(side[f"{key}_early_stopping_ms"], 3) for key in ("p90", "p99")]
    yield ("  MLPerf's bound", "", *early, "", "", "")
    for phase, found in (side["phases"] or {}).items():
        values = (number(found[f"{key}_ms"], 3) for key in _PERCENTILES)
        yield (f"  {phase.replace('_', ' ')}", *values, "", f"{100 * found['cov']:.1f} %", "")


def _end(side: dict[str, Any], key: str, which: int) -> str:
    interval = side[f"{key}_ci95_ms"]
    return "" if interval is None else number(interval[which], 3)


def _verdict(side: dict[str, Any]) -> str:
    return "yes" if side["stable"] else "UNSTABLE"


def _calls(found: dict[str, Any]) -> str:
    state = found["state"]
    calls = f"{found['iterations']} calls"
    if state.get("fresh_processes"):
        calls += f" in {state['repeats']} fresh processes" + " each" * ("against" in found)
    return calls + (", taking turns" if state.get("interleaved") else "")


def _state(side: dict[str, Any]) -> Iterator[str]:
    state = side["state"]
    graph = "" if state["cuda_graph"] is None else f", CUDA graph {_on(state['cuda_graph'])}"
    spin = "" if state["spin_wait"] is None else f", spin wait {state['spin_wait']}"
    runtime = " ".join(filter(None, (state["runtime"], state["version"])))
    yield (
        f"state: {runtime}, warm-up {state['warm_up_seconds']:g} "
        f"s, copies {state['copies']}{graph}{spin}, threads {state['threads']}"
    )
    if side["phases"] is None:
        yield "phases: not told apart by this runtime; a call is timed from end to end"
    else:
        yield (
            "compute is what trtexec calls GPU Compute Time; trtexec 10 includes copies in its "
            "latency, trtexec 11 leaves them out and uses CUDA graphs"
        )
    energy, why = side["energy_mj"], side["energy_note"]
    yield f"energy: {energy:.1f} mJ an image" if energy is not None else f"energy: - ({why})"


def _say(terminal: Terminal, line: str) -> None:
    for part in textwrap.wrap(line, _WIDTH, subsequent_indent="  ", break_on_hyphens=False):
        terminal.say(part)


def _on(flag: bool) -> str:
    return "on" if flag else "off"
