"""What a kernel takes by a device's data sheet: bytes, products, and the launch.

Source: Williams et al., "Roofline" (CACM 52(4), 2009), with a launch added to each kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgedense.errors import InputError
from edgedense.latency.kernels import Kernel, Precision
from edgedense.targets import Target

Bound = Literal["memory", "compute", "launch"]

# Share of both peaks that is reached: copies reach 0.8 to 0.9 of the bandwidth, convolutions of few
# channels less than half of the tensor cores' rate. With this one number the FP16 latencies of
# DenseNet-121 to -201 and -161 in torch2trt's README are predicted at 0.93 to 1.01 of the Jetson
# Nano's and at 0.37 to 0.42 of the AGX Xavier's: ratios on one device hold, milliseconds may not.
EFFICIENCY = 0.6


@dataclass(frozen=True)
class Roofline:
    """The peaks of one device: bytes a second, and operations a second of the products.

    A launch costs ``launch_us`` on top: 4 to 6 us where the host enqueues each kernel (what it
    takes to hand one over, and the gap on the GPU), as the runner does; in a CUDA graph it is about
    1. Longer kernels hide a part of it, so a sum of launches is an upper end.
    """

    bandwidth: float
    rate: float
    launch_us: float
    channel_multiple: int

    @classmethod
    def of(cls, target: Target, precision: Precision) -> Roofline:
        """That of ``target``. Errors: InputError naming what its row lacks."""
        rates = {
            "int8": ("INT8 rate", target.int8_tops),
            "fp16": ("FP16 rate", target.fp16_tflops),
            "fp32": ("FP32 rate", None),
        }
        if precision == "int8" and target.no_int8:
            raise InputError(
                f"no INT8 latency of {target.name}: {target.no_int8}", "Ask for FP16 there."
            )
        known = {"bandwidth": target.bandwidth_gbps, rates[precision][0]: rates[precision][1]}
        missing = [name for name, value in known.items() if value is None]
        if missing or target.bandwidth_gbps is None:
            raise InputError(
                f"{target.name}: no {' and no '.join(missing)} is known, so no latency can be "
                "predicted",
                f"Measure there: edgedense profile-target --target {target.name} -o TABLE.json, "
                "then give --latency-table TABLE.json",
            )
        peak = EFFICIENCY * 1e9
        rate = (rates[precision][1] or 0.0) * 1e3 * peak
        return cls(target.bandwidth_gbps * peak, rate, target.launch_us, target.channel_multiple)

    def time(self, kernel: Kernel) -> tuple[float, Bound]:
        """Microseconds of one launch, and which of its parts is the longest."""
        parts: dict[Bound, float] = {
            "memory": kernel.bytes / self.bandwidth * 1e6,
            "compute": 2 * kernel.macs(self.channel_multiple) / self.rate * 1e6,
        }
        longer = max(parts, key=lambda bound: parts[bound])
        work = parts[longer]
        return work + self.launch_us, longer if work > self.launch_us else "launch"
