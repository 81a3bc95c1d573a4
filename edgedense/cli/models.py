"""``edgedense models``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from edgedense.cli import params
from edgedense.cli.terminal import Terminal, emit, number

if TYPE_CHECKING:
    from edgedense.densenet.zoo import Entry, Metric

Row = tuple[object, ...]


@click.command()
@params.json_option
def models(as_json: bool) -> None:
    """List the named networks, and what was published of them.

    \b
    Example:  edgedense models
    """
    from edgedense.densenet.zoo import ENTRIES

    if as_json:
        emit({"models": [_described(entry) for entry in ENTRIES]})
        return
    terminal = Terminal()
    _imagenet(terminal, [entry for entry in ENTRIES if entry.group == "imagenet"])
    _cifar(terminal, [entry for entry in ENTRIES if entry.group == "cifar"])
    _segmentation(terminal, [entry for entry in ENTRIES if entry.group == "segmentation"])


def _described(entry: Entry) -> dict[str, Any]:
    spec = entry.spec
    return {
        "name": entry.name,
        "group": entry.group,
        "reference": spec is None,
        "family": spec and spec.family,
        "block_config": spec and list(spec.block_config),
        "growth_rate": spec and spec.growth_rate,
        "params": entry.params,
        "macs": entry.macs,
        "input_shape": [spec.in_channels if spec else 3, *entry.input_size],
        "num_classes": spec and spec.num_classes,
        "results": [asdict(result) for result in entry.results],
        "note": entry.note,
    }


def _imagenet(terminal: Terminal, entries: Sequence[Entry]) -> None:
    rows = [
        (
            *_structure(entry),
            _published(entry, "error", "top5_error"),
            _published(entry, "error_10crop"),
            _published(entry, "top1", "top5"),
        )
        for entry in entries
    ]
    head = (*_HEAD, "error %\n1 crop", "error %\n10 crop", "weights:\naccuracy %")
    terminal.table("ImageNet at 224x224, top-1/top-5; in brackets: for reference", head, rows)


def _published(entry: Entry, *metrics: Metric) -> str | None:
    """Values in percent with a stroke between them; None where the first was not published."""
    values = [entry.value("ImageNet", metric) for metric in metrics]
    return None if values[0] is None else "/".join(number(value) for value in values)


def _cifar(terminal: Terminal, entries: Sequence[Entry]) -> None:
    sets = ("C10", "C10+", "C100", "C100+", "SVHN")
    errors = [[entry.value(data, "error") for data in sets] for entry in entries]
    rows = [
        (*_structure(entry), *(None if error is None else number(error) for error in found))
        for entry, found in zip(entries, errors, strict=True)
    ]
    title = "CIFAR and SVHN at 32x32, 10 classes: error %; +: trained with crops and flips"
    terminal.table(title, (*_HEAD, *sets), rows)


def _segmentation(terminal: Terminal, entries: Sequence[Entry]) -> None:
    rows = [
        (
            *_structure(entry),
            entry.value("CamVid", "mean_iou"),
            entry.value("CamVid", "pixel_accuracy"),
        )
        for entry in entries
    ]
    head = (*_HEAD, "mean IoU %", "pixels %")
    title = "CamVid at 224x224, 11 classes; blocks: down and middle, the way up mirrors them"
    terminal.table(title, head, rows)


_HEAD = ("network", "blocks", "k", "M par", "GMACs")


def _structure(entry: Entry) -> Row:
    """Name, blocks, growth rate, parameters in millions, MACs in billions."""
    counts = number(entry.params / 1e6), number(entry.macs / 1e9)
    if entry.spec is None:
        return f"({entry.name})", None, None, *counts
    config = entry.spec.block_config
    if entry.spec.task == "segmentation":
        config = config[: len(config) // 2 + 1]
    return entry.name, ",".join(map(str, config)), entry.spec.growth_rate, *counts
