"""What stands in the way of an engine's speed: rules on the layers that TensorRT has built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from edgedense.findings import Finding, Severity
from edgedense.insight.engine import Engine
from edgedense.insight.layers import Layer, Tensor

_BEST, _LEAST, _HALF = 32, 16, 8
_MOST_IMAGE_CHANNELS = 4
NOTABLE_SHARE = 0.02  # of the time of a call


@dataclass(frozen=True)
class Hit:
    """A place that breaks a rule; ``severity`` overrides the rule's."""

    layer: Layer | None
    detail: str = ""
    severity: Severity | None = None


@dataclass(frozen=True)
class Rule:
    """A name, what is lost where it is broken, what mends it, and how to see it."""

    name: str
    severity: Severity
    hazard: str
    remedy: str
    find: Callable[[Engine], Iterable[Hit]]


def findings(engine: Engine) -> Iterator[Finding]:
    """Every place that breaks a rule."""
    for rule in RULES:
        for hit in rule.find(engine):
            layer = hit.layer
            yield Finding(
                rule=rule.name,
                severity=hit.severity or rule.severity,
                hazard=rule.hazard,
                node=layer.name if layer else "",
                tensor=layer.outputs[0].name if layer and layer.outputs else "",
                op=layer.kind if layer else "",
                detail=hit.detail,
                remedy=rule.remedy,
            )


def _names_only(engine: Engine) -> Iterator[Hit]:
    if engine.inspected.names_only:
        yield Hit(None, f"{len(engine.inspected.names)} names of layers and nothing else")


def _unknown(engine: Engine) -> Iterator[Hit]:
    for layer in engine.weighted:
        if layer.precision is None:
            yield Hit(layer, "precision unknown", "error")
        elif not layer.told:
            source = "the type of its weights" if layer.weights else "the name of its kernel"
            yield Hit(layer, f"{layer.precision} by {source}")


def _no_int8(engine: Engine) -> Iterator[Hit]:
    fell = len(engine.fallen)
    if fell and not any(layer.precision == "INT8" for layer in engine.weighted):
        yield Hit(None, f"{fell} of {len(engine.weighted)} weighted layers were to be INT8")


def _fallen(engine: Engine) -> Iterator[Hit]:
    for layer in engine.fallen:
        sure = engine.asked.nodes is not None or engine.shows_quantization(layer)
        presumed = "" if sure else "; that the ONNX asks for INT8 here is presumed"
        yield Hit(layer, f"runs in {layer.precision}{_took(engine, layer)}{presumed}")


def _float32(engine: Engine) -> Iterator[Hit]:
    asked = engine.asked
    half = asked.precision == "fp16" or (asked.precision == "int8" and asked.rest != "fp32")
    mixed = any(layer.precision in ("INT8", "FP16") for layer in engine.weighted)
    if asked.precision == "fp32" or not (half or mixed):
        return
    for layer in engine.weighted:
        if layer.precision == "FP32" and layer not in engine.fallen:
            yield Hit(layer, _took(engine, layer).lstrip(", "), "warning" if half else "info")


def _quantizers(engine: Engine) -> Iterator[Hit]:
    for layer in engine.layers:
        if layer.role != "quantizer":
            continue
        change = _change(layer, formats=False)
        image = bool(layer.inputs) and engine.is_image(layer.inputs[0])
        if image:
            yield Hit(layer, f"{change}, of the image: unavoidable{_took(engine, layer)}", "info")
        else:
            yield Hit(layer, f"{change}{_took(engine, layer)}")


def _reformats(engine: Engine) -> Iterator[Hit]:
    for layer in engine.layers:
        if layer.role == "reformat":
            notable = (engine.share(layer) or 0.0) >= NOTABLE_SHARE
            detail = f"{_change(layer, formats=True)}{_took(engine, layer)}"
            yield Hit(layer, detail, "warning" if notable else None)


def _channels(engine: Engine) -> Iterator[Hit]:
    for layer in engine.weighted:
        counts = _counts(engine, layer)
        if layer.precision == "INT8":
            odd = {side: n for side, n in counts.items() if n % _BEST}
            bad = any(n % _LEAST for n in odd.values())
        else:
            odd = {side: n for side, n in counts.items() if n % _HALF}
            bad = layer.precision == "FP16"
        if odd and layer.precision in ("INT8", "FP16"):
            told = ", ".join(f"{side} {n}" for side, n in odd.items())
            detail = f"{told} in {layer.precision}{_took(engine, layer)}"
            yield Hit(layer, detail, "warning" if bad else "info")


