"""Checkpoint schemes: how other code bases name the parameters of a DenseNet.

Each scheme renames its keys to ours (torchvision's; bfortuner's for FC-DenseNet). Whether a
checkpoint is of a scheme is told by its keys alone: every key must have a name of ours, and every
mark a key. To add a scheme, add a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from edgedense.densenet.checkpoints.recognised import Facts

_BN = r"(?:weight|bias|running_mean|running_var|num_batches_tracked)"
_AFFINE = r"(?:weight|bias)"
CANONICAL = re.compile(
    r"features\.conv[012]\.weight"
    rf"|features\.(?:norm[0125])\.{_BN}"
    rf"|features\.denseblock\d+\.denselayer\d+\.(?:norm[12]\.{_BN}|conv[12]\.weight)"
    rf"|features\.transition\d+\.(?:norm\.{_BN}|conv\.weight)"
    rf"|classifier\.{_AFFINE}"
    # FC-DenseNet
    rf"|(?:firstconv|finalConv|transUpBlocks\.\d+\.convTrans)\.{_AFFINE}"
    r"|(?:denseBlocks(?:Down|Up)\.\d+|bottleneck\.bottleneck)\.layers\.\d+"
    rf"\.(?:norm\.{_BN}|conv\.{_AFFINE})"
    rf"|transDownBlocks\.\d+\.(?:norm\.{_BN}|conv\.{_AFFINE})"
)
# what a scheme's tensors mean where names alone do not make them ours; see recognise.py
Rework = Literal["reversed concats", "channel selections", "thresholds", "blur filter"]
Row = tuple[str, str | Callable[[re.Match[str]], str]]

_TORCHVISION = Facts()


@dataclass(frozen=True)
class Scheme:
    """One way of naming: rows of (pattern of the whole key, replacement).

    ``marks`` are shell patterns, each of which some key must match. ``extra`` matches names that
    stay beside ours until ``rework`` has dealt with them. The preset of ``facts`` holds for
    networks of ``inputs`` channels with one of ``classes`` (empty: any number).

    Where two schemes have the same keys, a file is told by the name of its ``architecture`` (a
    pattern) or by the ``published`` block configurations; ``difference`` is for the message.
    """

    name: str
    rows: tuple[Row, ...]
    marks: tuple[str, ...] = ()
    facts: Facts = _TORCHVISION
    rework: Rework | None = None
    extra: str = ""
    classes: tuple[int, ...] = ()
    inputs: int = 3
    architecture: str = ""
    published: tuple[tuple[int, ...], ...] = ()
    difference: str = ""

    def rename(self, key: str) -> str | None:
        """Our name of ``key``, or None where this scheme has no such key."""
        for pattern, replacement in self.rows:
            if match := re.fullmatch(pattern, key):
                name = replacement(match) if callable(replacement) else match.expand(replacement)
                known = CANONICAL.fullmatch(name) or re.fullmatch(self.extra, name)
                return name if known else None
        return None

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Marks that no key matches."""
        found = list(keys)
        return [mark for mark in self.marks if not any(fnmatchcase(key, mark) for key in found)]


def _layer(match: re.Match[str]) -> str:
    """From (block from 1, layer from 0, the rest)."""
    block, layer, rest = match.groups()
    return f"features.denseblock{block}.denselayer{int(layer) + 1}.{rest.replace('bn', 'norm')}"


def _weiaicunzai_layer(match: re.Match[str]) -> str:
    block, layer, place, part = match.groups()
    name = {"0": "norm1", "2": "conv1", "3": "norm2", "5": "conv2"}[place]
    return f"features.denseblock{int(block) + 1}.denselayer{int(layer) + 1}.{name}.{part}"


def _weiaicunzai_transition(match: re.Match[str]) -> str:
    number, place, part = match.groups()
    return f"features.transition{int(number) + 1}.{'norm' if place == '0' else 'conv'}.{part}"


_SAME: Row = (r"(.*)", r"\1")
# before torchvision 0.3: norm.1, conv.2
_DOTTED: Row = (r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)", r"\1\2")
_DEEP = r"features\.(?:conv|norm)[12]\..*"
# a head with one linear layer behind a dropout; chexnet has its own at 0
_HEAD: Row = (r"classifier\.[1-9]\d*\.(weight|bias)", r"classifier.\1")
_CONV1: Row = (r"conv1\.weight", r"features.conv0.weight")
_FC: Row = (r"fc\.(.*)", r"classifier.\1")
_LINEAR: Row = (r"linear\.(.*)", r"classifier.\1")
_DENSE: Row = (r"dense(\d+)\.(\d+)\.((?:bn|conv)[12]\..*)", _layer)
_TRANS: tuple[Row, ...] = (
    (r"trans(\d+)\.bn1\.(.*)", r"features.transition\1.norm.\2"),
    (r"trans(\d+)\.conv1\.(.*)", r"features.transition\1.conv.\2"),
)
_BEARPAW: tuple[Row, ...] = (_CONV1, _DENSE, *_TRANS, (r"bn\.(.*)", r"features.norm5.\1"), _FC)
_DEEP_MARKS = ("features.conv1.weight", "features.conv2.weight")

