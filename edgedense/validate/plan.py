"""Before an engine runs: which drops can this evaluation set show, and can it pass the gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgedense import stats


@dataclass(frozen=True)
class Plan:
    """What ``images`` labelled images can tell about a gate of ``max_drop_pp``.

    ``resolutions`` are for several supposed shares of images on which one network alone is right.
    """

    images: int
    max_drop_pp: float
    resolutions: tuple[stats.Resolution, ...]

    @property
    def can_pass(self) -> bool:
        """Whether an engine that answers just as FP32 does would pass."""
        return 100 * self.resolutions[0].excluded <= self.max_drop_pp

    @property
    def sentences(self) -> tuple[str, ...]:
        """What to tell before running."""
        none, *others = self.resolutions
        listed = ", ".join(
            f"{100 * r.excluded:.2g} pp at {100 * r.discordant:g} % discordant" for r in others
        )
        images = f"{self.images:,} image{'' if self.images == 1 else 's'}"
        said = (
            f"{images} can exclude drops above {100 * none.excluded:.2g} pp at best "
            f"(no answer differs), {listed}; asked: {self.max_drop_pp:g} pp."
        )
        return (said,) if self.can_pass else (said, self._hopeless())

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, in percent and percentage points."""
        return {
            "images": self.images,
            "max_drop_pp": self.max_drop_pp,
            "can_pass": self.can_pass,
            "resolutions": [
                {
                    "discordant": 100 * r.discordant,
                    "excluded_pp": 100 * r.excluded,
                    "detectable_pp": 100 * r.detectable,
                }
                for r in self.resolutions
            ],
        }

    def _hopeless(self) -> str:
        least = stats.images_to_exclude(self.max_drop_pp / 100)
        advice = "only a better engine would" if least is None else f"at least {least:,} are needed"
        return (
            f"This set cannot pass --max-drop {self.max_drop_pp:g} even if no answer differs: "
            f"{advice}."
        )


def plan(images: int, max_drop_pp: float) -> Plan:
    """What ``images`` labelled images can show of a classifier; ``max_drop_pp`` in points."""
    shares = stats.SUPPOSED_DISCORDANT
    return Plan(images, max_drop_pp, tuple(stats.resolution(images, share) for share in shares))
