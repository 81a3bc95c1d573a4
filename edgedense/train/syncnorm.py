"""Batch normalisation over the images of all processes: what one process with them all would do.

torch.nn.SyncBatchNorm does this on GPUs only. Source of the backward formula: Ioffe and Szegedy,
"Batch Normalization" (arXiv 1502.03167, section 3), with sums over all processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist


def synchronise(network: nn.Module, group: dist.ProcessGroup | None) -> None:
    """Let every BN of ``network`` use the statistics of all processes of ``group``, in training.

    Parameters, buffers and their names stay. ``group`` is best one of its own: the gradients of
    DistributedDataParallel travel at the same time.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, SyncNorm(child, group))


class SyncNorm(nn.BatchNorm2d):
    """A BN, with the parameters and buffers of ``norm``, whose batch is that of all processes."""

    def __init__(self, norm: nn.BatchNorm2d, group: dist.ProcessGroup | None) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.group = group
        self._parameters, self._buffers = norm._parameters, norm._buffers

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        if not self.training:
            return super().forward(input)
        mean, var, count = _statistics(input, self.group)
        self._remember(mean, var * (count / (count - 1)))
        apply: Callable[..., Tensor] = _Normalise.apply
        return apply(input, self.weight, self.bias, mean, var, self)

    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            raise TypeError("a DenseNet's BN tracks its statistics with a momentum")
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


@torch.no_grad()
def _statistics(x: Tensor, group: dist.ProcessGroup | None) -> tuple[Tensor, Tensor, float]:
    """Mean, biased variance (C) and number of values a channel, over all processes."""
    var, mean = torch.var_mean(_wide(x), (0, 2, 3), correction=0)
    count = x.numel() / x.shape[1]
    own = torch.cat([mean, var, mean.new_tensor([count])])
    rows = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(rows, own, group=group)
    all_rows = torch.stack(rows)  # a fixed order: the same sums on every process
    means, variances, counts = all_rows.tensor_split([mean.numel(), 2 * mean.numel()], 1)
    share = counts / counts.sum()
    total = (means * share).sum(0)
    variance = ((variances + (means - total) ** 2) * share).sum(0)
    return total, variance, float(counts.sum())


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, norm: SyncNorm
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(var + norm.eps))
        ctx.group = norm.group
        return torch.batch_norm(x, weight, bias, mean, var, False, 0.0, norm.eps, False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        wide = (1, -1, 1, 1)
        grad, centred = _wide(grads[0]), (_wide(x) - mean.view(wide)).mul_(rstd.view(wide))
        grad_bias = grad.sum((0, 2, 3))
        grad_weight = (grad * centred).sum((0, 2, 3))
        count = grad_bias.new_tensor([x.numel() / x.shape[1]])
        sums = torch.cat([grad_bias, grad_weight, count])
        dist.all_reduce(sums, group=ctx.group)
        bias_mean, weight_mean = (sums[:-1] / sums[-1]).view(2, *wide)
        grad_x = centred.mul_(-weight_mean).add_(grad).sub_(bias_mean)
        grad_x.mul_((weight * rstd).view(wide))
        # DistributedDataParallel averages the parameters' gradients itself
        return grad_x.to(x.dtype), grad_weight, grad_bias, None, None, None


def _wide(x: Tensor) -> Tensor:
    """Sums of half precision values are taken in single precision."""
    return x if x.dtype == torch.float64 else x.float()
