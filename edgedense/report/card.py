"""A model card for the Hugging Face hub: front matter in YAML, then what people should know.

Source: Mitchell et al., Model Cards for Model Reporting (arXiv 1810.03993), in the hub's format.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from edgedense.report.commands import commands
from edgedense.report.engines import Engine, engines
from edgedense.report.facts import items, mapping, number, text
from edgedense.report.html import clean
from edgedense.report.markdown import inline
from edgedense.report.run import Raw
from edgedense.report.verdict import absent, headline
from edgedense.report.where import left_in_float
from edgedense.report.words import UNSTABLE, amount, between, decimal, milliseconds, plural, size

CARD_FILE = "README.md"
MADE_BY = "<!-- written by edgedense report --model-card -->"
_UNKNOWN = "unknown: the run does not record it"


def model_card(found: dict[str, Any], raw: Raw | None = None) -> str:
    """The card. Its numbers are the run's; what the run does not know, the card calls unknown."""
    known = engines(found)
    told = headline(found, known)
    engine = told.engine or next(iter(known), None) or Engine("unknown")
    family = text(engine.whole, "family") or text(engine.model, "family") or "DenseNet"
    parts = [
        f"---\n{_front(found, family, known)}---",
        MADE_BY,
        f"# {inline(family)}, {engine.precision or 'quantized'}, by edgedense",
        inline(f"{told.heading}. {told.sentence}"),
        *(inline(said) for said in absent(found)),
        _what(found, engine, family),
        _data(found, engine, raw or Raw()),
        _metrics(known),
        _limits(known),
        _use(engine),
        _made(found, raw or Raw()),
    ]
    return "\n\n".join(parts) + "\n"


def _front(found: dict[str, Any], family: str, known: Sequence[Engine]) -> str:
    """YAML; every text is written as a JSON string, which is a YAML string too."""
    judged = [engine for engine in known if engine.judged and engine.accuracy is not None]
    dense = any(engine.metric[0] == "miou" for engine in judged)
    task = "image-segmentation" if dense else "image-classification"
    precisions = dict.fromkeys(engine.precision.lower() for engine in known if engine.precision)
    tags = ["densenet", "edgedense", "onnx", "tensorrt", *precisions]
    lines = ["library_name: edgedense", "license: unknown", f"pipeline_tag: {task}", "tags:"]
    lines += [f"- {_yaml(tag)}" for tag in tags]
    lines += ["metrics:", f"- {'mean_iou' if dense else 'accuracy'}"]
    if not judged:
        return "\n".join(lines) + "\n"
    lines += [
        "model-index:",
        f"- name: {_yaml(f'{family}, run ' + text(found, 'run'))}",
        "  results:",
    ]
    for engine in judged:
        lines += _result(engine, task)
    return "\n".join(lines) + "\n"


def _yaml(value: str) -> str:
    return json.dumps(clean(value))


def _result(engine: Engine, task: str) -> list[str]:
    rehearsed = " (a rehearsal on a processor)" if engine.rehearsal else ""
    images = f"evaluation set of {plural(number(engine.judged, 'samples') or 0, 'image')}"
    lines = [
        "  - task:",
        f"      type: {task}",
        f"      name: {_yaml(f'{engine.name} engine' + rehearsed)}",
        "    dataset:",
        f"      name: {_yaml(images)}",
        "      type: unknown",
        "    metrics:",
    ]
    kind, name = ("mean_iou", "mIoU") if engine.metric[0] == "miou" else ("accuracy", "top-1")
    before = number(engine.judged, "reference", engine.metric[0])
    shaky = f" ({UNSTABLE})" if engine.unstable else ""
    figures = [
        (kind, f"{name} of the engine, %", engine.accuracy),
        (f"{kind}_fp32", f"{name} of FP32, %", before),  # of that type it is not this network's
        (f"{kind}_drop", f"{name} drop against FP32, pp", engine.drop),
        ("agreement", "same answer as FP32, %", number(engine.judged, "agreement")),
        ("latency", f"latency p50, ms{shaky}", number(engine.timed, "p50_ms")),
    ]
    for kind_, told, value in figures:
        if value is not None:
            lines += [f"    - type: {kind_}", f"      value: {round(value, 6)!r}"]
            lines.append(f"      name: {_yaml(told)}")
    return lines


def _what(found: dict[str, Any], engine: Engine, family: str) -> str:
    model, whole = engine.model or engine.whole, engine.whole
    shape = items(next(iter(_interfaces(found)), {}), "input_shape")
    lines = [
        "## What it is",
        "",
        f"- Network: {inline(family)}, {inline(text(model, 'task') or 'task unknown')}",
        f"- Classes: {decimal(number(model, 'num_classes'), 0)}",
        f"- Parameters: {_moved(whole, model, 'params')}",
        f"- Multiply-accumulates an image: {_moved(whole, model, 'macs')}",
        f"- Input (channels, height, width): {' x '.join(str(n) for n in shape) or 'unknown'}",
        f"- Output: logits; behind them the original had: "
        f"{inline(text(model, 'activation') or 'unknown')}",
    ]
    return "\n".join(lines)


def _moved(before: dict[str, Any], after: dict[str, Any], key: str) -> str:
    return f"{amount(number(after, key))}; of the original {amount(number(before, key))}"


