"""The stems of the family: what stands before the first dense block."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from edgedense.densenet.spec import DenseNetSpec


def stem_modules(spec: DenseNetSpec) -> OrderedDict[str, nn.Module]:
    """The stem's modules, by the names that torchvision and timm give them."""
    if spec.stem == "cifar":
        conv = nn.Conv2d(spec.in_channels, spec.stem_width, 3, padding=1, bias=False)
        return OrderedDict(conv0=conv)
    modules = _imagenet(spec) if spec.stem == "imagenet" else _deep(spec)
    same = spec.padding == "same"
    if spec.stem == "deep-blur":
        modules["pool0"] = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), Blur())
    else:
        modules["pool0"] = SamePool(3, 2) if same else nn.MaxPool2d(3, 2, padding=1)
    return modules


def same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """(before, after) that TensorFlow pads one side of ``side`` pixels with for "same"."""
    whole = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return whole // 2, whole - whole // 2


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's "same" is: more at the bottom and the right."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to (N, out, ceil(H / stride), ceil(W / stride))."""
        kernel, stride = int(self.kernel_size[0]), int(self.stride[0])
        return super().forward(_padded(input, kernel, stride))


class SamePool(nn.Module):
    """A max pool of values that are not negative, padded as TensorFlow's "same" is."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride))."""
        return F.max_pool2d(_padded(x, self.kernel, self.stride), self.kernel, self.stride)


class Blur(nn.Module):
    """Binomial 3x3 blur of stride 2 with reflected borders, as two 2x2 means: they convolve to it.

    Source: Zhang, "Making Convolutional Networks Shift-Invariant Again" (arXiv 1904.11486,
    section 3.2); timm's BlurPool2d.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, ceil(H / 2), ceil(W / 2))."""
        x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return F.avg_pool2d(F.avg_pool2d(x, 2, 1), 2, 2)


def _imagenet(spec: DenseNetSpec) -> OrderedDict[str, nn.Module]:
    kind, padding = (SameConv, 0) if spec.padding == "same" else (nn.Conv2d, 3)
    conv = kind(spec.in_channels, spec.stem_width, 7, 2, padding=padding, bias=False)
    norm = nn.BatchNorm2d(spec.stem_width, eps=spec.eps)
    return OrderedDict(conv0=conv, norm0=norm, relu0=nn.ReLU(inplace=True))


def _deep(spec: DenseNetSpec) -> OrderedDict[str, nn.Module]:
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    channels, stride = spec.in_channels, 2
    for number, width in enumerate((*spec.stem_hidden, spec.stem_width)):
        modules[f"conv{number}"] = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        modules[f"norm{number}"] = nn.BatchNorm2d(width, eps=spec.eps)
        modules[f"relu{number}"] = nn.ReLU(inplace=True)
        channels, stride = width, 1
    return modules


def _padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    top, bottom = same_padding(x.shape[2], kernel, stride)
    left, right = same_padding(x.shape[3], kernel, stride)
    return F.pad(x, (left, right, top, bottom))
