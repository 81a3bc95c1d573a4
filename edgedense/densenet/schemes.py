"""Checkpoint schemes: how other code bases name the parameters of a DenseNet.

Each scheme renames its keys to ours (torchvision's). Whether a checkpoint is of a scheme is told
by its keys alone: every key must have a name of ours. To add a scheme, add a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_BN = r"(?:weight|bias|running_mean|running_var|num_batches_tracked)"
CANONICAL = re.compile(
    r"features\.conv0\.weight"
    rf"|features\.(?:norm0|norm5)\.{_BN}"
    rf"|features\.denseblock\d+\.denselayer\d+\.(?:norm[12]\.{_BN}|conv[12]\.weight)"
    rf"|features\.transition\d+\.(?:norm\.{_BN}|conv\.weight)"
    r"|classifier\.(?:weight|bias)"
)


@dataclass(frozen=True)
class Scheme:
    """One way of naming: rows of (pattern of the whole key, replacement)."""

    name: str
    rows: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]

    def rename(self, key: str) -> str | None:
        """Our name of ``key``, or None where this scheme has no such key."""
        for pattern, replacement in self.rows:
            if match := re.fullmatch(pattern, key):
                name = replacement(match) if callable(replacement) else match.expand(replacement)
                return name if CANONICAL.fullmatch(name) else None
        return None


def _from_zero(match: re.Match[str]) -> str:
    block, layer, rest = match.groups()
    return f"features.denseblock{block}.denselayer{int(layer) + 1}.{rest.replace('bn', 'norm')}"


SCHEMES: tuple[Scheme, ...] = (
    Scheme("torchvision", ((r"(.*)", r"\1"),)),
    Scheme(
        "torchvision-old",  # before 0.3: norm.1, conv.2
        (
            (r"(.*denselayer\d+\.(?:norm|conv))\.([12]\..*)", r"\1\2"),
            (r"(.*)", r"\1"),
        ),
    ),
    Scheme(
        "andreasveit",
        (
            (r"conv1\.weight", r"features.conv0.weight"),
            (r"block(\d+)\.layer\.(\d+)\.((?:bn|conv)[12]\..*)", _from_zero),
            (r"trans(\d+)\.bn1\.(.*)", r"features.transition\1.norm.\2"),
            (r"trans(\d+)\.conv1\.(.*)", r"features.transition\1.conv.\2"),
            (r"bn1\.(.*)", r"features.norm5.\1"),
            (r"fc\.(.*)", r"classifier.\1"),
        ),
    ),
)
