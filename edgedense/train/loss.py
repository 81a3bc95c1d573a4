"""What training minimises."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

VOID = 255  # pixels of a mask that nobody judges


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean over the images, of logits (N, classes) and classes (N,)."""
    return F.cross_entropy(logits, targets, label_smoothing=smoothing)


def pixel_cross_entropy(
    logits: Tensor, targets: Tensor, judged: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Sum over the pixels that are not void, of logits (N, classes, H, W), through ``judged``."""
    total = F.cross_entropy(
        logits, targets, label_smoothing=smoothing, ignore_index=VOID, reduction="sum"
    )
    return total / judged


def distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence from the teacher's softened answers, times temperature squared.

    Mean over images (and pixels). Source: Hinton et al., "Distilling the Knowledge in a Neural
    Network" (arXiv 1503.02531, section 2).
    """
    ours = F.log_softmax(logits / temperature, 1)
    theirs = F.log_softmax(teacher / temperature, 1)
    divergence = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)
    return divergence.mean() * temperature**2
