"""Named networks of the papers, with what was published about them; nothing here needs PyTorch."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from typing import Literal

from edgedense.densenet.count import count_macs, count_params
from edgedense.densenet.fc_spec import FCDenseNetSpec
from edgedense.densenet.spec import DenseNetSpec
from edgedense.densenet.specs import Spec
from edgedense.errors import InputError

Group = Literal["imagenet", "cifar", "segmentation"]
# errors are top-1 on one centre crop unless the metric says more; accuracies as users of the
# public weights know them
Metric = Literal[
    "error", "top5_error", "error_10crop", "top5_error_10crop",
    "top1", "top5", "mean_iou", "pixel_accuracy",
]  # fmt: skip

PAPER = "arXiv 1608.06993"
LUA = "liuzhuang13/DenseNet README"
TIRAMISU = "arXiv 1611.09326, table 3"


@dataclass(frozen=True)
class Result:
    """One published figure, in percent.

    ``data`` is ``ImageNet``, ``C10``, ``C100``, ``SVHN`` or ``CamVid``; a ``+`` behind it means
    training with crops and flips. ``source`` says who published it.
    """

    data: str
    metric: Metric
    value: float
    source: str


@dataclass(frozen=True)
class Entry:
    """One network, at its usual number of classes and (height, width) in pixels.

    ``params`` are its trainable parameters, ``macs`` the multiply-accumulates of its convolutions
    and classifier for one image. ``spec`` is None for a reference: a network of another family,
    of which only the numbers are here.
    """

    name: str
    group: Group
    spec: Spec | None
    input_size: tuple[int, int]
    params: int
    macs: int
    results: tuple[Result, ...] = ()
    note: str = ""

    def value(self, data: str, metric: Metric) -> float | None:
        """The first published figure of that kind, in percent."""
        found = (r.value for r in self.results if (r.data, r.metric) == (data, metric))
        return next(found, None)


def imagenet(depth: int, num_classes: int = 1000) -> DenseNetSpec:
    """DenseNet-121, 169, 201, 264 (k = 32) or 161 (k = 48): paper, table 1."""
    config, growth = {
        121: ((6, 12, 24, 16), 32),
        169: ((6, 12, 32, 32), 32),
        201: ((6, 12, 48, 32), 32),
        161: ((6, 12, 36, 24), 48),
        264: ((6, 12, 64, 48), 32),
    }[depth]
    return DenseNetSpec.build(config, growth, stem="imagenet", num_classes=num_classes)


def cifar_bc(depth: int, growth_rate: int, num_classes: int = 10) -> DenseNetSpec:
    """DenseNet-BC for 32x32 images, three blocks of (depth - 4) / 6 layers: paper, section 4.2."""
    return DenseNetSpec.build(((depth - 4) // 6,) * 3, growth_rate, num_classes=num_classes)


def cifar_plain(
    depth: int, growth_rate: int, num_classes: int = 10, *, stem_width: int = 16
) -> DenseNetSpec:
    """DenseNet without bottleneck and compression, three blocks of (depth - 4) / 3 layers.

    The paper's stem has 16 channels (section 4.2); its Lua code and most ports have 2k.
    """
    return DenseNetSpec.build(
        ((depth - 4) // 3,) * 3,
        growth_rate,
        num_classes=num_classes,
        stem_width=stem_width,
        bottleneck=False,
        compression=1.0,
    )


def tiramisu(depth: int, num_classes: int = 11) -> FCDenseNetSpec:
    """FC-DenseNet 56, 67 or 103: arXiv 1611.09326, section 4.1."""
    down, middle, growth = {
        56: ((4,) * 5, 4, 12),
        67: ((5,) * 5, 5, 16),
        103: ((4, 5, 7, 10, 12), 15, 16),
    }[depth]
    return FCDenseNetSpec.build(down, middle, growth, num_classes=num_classes)


def find(name: str, num_classes: int | None = None, in_channels: int = 3) -> Spec:
    """The structure of a named network; its usual number of classes where none is given.

    Case and punctuation do not matter: ``DenseNet-BC-100-12`` is ``densenet_bc_100_12``. Errors:
    InputError for a name that is not here, with the nearest ones.
    """
    entries = {_plain(entry.name): entry for entry in ENTRIES}
    entry = entries.get(_plain(name))
    if entry is None:
        raise _unknown(name, entries)
    if entry.spec is None:
        raise InputError(
            f"{entry.name} is listed for its numbers only: it is no DenseNet",
            "Choose another from: edgedense models",
        )
    classes = entry.spec.num_classes if num_classes is None else num_classes
    return replace(entry.spec, num_classes=classes, in_channels=in_channels)


def name_of(spec: Spec) -> str | None:
    """The name of the network with this structure, None where none has it.

    What the structure stays the same without does not count: classes, input channels, eps, padding,
    dropout and the original's activation.
    """
    bare = _bare(spec)
    names = (entry.name for entry in ENTRIES if entry.spec and _bare(entry.spec) == bare)
    return next(names, None)


def _bare(spec: Spec) -> Spec:
    bare = replace(spec, num_classes=1, in_channels=1, eps=1e-5, dropout=0.0, activation="none")
    if isinstance(bare, DenseNetSpec):
        return replace(bare, padding="symmetric", thresholds=())
    return bare


def _unknown(name: str, entries: dict[str, Entry]) -> InputError:
    near = difflib.get_close_matches(_plain(name), entries, n=3)
    names = [entries[key].name for key in near if entries[key].spec is not None]
    hint = f"Did you mean {' or '.join(names)}? " if names else ""
    return InputError(f"there is no network {name!r}", f"{hint}See: edgedense models")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _entry(
    name: str, group: Group, spec: Spec, results: tuple[Result, ...] = (), note: str = ""
) -> Entry:
    side = 32 if group == "cifar" else 224
    macs = count_macs(spec, (side, side))
    return Entry(name, group, spec, (side, side), count_params(spec), macs, results, note)


def _crops(*values: float) -> tuple[Result, ...]:
    """One crop, its top-5, ten crops, their top-5."""
    metrics: tuple[Metric, ...] = ("error", "top5_error", "error_10crop", "top5_error_10crop")
    source = f"{PAPER}, table 3"
    return tuple(
        Result("ImageNet", metric, value, source)
        for metric, value in zip(metrics, values, strict=True)
    )


def _lua(error: float, schedule: str = "") -> tuple[Result, ...]:
    return (Result("ImageNet", "error", error, LUA + schedule),)


def _weights(top1: float, top5: float, source: str) -> tuple[Result, ...]:
    return (
        Result("ImageNet", "top1", top1, source),
        Result("ImageNet", "top5", top5, source),
    )


def _vision(top1: float, top5: float, version: int = 1) -> tuple[Result, ...]:
    return _weights(top1, top5, f"torchvision IMAGENET1K_V{version}")


def _errors(*values: float | None, source: str = f"{PAPER}, table 2") -> tuple[Result, ...]:
    """C10, C10+, C100, C100+ and SVHN."""
    sets = ("C10", "C10+", "C100", "C100+", "SVHN")
    return tuple(
        Result(data, "error", value, source)
        for data, value in zip(sets, values, strict=True)
        if value is not None
    )


def _wide(c10: float, c100: float) -> tuple[Result, ...]:
    return _errors(None, c10, None, c100, None, source=f"{LUA}, Wide-DenseNet")


def _camvid(mean_iou: float, accuracy: float) -> tuple[Result, ...]:
    return (
        Result("CamVid", "mean_iou", mean_iou, TIRAMISU),
        Result("CamVid", "pixel_accuracy", accuracy, TIRAMISU),
    )


def _deep(config: tuple[int, ...], growth: int, stem: Literal["deep", "deep-blur"]) -> DenseNetSpec:
    """timm's three 3x3 convolutions in place of the 7x7."""
    spec = DenseNetSpec.build(config, growth, stem=stem, num_classes=1000)
    return replace(spec, stem_hidden=(growth, growth))


