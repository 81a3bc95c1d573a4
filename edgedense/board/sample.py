"""One look at the machine while it works."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgedense.board.rails import total_mw


@dataclass(frozen=True)
class Sample:
    """Power in mW by rail, temperatures in degrees Celsius by zone, clocks in MHz.

    ``throttled_by`` names what slows the machine down at this moment; None: the source of the
    sample does not tell.
    """

    rails_mw: dict[str, float] = field(default_factory=dict)
    temperatures_c: dict[str, float] = field(default_factory=dict)
    gpu_mhz: float | None = None
    emc_mhz: float | None = None
    cpu_mhz: float | None = None
    throttled_by: tuple[str, ...] | None = None

    @property
    def power_mw(self) -> float | None:
        """Of the rail, or the rails, that carry the whole."""
        total = total_mw(self.rails_mw)
        return total[0] if total else None
