"""What a layer reads, as second moments: enough to solve for any other weights of it.

A convolution is a linear map of its columns (im2col: one row an output position) and of a one, for
the bias. Its Gram matrix is all that least squares needs, whatever the number of images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgedense.errors import InputError

# the ridge, as a share of the columns' mean square
RIDGE = 1e-4
_CONSTANT = 1e-9


@dataclass
class Gram:
    """Second moments, float64: ``inputs`` (D + 1, D + 1) and ``cross`` (D + 1, outputs).

    They are sums over ``rows``. The last of the D + 1 columns is the constant 1.
    """

    inputs: Tensor
    cross: Tensor
    rows: int = 0

    @classmethod
    def empty(cls, columns: int, outputs: int) -> Gram:
        """Of no rows, for so many columns beside the constant."""
        return cls(_zeros(columns + 1, columns + 1), _zeros(columns + 1, outputs))

    def add(self, columns: Tensor, wanted: Tensor) -> None:
        """Take columns (rows, D) and their wanted outputs (rows, outputs) into the sums."""
        u = F.pad(columns.double(), (0, 1), value=1.0)
        self.inputs += u.T @ u
        self.cross += u.T @ wanted.double()
        self.rows += len(u)

    def mean(self) -> Gram:
        """Per row. Errors: InputError for values that are not finite."""
        if not bool(self.inputs.isfinite().all() and self.cross.isfinite().all()):
            raise InputError(
                "the network gives NaN or infinite features on calibration images",
                "Check --preprocess, and the checkpoint by: edgedense inspect",
            )
        return Gram(self.inputs / self.rows, self.cross / self.rows, self.rows)

    def ridged(self) -> tuple[Tensor, float]:
        """``inputs`` with the ridge on their diagonal, positive definite, and its strength."""
        squares = self.inputs.diagonal()[:-1]
        strength = RIDGE * (float(squares.mean()) or 1.0)
        ridge = torch.full((len(squares) + 1,), strength, dtype=torch.float64)
        ridge[-1] = _CONSTANT
        return self.inputs + ridge.diag(), strength


def solve(gram: Gram, kept: Tensor, prior: Tensor) -> Tensor:
    """Ridge regression: weights (D + 1, outputs) on the columns ``kept`` (indices), else zero.

    The ridge draws to ``prior``, so that what the rows do not tell stays as it was, and any number
    of dead or dependent columns is safe.
    """
    ridged, strength = gram.ridged()
    index = torch.cat([kept, torch.tensor([len(ridged) - 1])])
    wanted = gram.cross[index]
    wanted[:-1] += strength * prior[kept]
    wanted[-1] += _CONSTANT * prior[-1]
    found = torch.zeros_like(prior)
    found[index] = torch.cholesky_solve(wanted, torch.linalg.cholesky(ridged[index][:, index]))
    return found


def area_of(layer: nn.Module) -> int:
    """Columns a channel: the kernel's area, 1 for a linear layer."""
    return int(weight_of(layer)[0, 0].numel())


def columns(x: Tensor, layer: nn.Module, positions: Tensor) -> Tensor:
    """Rows (N * P, C * area) that ``layer`` multiplies at flat output ``positions`` (N, P).

    ``x`` is its input (N, C, H, W); the channel changes slowest. Convolutions have stride 1 and
    padding that keeps the size; transposed ones stride 2 and no padding.
    """
    kernel = int(weight_of(layer).shape[-1])
    transposed = isinstance(layer, nn.ConvTranspose2d)
    x = _spread(x, kernel) if transposed else F.pad(x, (kernel // 2,) * 4)
    width = x.shape[3] - kernel + 1
    corners = positions // width * x.shape[3] + positions % width
    taps = (torch.arange(kernel)[:, None] * x.shape[3] + torch.arange(kernel)).flatten()
    taps = taps.flip(0) if transposed else taps
    places = (corners[:, None, :] + taps[None, :, None]).flatten(1)
    found = x.flatten(2).gather(2, places[:, None].expand(-1, x.shape[1], -1))
    found = found.reshape(*x.shape[:2], len(taps), positions.shape[1])
    return found.permute(0, 3, 1, 2).reshape(positions.numel(), -1)


def weights_of(layer: nn.Module) -> Tensor:
    """(D + 1, outputs), float64: weights in the order of :func:`columns`, the bias last."""
    weight = weight_of(layer).double()
    flat = _outputs_first(layer, weight).flatten(1).T
    bias = getattr(layer, "bias", None)
    last = torch.zeros(flat.shape[1]) if bias is None else bias.detach()
    return torch.cat([flat, last.double()[None]])


def set_weights(layer: nn.Module, weights: Tensor) -> None:
    """Give ``layer`` the weights that :func:`weights_of` would read, but not the bias."""
    weight = weight_of(layer)
    _outputs_first(layer, weight).copy_(
        weights[:-1].T.reshape(_outputs_first(layer, weight).shape).to(weight.dtype)
    )


def weight_of(layer: nn.Module) -> Tensor:
    """The weights themselves, detached."""
    if not isinstance(layer.weight, Tensor):
        raise TypeError(f"{type(layer).__name__} has no weight")
    return layer.weight.detach()


def _outputs_first(layer: nn.Module, weight: Tensor) -> Tensor:
    # PyTorch keeps transposed weights as (in, out, kh, kw)
    return weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight


def _spread(x: Tensor, kernel: int) -> Tensor:
    """What a transposed convolution of stride 2 is a plain one of, its kernel turned around."""
    n, c, h, w = x.shape
    edge = kernel - 1
    y = x.new_zeros(n, c, 2 * (h - 1) + 1 + 2 * edge, 2 * (w - 1) + 1 + 2 * edge)
    y[:, :, edge : edge + 2 * h - 1 : 2, edge : edge + 2 * w - 1 : 2] = x
    return y


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)