def _counts(engine: Engine, layer: Layer) -> dict[str, int]:
    """Channels on both sides, without those of the images and of the classes."""
    if layer.groups > 1 or not (layer.inputs and layer.outputs):
        return {}
    before, after = layer.inputs[0], layer.outputs[0]
    counts: dict[str, int] = {}
    if before.channels and not (before.channels <= _MOST_IMAGE_CHANNELS or engine.is_image(before)):
        counts["in"] = before.channels
    if after.channels and not (_flat(after) or after.name in engine.inspected.outputs):
        counts["out"] = after.channels
    return counts


def _flat(end: Tensor) -> bool:
    """Whether an end has one value a channel, as the classes of a classifier have."""
    return all(length == 1 for length in end.shape[2:])


def _unmatched(engine: Engine) -> Iterator[Hit]:
    known = {layer.name for layer in engine.layers}.union(engine.inspected.names)
    lost = {name: time_ms for name, time_ms in engine.times.items() if name not in known}
    if lost:
        part = 100 * sum(lost.values()) / (engine.total_ms or 1.0)
        example = next(iter(lost))
        yield Hit(
            None, f"{len(lost)} layers, {part:.1f} % of the time, such as {example}", "warning"
        )


def _change(layer: Layer, *, formats: bool) -> str:
    if not (layer.inputs and layer.outputs):
        return "layout"
    before, after = layer.inputs[0], layer.outputs[0]
    if not formats:
        return f"{before.type or '?'} → {after.type or '?'}"
    if before.format == after.format:
        return f"{before.format or before.type or '?'} (same layout)"
    return f"{before.format or '?'} → {after.format or '?'}"


def _took(engine: Engine, layer: Layer) -> str:
    time_ms, share = engine.time_ms(layer), engine.share(layer)
    if time_ms is None or share is None:
        return ""
    return f", {time_ms:.3f} ms ({100 * share:.1f} %)"


RULES: tuple[Rule, ...] = (
    Rule(
        "names-only",
        "error",
        "The engine was built with LAYER_NAMES_ONLY, TensorRT's default: in which precision its "
        "layers run cannot be read from it. That is not the same as not being INT8.",
        "Build it again with profiling verbosity DETAILED: edgedense build-engine always does, "
        "trtexec with --profilingVerbosity=detailed.",
        _names_only,
    ),
    Rule(
        "types-hidden",
        "info",
        "The inspector does not tell formats while an axis is free (such as the batch).",
        "Inspect with a shape: trtexec --shapes=images:1x3x224x224 …, in Python "
        "inspector.execution_context after set_input_shape.",
        _unknown,
    ),
    Rule(
        "no-int8",
        "error",
        "INT8 was asked for, and no convolution or matrix product runs in it: the engine pays for "
        "quantization and gains nothing.",
        "See edgedense lint on the ONNX file for what its Q/DQ lack, and the build's warnings.",
        _no_int8,
    ),
    Rule(
        "fell-back",
        "warning",
        "TensorRT had no faster INT8 kernel here, or Q/DQ did not fuse: the layer runs in floating "
        "point, with conversions around it.",
        "Align its channels to 32, or leave it out of INT8 and save the conversions (quantize "
        "--skip); compare both with edgedense compare.",
        _fallen,
    ),
    Rule(
        "float32",
        "warning",
        "A convolution or matrix product runs in FP32 among faster ones.",
        "Build from the FP16 file (quantize --rest fp16); on 8.x both flags, INT8 and FP16, are "
        "needed.",
        _float32,
    ),
    Rule(
        "qdq-unfused",
        "warning",
        "A Q or DQ runs as a kernel of its own: it reads and writes the whole tensor.",
        "Quantize only inputs of convolutions (quantize --placement conv), with one scale for all "
        "readers of a concat (--placement block); edgedense lint says where.",
        _quantizers,
    ),
    Rule(
        "reformat",
        "info",
        "TensorRT copies a tensor to change its layout or type between two kernels.",
        "Neighbours of one precision and of aligned channels need none: skip or quantize both.",
        _reformats,
    ),
    Rule(
        "channels",
        "info",
        "INT8 tensor cores take channels by 32, at least by 16 (FP16: 8): TensorRT pads others, "
        "and may be no faster than in FP16.",
        "Prune to multiples of 32 or 16 (prune --align 32), or leave it in FP16 (quantize --skip).",
        _channels,
    ),
    Rule(
        "profile-unmatched",
        "info",
        "The profile has layers that the engine has not: they do not belong together.",
        "Take both from one engine: trtexec --loadEngine=ENGINE --exportLayerInfo=A.json "
        "--exportProfile=B.json --dumpProfile",
        _unmatched,
    ),
)
