"""Which JetPack has which TensorRT, and what works where: data, each row with its source.

``evidence`` is how sure a row is: ``source`` was read in code, ``docs`` in NVIDIA's pages,
``report`` is what one user wrote, ``inference`` our conclusion. The latter two are weak, and shown
as such. Nothing here was run on a GPU by us.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

Evidence = Literal["source", "docs", "report", "inference"]
WEAK: dict[Evidence, str] = {"report": "by one user's report", "inference": "inferred"}


@dataclass(frozen=True)
class JetPack:
    """What a range of JetPacks brings; ``l4t`` is the range of Jetson Linux that tells it."""

    versions: str
    l4t: str
    ubuntu: str
    python: str
    cuda: str
    tensorrt: str
    sms: tuple[int, ...]
    evidence: Evidence
    source: str


@dataclass(frozen=True)
class Limit:
    """TensorRT versions that do not work on some Jetsons.

    ``sms`` and ``l4t`` bound where it holds; ``spared`` are words of models that it does not hold
    for. ``what`` may name the ``{version}`` that was found.
    """

    tensorrt: str
    what: str
    remedy: str
    evidence: Evidence
    source: str
    sms: tuple[int, ...] = ()
    l4t: str = ""
    spared: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dla:
    """Whether there is a DLA to build for; the first row that fits counts."""

    has: bool
    what: str
    evidence: Evidence
    source: str
    sms: tuple[int, ...] = ()
    model: str = ""
    tensorrt: str = ""
    l4t: str = ""


_CONFIG = "dusty-nv/jetson-containers dd206bfe, config.py of cuda and tensorrt"

# fmt: off
JETPACKS = (
    JetPack("4.6", ">=32.6,<32.7", "18.04", "3.6", "10.2", "8.0.1", (53, 62, 72),
            "report", "gist Tiryoh/2b5dc1f8"),
    JetPack("4.6.1 to 4.6.6", ">=32.7,<33", "18.04", "3.6", "10.2", "8.2.1", (53, 62, 72),
            "source", f"{_CONFIG}: L4T 32 -> 8.2"),
    # its patch number is weak
    JetPack("5.1 to 5.1.6", ">=35.2,<36", "20.04", "3.8", "11.4", "8.5.2", (72, 87),
            "source", f"{_CONFIG}: L4T 34 and later -> 8.5"),
    JetPack("6.0", ">=36.2,<36.4", "22.04", "3.10", "12.2 or 12.4", "8.6.2", (87,),
            "source", f"{_CONFIG}: nv-tensorrt-local-repo-l4t-8.6.2-cuda-12.2"),
    JetPack("6.1 to 6.2.1", ">=36.4,<37", "22.04", "3.10", "12.6", "10.3.0", (87,),
            "source", "pytorch/TensorRT docsrc/getting_started/jetpack.rst, #3453"),
    JetPack("7.0, 7.1", ">=38.2,<39", "24.04", "3.12", "13.0", "10.13.3", (110,),
            "report", "roboflow/inference#2531"),
    JetPack("7.2, 7.2.1", ">=39,<39.2.2", "24.04", "3.12", "13.2", "10.16.2", (87, 110),
            "report", "roboflow/inference#2531, NVIDIA-ISAAC-ROS/isaac-ros-cli#22"),
    JetPack("7.2.2 and later", ">=39.2.2", "24.04", "3.12", "13.2 or later", "10.16 or 11.4.1",
            (87, 110), "inference", "TensorRT 11.4.1 release notes name JetPack 7.2.2, no L4T"),
)

# INT8 instructions are missing in Maxwell and Pascal of the Jetsons
NO_INT8 = (53, 62)
NO_INT8_SOURCE = "NVIDIA forum 55481 (\"TX2 doesn't support INT8 operation\"), torch2trt#255"

# TensorRT's bindings of a JetPack are for its system Python alone
BINDINGS_EVIDENCE: Evidence = "report"
BINDINGS_SOURCE = "onnxsim scripts/nvidia/README.md: JetPack 6's are cp310 only"

_AGX_OR_THOR = ("AGX Orin", "Jetson-Small", "Thor")
_JETPACKS_OWN = "sudo apt install --reinstall nvidia-jetpack   (the TensorRT of this JetPack)"
LIMITS = (
    Limit("<8.6", "TensorRT {version}: edgedense speaks 8.6, 10.x and 11.x",
          "Upgrade to JetPack 6 where the board can; else build with trtexec from the ONNX file.",
          "source", "edgedense.engines.tensorrt_api"),
    Limit(">=11,<11.4.1", "TensorRT {version} does not support JetPack: only 10.x, and 11.4.1 on",
          _JETPACKS_OWN, "docs",
          "Migrating TensorRT from 10.x to 11.x on Jetson/JetPack, 11.2.1, 11.3.0 and 11.4.0"),
    Limit(">=11.4.1", "TensorRT {version} needs JetPack 7.2.2 or later: JetPack 6 stays on 10.x",
          _JETPACKS_OWN, "docs",
          "Migrating TensorRT from 10.x to 11.x on Jetson/JetPack, 11.4.1", l4t="<39.2.2"),
    Limit(">=11.4.1", "TensorRT {version} supports AGX Orin and Thor among the Jetsons",
          _JETPACKS_OWN, "docs", "TensorRT 11.4.1 release notes", l4t=">=39.2.2",
          spared=_AGX_OR_THOR),
    Limit("==10.13.*", "TensorRT {version} has no kernels for Orin: \"Target GPU SM 87 is not "
          "supported by this TensorRT release\"",
          "sudo apt install nvidia-jetpack   (10.16 has them; a pin in /etc/apt/preferences.d may "
          "hold 10.13)", "report", "NVIDIA-ISAAC-ROS/isaac-ros-cli#22", sms=(87,)),
)

_DLA_PAGE = "Working with DLA, 11.4.1"
DLAS = (
    Dla(False, "no DLA in the Orin Nano (num_DLA_cores is 0)", "report",
        "onnxsim scripts/nvidia/README.md", model="Orin Nano"),
    Dla(False, "no DLA in Thor", "docs", _DLA_PAGE, sms=(110, 101)),
    Dla(False, "no DLA in this GPU's system", "docs", _DLA_PAGE, sms=(53, 62)),
    Dla(True, "DLA by TensorRT up to 10.7", "docs", _DLA_PAGE, sms=(72, 87), tensorrt="<10.8",
        l4t="<39"),
    Dla(False, "no DLA: JetPack 7.2 lacks libnvdla_compiler.so", "report",
        "blakeblackshear/frigate#23583", sms=(87,), tensorrt="<11", l4t=">=39,<39.2.2"),
    Dla(False, "no DLA in TensorRT 10.8 to 11.3", "docs", _DLA_PAGE, tensorrt=">=10.8,<11.4"),
    Dla(False, "TensorRT 11.4.0 has DLA on Windows on Arm only", "docs", _DLA_PAGE,
        tensorrt=">=11.4,<11.4.1"),
    Dla(True, "DLA by TensorRT 11.4.1, strongly typed", "docs", _DLA_PAGE, sms=(87,),
        model="AGX Orin", tensorrt=">=11.4.1", l4t=">=39.2.2"),
    Dla(False, "TensorRT 11.4.1 has DLA on AGX Orin with JetPack 7.2.2 or later only", "docs",
        _DLA_PAGE, tensorrt=">=11.4.1"),
)
# fmt: on


def jetpack_of(l4t: str | None) -> JetPack | None:
    """The row of a Jetson Linux release; None where it has none."""
    return next((row for row in JETPACKS if l4t and within(l4t, row.l4t)), None)


def limits_of(tensorrt: str, sm: int, l4t: str | None, model: str) -> tuple[Limit, ...]:
    """What is known against TensorRT ``tensorrt`` on a Jetson."""
    return tuple(
        row
        for row in LIMITS
        if within(tensorrt, row.tensorrt)
        and (not row.sms or sm in row.sms)
        and (not row.l4t or (l4t is not None and within(l4t, row.l4t)))
        and not any(word in model for word in row.spared)
    )


def dla_of(tensorrt: str | None, sm: int, l4t: str | None, model: str) -> Dla | None:
    """Whether a Jetson has a DLA to build for; None where that is not known."""
    return next((row for row in DLAS if _fits(row, tensorrt, sm, l4t, model)), None)


def within(version: str, versions: str) -> bool:
    """Whether ``version`` is in the range; False for what is no version."""
    try:
        return Version(version) in SpecifierSet(versions, prereleases=True)
    except InvalidVersion:
        return False


def _fits(row: Dla, tensorrt: str | None, sm: int, l4t: str | None, model: str) -> bool:
    if (row.sms and sm not in row.sms) or row.model not in model:
        return False
    told = ((tensorrt, row.tensorrt), (l4t, row.l4t))
    return all(not wanted or (it is not None and within(it, wanted)) for it, wanted in told)
