"""The memory-efficient mode: concat, BN and ReLU are computed again in the backward pass.

Source: Pleiss et al., "Memory-Efficient Implementation of DenseNets" (arXiv 1707.06990, section 3).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def set_recompute(network: nn.Module, on: bool) -> None:
    """Switch the mode for all layers of a network."""
    for module in network.modules():
        if hasattr(module, "recompute"):
            setattr(module, "recompute", on)  # noqa: B010  for mypy a module's attributes are modules


def recomputed(
    compute: Callable[..., Tensor], norm: nn.BatchNorm2d, features: tuple[Tensor, ...]
) -> Tensor:
    """``compute(*features)`` whose intermediate values are not kept for the backward pass.

    ``norm`` is the BN inside it: its running statistics move once, not once more when the values
    are computed again.
    """
    result: Tensor = checkpoint(
        compute,
        *features,
        use_reentrant=False,
        preserve_rng_state=False,  # nothing is drawn inside
        context_fn=lambda: (contextlib.nullcontext(), _still(norm)),
    )
    return result


@contextlib.contextmanager
def _still(norm: nn.BatchNorm2d) -> Iterator[None]:
    buffers = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in norm.named_buffers():
                buffer.copy_(buffers[name])
