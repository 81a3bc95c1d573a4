"""What recognising a checkpoint gives, whatever file and code base it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from edgedense.densenet.spec import Activation, Padding, Pool

# the remedy where tensors are missing or contradict each other, whatever the file
SAVE_WHOLE = (
    "Copy the file again and compare its size with the original's; where they agree, save all of "
    "the network anew, in PyTorch with torch.save(model.state_dict(), 'weights.pth')."
)


@dataclass(frozen=True)
class Facts:
    """What a code base does and tensor shapes do not tell; the defaults are torchvision's.

    ``pool``, ``padding``, ``transition_relu``, ``activation``, ``thresholds`` and ``eps`` as in
    :class:`DenseNetSpec`; ``blur`` is for a deep stem. ``preset`` names the preprocessing that the
    code base trains with, where it has only one. ``notes`` are sentences for the user: what was
    inferred, dropped or reordered.
    """

    eps: float = 1e-5
    pool: Pool = "avg"
    padding: Padding = "symmetric"
    transition_relu: bool = True
    activation: Activation = "none"
    thresholds: tuple[float | None, ...] = ()
    blur: bool = False
    preset: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recognised:
    """A checkpoint under our names (torchvision's; bfortuner's for FC-DenseNet).

    ``state`` holds convolutions as (out, in, kh, kw), linear weights as (out, in), concats in the
    order [input, first layer, second layer, …].
    """

    scheme: str
    state: Mapping[str, Tensor]
    facts: Facts = field(default_factory=Facts)