def _interfaces(found: dict[str, Any]) -> list[dict[str, Any]]:
    stages = mapping(found, "stages").values()
    return [mapping(stage, "interface") for stage in stages if mapping(stage, "interface")]


def _data(found: dict[str, Any], engine: Engine, raw: Raw) -> str:
    stages = mapping(found, "stages").values()
    pre = next((mapping(s, "preprocess") for s in stages if mapping(s, "preprocess")), {})
    quantized = mapping(found, "stages", engine.origin or "")
    counted = number(quantized, "report", "images")
    learned = text(quantized, "parents", "calibration")
    drawn = plural(counted, "image") if counted is not None else "number unknown"
    facts = ", ".join(f"{key} {value}" for key, value in pre.items() if value is not None)
    lines = [
        "## Data",
        "",
        f"- Training data: {inline(_content(found, 'train')) or _UNKNOWN}.",
        *(f"- Fine-tuning: {inline(tuned)}." for tuned in [_content(found, "finetune")] if tuned),
        f"- Calibration: {drawn}, content SHA-256 {inline(learned) or 'unknown'}.",
        f"- Evaluation: {_evaluation(found, engine)}.",
        f"- Preprocessing: {inline(facts) or 'unknown'}.",
    ]
    return "\n".join(lines)


def _content(found: dict[str, Any], kind: str) -> str:
    """What identifies the images that stages of a kind were made with; empty without."""
    stages = mapping(found, "stages").values()
    known = (text(s, "parents", "data") for s in stages if text(s, "stage") == kind)
    return ", ".join(f"content SHA-256 {sha256}" for sha256 in dict.fromkeys(known) if sha256)


def _evaluation(found: dict[str, Any], engine: Engine) -> str:
    """The images that judged the engine."""
    judged = number(engine.judged, "samples")
    if judged is None:
        return "none in this run"
    which = inline(_content(found, "validate")) or "content unknown"
    said = f"{plural(judged, 'image')}, {which}"
    return f"{said}; none is among the calibration images (edgedense refuses that)"


def _metrics(known: Sequence[Engine]) -> str:
    judged = [engine for engine in known if engine.judged]
    if not judged:
        return "## Metrics\n\nNo engine of this run was validated."
    head = ["engine", "images", "FP32 %", "engine %", "drop pp (95 %)", "same answer %", "p50 ms"]
    lines = [head, ["---"] * len(head)]
    for engine in judged:
        lines.append(
            [
                inline(engine.name) + (" (rehearsal)" if engine.rehearsal else ""),
                decimal(number(engine.judged, "samples"), 0),
                decimal(number(engine.judged, "reference", engine.metric[0])),
                decimal(engine.accuracy),
                f"{decimal(engine.drop)} ({between(engine.drop_ends)})",
                decimal(number(engine.judged, "agreement")),
                milliseconds(number(engine.timed, "p50_ms"))
                + (f" ({UNSTABLE})" if engine.unstable else ""),
            ]
        )
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    said = f"Accuracy is {judged[0].metric[1]}; drops are paired, on the same images."
    return f"## Metrics\n\n{table}\n\n{said}"


def _limits(known: Sequence[Engine]) -> str:
    lines = ["## Limits", ""]
    if any(engine.rehearsal and engine.judged for engine in known):
        lines.append(
            "- Numbers of `cpu` engines are a rehearsal by ONNX Runtime on an ordinary processor: "
            "neither the accuracy nor the latency of a device."
        )
    lines += [
        f"- {inline(engine.name)}: built, but not validated in this run."
        for engine in known
        if engine.built and not engine.judged
    ]
    lines += [
        "- The intervals hold for images like those of the evaluation set. Robustness to other "
        "cameras, corruptions or classes: unknown.",
        "- Intended use, bias and fairness: unknown; they are those of the original network.",
    ]
    return "\n".join(lines)


def _use(engine: Engine) -> str:
    name = _code(f"engine-{engine.name}") if engine.built else "ENGINE"
    kept = size(number(engine.built, "engine_bytes"))
    return (
        f"## How to use it\n\nThe engine ({kept}) lies in `{name}` with its manifest; "
        "input, output and preprocessing stand there under `interface` and `preprocess`.\n\n"
        f"```\nedgedense validate {name} --data IMAGES\nedgedense benchmark {name}\n```"
    )


def _code(name: str) -> str:
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in name)


def _made(found: dict[str, Any], raw: Raw) -> str:
    lines = ["## How it was made", ""]
    for name, stage in mapping(found, "stages").items():
        if text(stage, "stage") == "prune":
            before, after = (number(stage, "report", f"macs_{end}") for end in ("before", "after"))
            how = inline(text(stage, "report", "method"))
            lines.append(f"- {inline(name)}: {amount(before)} to {amount(after)} MACs, by {how}")
        if text(stage, "stage") == "quantize":
            left = [what for _, what, _ in left_in_float(stage)]
            said = f"; in floating point: {', '.join(left)}" if left else ""
            place, how = text(stage, "report", "placement"), text(stage, "report", "calibrator")
            lines.append(inline(f"- {name}: INT8, placement {place}, ranges by {how}{said}"))
    body = clean("\n".join(commands(found, raw)))
    fence = "```"
    while fence in body:
        fence += "`"
    return "\n".join([*lines, "", fence, body, fence])