SCHEMES: tuple[Scheme, ...] = (
    Scheme("torchvision", (_HEAD, (rf"(?!{_DEEP})((?:features|classifier)\..*)", r"\1"))),
    Scheme("torchvision-old", (_DOTTED, _HEAD, _SAME), ("features.*.denselayer*.*.[12].*",)),
    Scheme(
        "timm",
        (_HEAD, _SAME),
        _DEEP_MARKS,
        architecture=r"densenet\d+d",
        published=((6, 12, 24, 16), (6, 12, 64, 48)),
        difference="a max pool of stride 2 in the stem, as in densenet121d",
    ),
    Scheme(
        "timm-blur",
        ((r"features\.pool0\.(?:\d+\.)?filt", r"features.pool0.filt"), _HEAD, _SAME),
        _DEEP_MARKS,
        Facts(blur=True),
        "blur filter",
        r"features\.pool0\.filt",
        architecture=r"densenetblur\d+d",
        published=((6, 12, 24, 16),),
        difference="a max pool of stride 1 and a blur of stride 2, as in densenetblur121d",
    ),
    Scheme(
        "gpleiss",
        (
            (r"features\.norm_final\.(.*)", r"features.norm5.\1"),
            _DOTTED,
            (rf"(?!{_DEEP})(.*)", r"\1"),
        ),
        ("features.norm_final.weight",),
    ),
    Scheme(
        "andreasveit",
        (
            _CONV1,
            (r"block(\d+)\.layer\.(\d+)\.((?:bn|conv)[12]\..*)", _layer),
            *_TRANS,
            (r"bn1\.(.*)", r"features.norm5.\1"),
            _FC,
        ),
        ("block*.layer.*.conv1.weight",),
    ),
    Scheme(
        "bamos",
        (_CONV1, _DENSE, *_TRANS, (r"bn1\.(.*)", r"features.norm5.\1"), _FC),
        ("dense*.*.conv1.weight", "bn1.weight"),
        Facts(activation="log_softmax"),
    ),
    Scheme(  # HRank and HRankPlus, too
        "bearpaw",
        _BEARPAW,
        ("dense*.*.conv1.weight", "bn.weight", "fc.weight"),
        Facts(preset="cifar10"),
        classes=(10, 100),
    ),
    Scheme(
        "network-slimming",
        (
            (r"dense(\d+)\.(\d+)\.(select\.indexes)", _layer),
            (r"trans(\d+)\.(select\.indexes)", r"features.transition\1.\2"),
            (r"select\.indexes", r"features.select.indexes"),
            *_BEARPAW,
        ),
        ("dense*.*.select.indexes", "bn.weight"),
        Facts(preset="cifar10"),
        "channel selections",
        r"features\.(?:denseblock\d+\.denselayer\d+\.|transition\d+\.)?select\.indexes",
        classes=(10, 100),
    ),
    Scheme(
        "kuangliu",
        (
            _CONV1,
            _DENSE,
            (r"trans(\d+)\.bn\.(.*)", r"features.transition\1.norm.\2"),
            (r"trans(\d+)\.conv\.(.*)", r"features.transition\1.conv.\2"),
            (r"bn\.(.*)", r"features.norm5.\1"),
            _LINEAR,
        ),
        ("dense*.*.conv1.weight", "bn.weight", "linear.weight"),
        Facts(preset="cifar10"),
        "reversed concats",
        classes=(10,),
    ),
    Scheme(
        "weiaicunzai",
        (
            _CONV1,
            (
                r"features\.dense_block(?:_layer_)?(\d+)\.bottle_neck_layer_(\d+)\.bottle_neck"
                r"\.([0235])\.(.*)",
                _weiaicunzai_layer,
            ),
            (
                r"features\.transition_layer_(\d+)\.down_sample\.([01])\.(.*)",
                _weiaicunzai_transition,
            ),
            (r"features\.bn\.(.*)", r"features.norm5.\1"),
            _LINEAR,
        ),
        ("features.dense_block*.bottle_neck_layer_*.bottle_neck.2.weight",),
        Facts(transition_relu=False, preset="cifar100"),
        classes=(100,),
    ),
    Scheme(
        "chexnet",
        ((r"classifier\.0\.(.*)", r"classifier.\1"), _DOTTED, (rf"(?!{_DEEP})(.*)", r"\1")),
        ("classifier.0.weight",),
        Facts(activation="sigmoid", preset="imagenet"),
        classes=(14,),
    ),
    Scheme(
        "torchxrayvision",
        (_DOTTED, (rf"(?!{_DEEP})(.*)", r"\1")),
        ("op_threshs",),
        Facts(activation="op_norm", preset="xray"),
        "thresholds",
        "op_threshs",
        inputs=1,
    ),
    Scheme(
        "bfortuner",
        (_SAME,),
        ("firstconv.weight",),
        Facts(activation="log_softmax", preset="camvid"),
        classes=(11, 12),
    ),
)
