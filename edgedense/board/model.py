"""Which Jetson this is, if it is one."""

from __future__ import annotations

import re
from pathlib import Path

from edgedense.board.files import text

# NVIDIA's systems on a chip, in a device tree's ``compatible``, and their compute capability
CHIPS = {"tegra210": 53, "tegra186": 62, "tegra194": 72, "tegra234": 87, "tegra264": 110}
# the same by a word of the model, for systems that do not show ``compatible``; the first that fits
_MODELS = (
    *(("Thor", 110), ("Orin", 87), ("Xavier", 72), ("Jetson-AGX", 72), ("TX2", 62)),
    *(("quill", 62), ("lanai", 62), ("Nano", 53), ("TX1", 53)),
)


def board_model(root: Path = Path("/")) -> str | None:
    """What the device tree calls this board; None on machines without, as PCs."""
    return text(root / "proc/device-tree/model")


def jetson_model(root: Path = Path("/")) -> str | None:
    """A Jetson's model; None on other machines."""
    return board_model(root) if jetson_sm(root) is not None else None


def l4t_release(root: Path = Path("/")) -> str | None:
    """The release of Jetson Linux (L4T), such as 36.4.3; None on other machines."""
    told = text(root / "etc/nv_tegra_release") or ""
    found = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]*\d)", told)
    return f"{found[1]}.{found[2]}" if found else None


def jetson_sm(root: Path = Path("/")) -> int | None:
    """Compute capability of a Jetson's GPU (87 is 8.7); None on other machines."""
    model = board_model(root)
    if model is None:
        return None
    for name in (text(root / "proc/device-tree/compatible") or "").split("\0"):
        maker, _, chip = name.partition(",")
        if maker == "nvidia" and chip in CHIPS:
            return CHIPS[chip]
    return next((sm for word, sm in _MODELS if word in model), None)
