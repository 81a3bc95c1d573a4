"""Which TensorRT versions a file may meet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from edgedense.findings import Severity
from edgedense.targets import ONNXRUNTIME, TENSORRT_RTX, Target

# one of each release whose parser or typing differs; RTX counts as the last
_RELEASES = ("8.0.1", "8.2.1", "8.4.1", "8.5.2", "8.6.2", "10.0.1", "10.3", "10.7", "10.13",
             "10.15.1", "10.16.2", "11.0", "11.4.1")  # fmt: skip
# last opset of the parser's documentation (onnx-tensorrt, docs/operators.md), from a release on
_OPSETS = (("8.0", 13), ("8.4", 17), ("10.0", 20), ("10.15", 24), ("11.0", 25))


@dataclass(frozen=True)
class Device:
    """The target of a file, or any (None)."""

    target: Target | None = None

    @property
    def runs_tensorrt(self) -> bool:
        """Whether TensorRT reads the file there."""
        return self.target is None or self.target.backend != ONNXRUNTIME

    @cached_property
    def releases(self) -> tuple[str, ...]:
        """TensorRT versions that the file may meet, ascending."""
        if self.target is None:
            return _RELEASES
        if self.target.backend == TENSORRT_RTX:
            return _RELEASES[-1:]
        return tuple(self.target.versions.filter(_RELEASES))

    def severity(self, versions: str, unknown: Severity) -> Severity | None:
        """How bad is what goes wrong in ``versions`` (such as ``<10``).

        error where the target has no other, warning where it may have another, None where it has
        none of them, ``unknown`` where no target is given.
        """
        if self.target is None:
            return unknown
        bad = sum(release in SpecifierSet(versions) for release in self.releases)
        if not bad:
            return None
        return "error" if bad == len(self.releases) else "warning"

    def highest_opset(self) -> tuple[str, int]:
        """The first version that the file may meet, and the last opset that it documents.

        Without a target, the last version counts.
        """
        release = self.releases[-1 if self.target is None else 0]
        fit = [opset for start, opset in _OPSETS if Version(start) <= Version(release)]
        return release, fit[-1]
