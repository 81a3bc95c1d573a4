"""The devices that an engine can be built for, as a typed table.

Rates are **dense** peaks (vendors headline the sparse figure, which is twice that) of the GPU
alone, without its DLAs. They rank devices and feed rooflines, nothing more: only the Orin Nano and
AGX Orin rows were compared with a published text, so check a figure against NVIDIA's data sheet
before a claim rests on it. None means: not published, or not known to us. GPUs that have a slower
FP32-accumulate mode are given by the FP16-accumulate figure, as NVIDIA does.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from typing import Any

from packaging.specifiers import SpecifierSet

from edgedense.errors import InputError

ONNXRUNTIME, TENSORRT, TENSORRT_RTX = "onnxruntime", "tensorrt", "tensorrt-rtx"
# the Python module that each backend imports
MODULES = {ONNXRUNTIME: "onnxruntime", TENSORRT: "tensorrt", TENSORRT_RTX: "tensorrt_rtx"}


@dataclass(frozen=True)
class Target:
    """One device, or one family of GPUs that share an engine.

    ``sms`` are the compute capabilities (86 is 8.6) that one engine serves. ``tensorrt`` is the
    range of versions that the device's vendor ships or supports. ``no_int8`` is the reason why INT8
    is not built for it; empty where it is. ``channel_multiple`` is the
    channel count that INT8 convolutions want to be a multiple of (TensorRT pads to it otherwise).
    ``hosts_edgedense`` is False where the system Python is older than 3.10. ``launch_us`` is what
    a kernel costs beside its work (see ``edgedense.latency``).
    """

    name: str
    label: str
    backend: str
    sms: tuple[int, ...] = ()
    memory_gb: float | None = None
    bandwidth_gbps: float | None = None
    int8_tops: float | None = None
    fp16_tflops: float | None = None
    dla_cores: int = 0
    jetpack: str = ""
    tensorrt: str = ""
    no_int8: str = ""
    channel_multiple: int = 32
    hosts_edgedense: bool = True
    notes: str = ""
    launch_us: float = 5.0

    @property
    def int8(self) -> bool:
        """Whether INT8 engines are built for it."""
        return not self.no_int8

    @property
    def module(self) -> str:
        """The Python module of its runtime."""
        return MODULES[self.backend]

    @property
    def sm(self) -> int | None:
        """The first compute capability; None where there is no GPU."""
        return self.sms[0] if self.sms else None

    @property
    def versions(self) -> SpecifierSet:
        """TensorRT versions that the device is known with."""
        return SpecifierSet(self.tensorrt)

    @property
    def ahead_of_time(self) -> bool:
        """Whether an engine can be built on a machine without that GPU."""
        return self.backend == TENSORRT_RTX

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"int8": self.int8}


_NO_INT8 = "TensorRT has no INT8 kernels for this GPU (SM 5.3 and 6.2 lack the instructions)"
_NOT_ON_JETSON = "!=11.0.*,!=11.1.*,!=11.2.*,!=11.3.*,!=11.4.0.*"
_OLD_PYTHON = "its JetPack has a Python older than 3.10: build there with trtexec"


def _rtx(name: str, label: str, *sms: int, **facts: Any) -> Target:
    return Target(name, label, TENSORRT_RTX, sms, tensorrt=">=1.1,<2", **facts)


# fmt: off
_CPU = (
    Target("cpu", "this machine's CPU, by ONNX Runtime", ONNXRUNTIME, channel_multiple=16,
           notes="a rehearsal: its accuracy and latency are not the device's"),
)

# TensorRT for RTX, built ahead of time on any x86 machine. The figures are those of the largest
# card of the family.
_RTX = (
    _rtx("rtx-any", "any RTX GPU from Ampere on", 80, 86, 89, 120, 121,
         notes="one engine for five architectures; larger than one for a single architecture"),
    _rtx("rtx-turing", "RTX Turing (GeForce RTX 2080 Ti)", 75, memory_gb=11, bandwidth_gbps=616,
         int8_tops=215.2, fp16_tflops=107.6, notes="takes no FP32 GEMM: use fp16 or int8"),
    _rtx("rtx-a100", "A100 80GB, by TensorRT for RTX", 80, memory_gb=80, bandwidth_gbps=2039,
         int8_tops=624, fp16_tflops=312),
    _rtx("rtx-ampere", "RTX Ampere (GeForce RTX 3090)", 86, memory_gb=24, bandwidth_gbps=936,
         int8_tops=284, fp16_tflops=142),
    _rtx("rtx-ada", "RTX Ada (GeForce RTX 4090)", 89, memory_gb=24, bandwidth_gbps=1008,
         int8_tops=660.6, fp16_tflops=330.3),
    _rtx("rtx-blackwell", "RTX Blackwell (GeForce RTX 5090)", 120, memory_gb=32,
         bandwidth_gbps=1792, int8_tops=838, fp16_tflops=419),
    # NVIDIA gives only 1 PFLOP of sparse FP4 for it
    _rtx("dgx-spark", "DGX Spark (GB10)", 121, memory_gb=128, bandwidth_gbps=273),
)

# Classic TensorRT, built on the device.
_JETSON = (
    Target("jetson-nano", "Jetson Nano 4GB", TENSORRT, (53,), 4, 25.6, None, 0.472,
           jetpack="4.6", tensorrt=">=8.0,<8.3", no_int8=_NO_INT8, channel_multiple=8,
           hosts_edgedense=False, notes=_OLD_PYTHON),
    Target("jetson-tx2", "Jetson TX2 8GB", TENSORRT, (62,), 8, 59.7, None, 1.33,
           jetpack="4.6", tensorrt=">=8.0,<8.3", no_int8=_NO_INT8, channel_multiple=8,
           hosts_edgedense=False, notes=_OLD_PYTHON),
    Target("jetson-xavier-nx", "Jetson Xavier NX 8GB", TENSORRT, (72,), 8, 59.7, 12.3, 6.0, 2,
           jetpack="4.6, 5.1", tensorrt=">=8.0,<8.6", hosts_edgedense=False, notes=_OLD_PYTHON),
    Target("jetson-agx-xavier", "Jetson AGX Xavier 32GB", TENSORRT, (72,), 32, 136.5, 22, 11, 2,
           jetpack="4.6, 5.1", tensorrt=">=8.0,<8.6", hosts_edgedense=False, notes=_OLD_PYTHON),
    # 8 SMs at 1.02 GHz ("Super" clocks, JetPack 6.1 on); 68 GB/s, 20 TOPS, 10 TFLOPS before that
    Target("jetson-orin-nano", "Jetson Orin Nano 8GB (Super)", TENSORRT, (87,), 8, 102, 33, 17, 0,
           jetpack="6.0 to 7.2", tensorrt=">=8.6,<11",
           notes="JetPack 5.1 has Python 3.8: upgrade, or use trtexec there"),
    # GPU alone, 8 SMs at 918 MHz; NVIDIA's 100 TOPS are sparse and count both DLAs
    Target("jetson-orin-nx", "Jetson Orin NX 16GB", TENSORRT, (87,), 16, 102.4, 30, 15, 2,
           jetpack="6.0 to 7.2", tensorrt=">=8.6,<11",
           notes="JetPack 5.1 has Python 3.8: upgrade, or use trtexec there"),
    # 170 sparse INT8 TOPS in the technical brief
    Target("jetson-agx-orin", "Jetson AGX Orin 64GB", TENSORRT, (87,), 64, 204.8, 85, 42.5, 2,
           jetpack="6.0 to 7.2 and later", tensorrt=f">=8.6,{_NOT_ON_JETSON},<12",
           notes="TensorRT 11 only from 11.4.1 (JetPack 7.2.2)"),
    # FP16: 2070 sparse FP4 TFLOPS, halved for dense, FP8 and FP16; its INT8 rate is not published
    Target("jetson-thor", "Jetson AGX Thor (T5000)", TENSORRT, (110, 101), 128, 273, None, 258.8,
           jetpack="7.0 to 7.2 and later", tensorrt=f">=10.13,{_NOT_ON_JETSON},<12",
           notes="SM 11.0 under CUDA 13, 10.1 before"),
)

_DATA_CENTRE = (
    Target("t4", "T4", TENSORRT, (75,), 16, 320, 130, 65, tensorrt=">=8.6,<12"),
    Target("a10", "A10", TENSORRT, (86,), 24, 600, 250, 125, tensorrt=">=8.6,<12"),
    Target("a100", "A100 80GB SXM", TENSORRT, (80,), 80, 2039, 624, 312, tensorrt=">=8.6,<12"),
    Target("l4", "L4", TENSORRT, (89,), 24, 300, 242, 121, tensorrt=">=8.6,<12"),
    Target("l40s", "L40S", TENSORRT, (89,), 48, 864, 733, 362, tensorrt=">=8.6,<12"),
    Target("h100", "H100 SXM", TENSORRT, (90,), 80, 3350, 1979, 989, tensorrt=">=8.6,<12"),
)
# fmt: on

TARGETS: tuple[Target, ...] = _CPU + _RTX + _JETSON + _DATA_CENTRE

# what TensorRT for RTX builds for ahead of time
AHEAD_OF_TIME_SMS = tuple(sorted({sm for target in _RTX for sm in target.sms}))


def find_target(name: str) -> Target:
    """The target called ``name`` (case and underscores do not matter).

    Errors: InputError naming the closest names where there is none.
    """
    wanted = name.strip().lower().replace("_", "-")
    rows = {target.name: target for target in TARGETS}
    if wanted in rows:
        return rows[wanted]
    words = set(wanted.split("-"))
    near = [other for other in rows if len(words & set(other.split("-"))) > 1]
    near = near or difflib.get_close_matches(wanted, rows, n=3, cutoff=0.5)
    near = near or [other for other in rows if wanted and wanted in other]
    guess = f"Did you mean {' or '.join(near)}? " if near else ""
    raise InputError(f"there is no target {name!r}", f"{guess}`edgedense targets` lists them all.")