_WIDE_264 = DenseNetSpec.build((6, 12, 64, 48), 48, stem="imagenet", num_classes=1000)
_COSINE = "arXiv 1707.06990, cosine schedule"

ENTRIES: tuple[Entry, ...] = (
    _entry("densenet121", "imagenet", imagenet(121),
           _crops(25.02, 7.71, 23.61, 6.66) + _lua(25.0) + _vision(74.434, 91.972)
           + _weights(76.500, 93.368, "timm ra_in1k at 288x288")),
    _entry("densenet161", "imagenet", imagenet(161), _lua(22.2) + _vision(77.138, 93.560)),
    _entry("densenet169", "imagenet", imagenet(169),
           _crops(23.80, 6.85, 22.08, 5.92) + _lua(23.6) + _vision(75.600, 92.806)),
    _entry("densenet201", "imagenet", imagenet(201),
           _crops(22.58, 6.34, 21.46, 5.54) + _lua(22.5) + _vision(76.896, 93.370)),
    _entry("densenet264", "imagenet", imagenet(264),
           _crops(22.15, 6.12, 20.80, 5.29) + _lua(21.6, ", cosine schedule")),
    _entry("densenet264-k48", "imagenet", _WIDE_264,
           (Result("ImageNet", "error", 20.26, _COSINE), *_lua(20.4, ", cosine schedule"))),
    _entry("densenet264d", "imagenet", _deep((6, 12, 64, 48), 48, "deep"),
           note="timm: deep stem, k = 48; no weights were published"),
    _entry("densenetblur121d", "imagenet", _deep((6, 12, 24, 16), 32, "deep-blur"),
           _weights(77.320, 93.790, "timm ra_in1k at 288x288"),
           "timm: deep stem, blur behind its max pool"),
    Entry("resnet50", "imagenet", None, (224, 224), 25_557_032, 4_089_184_256,
          _vision(76.130, 92.862) + _vision(80.858, 95.434, 2), "reference"),
    Entry("resnet101", "imagenet", None, (224, 224), 44_549_160, 7_801_405_440,
          _vision(77.374, 93.546) + _vision(81.886, 95.780, 2), "reference"),
    _entry("densenet-40-12", "cifar", cifar_plain(40, 12), _errors(7.00, 5.24, 27.55, 24.42, 1.79)),
    _entry("densenet-40-12-2k", "cifar", cifar_plain(40, 12, stem_width=24),
           note="stem of 2k channels, as in most ports and in papers on pruning"),
    _entry("densenet-100-12", "cifar", cifar_plain(100, 12),
           _errors(5.77, 4.10, 23.79, 20.20, 1.67)),
    _entry("densenet-100-24", "cifar", cifar_plain(100, 24),
           _errors(5.83, 3.74, 23.42, 19.25, 1.59)),
    _entry("densenet-bc-40-12", "cifar", cifar_bc(40, 12)),
    _entry("densenet-bc-40-36", "cifar", cifar_bc(40, 36), _wide(4.58, 22.30)),
    _entry("densenet-bc-40-48", "cifar", cifar_bc(40, 48), _wide(3.99, 20.29)),
    _entry("densenet-bc-40-60", "cifar", cifar_bc(40, 60), _wide(4.01, 19.99)),
    _entry("densenet-bc-100-12", "cifar", cifar_bc(100, 12),
           _errors(5.92, 4.51, 24.15, 22.27, 1.76)),
    _entry("densenet-bc-190-40", "cifar", cifar_bc(190, 40),
           _errors(None, 3.46, None, 17.18, None)),
    _entry("densenet-bc-250-24", "cifar", cifar_bc(250, 24),
           _errors(5.19, 3.62, 19.64, 17.60, 1.74)),
    _entry("fc-densenet56", "segmentation", tiramisu(56), _camvid(58.9, 88.9)),
    _entry("fc-densenet67", "segmentation", tiramisu(67), _camvid(65.8, 90.8)),
    _entry("fc-densenet103", "segmentation", tiramisu(103), _camvid(66.9, 91.5)),
)  # fmt: skip
