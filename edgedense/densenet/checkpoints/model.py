"""A trained network, and what every reader of one needs to know of it; no PyTorch until it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedense.errors import InputError

if TYPE_CHECKING:
    from edgedense.densenet.family import Network
    from edgedense.densenet.specs import Spec


@dataclass(frozen=True)
class Model:
    """A trained network in eval mode, and where it came from.

    ``sha256`` identifies it: of the checkpoint file, or of the artifact's manifest.
    ``preprocess`` is the artifact's (a plain dictionary), None for a checkpoint; ``calibration``
    are content hashes of the images that an earlier stage learned from. ``notes`` say what was
    inferred, dropped and reordered; ``preset`` is the preprocessing that the checkpoint's code base
    trains with, None where that is not known.
    """

    network: Network
    scheme: str
    sha256: str
    source: Path
    preprocess: dict[str, Any] | None = None
    calibration: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    preset: str | None = None

    @property
    def spec(self) -> Spec:
        """The network's structure."""
        return self.network.spec


def save_weights(network: Network, path: Path) -> None:
    """Write a network's state dict as safetensors."""
    from safetensors.torch import save

    # safetensors' own writer hides a full disk behind an error of its own
    path.write_bytes(save({k: v.contiguous() for k, v in network.state_dict().items()}))


def check_channels(spec: Spec, channels: int) -> None:
    """Raise InputError where images of ``channels`` do not fit the network's stem."""
    if channels != spec.in_channels:
        raise InputError(
            f"the network reads {spec.in_channels} channel(s), the preprocessing gives {channels}",
            "Choose another --preprocess, or a TOML file with the right colour.",
        )
