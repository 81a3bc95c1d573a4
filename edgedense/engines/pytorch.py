"""PyTorch on the CPU: the FP32 reference that everything is judged against."""

from __future__ import annotations

import torch
from torch import nn

from edgedense.densenet.family import Network, Spec
from edgedense.densenet.spec import INPUT, OUTPUT
from edgedense.engines.runner import Floats, Images, Interface


class TorchRunner:
    """Runs a network in eval mode, in FP32, on all cores."""

    def __init__(
        self, network: nn.Module, interface: Interface, name: str = "pytorch-fp32"
    ) -> None:
        self.name = name
        self.interface = interface
        self._network = network.eval()

    @torch.inference_mode()
    def __call__(self, images: Images) -> Floats:
        """Logits (N, classes[, height, width]) of images (N, channels, height, width)."""
        logits: Floats = self._network(torch.from_numpy(self.interface.fed(images))).numpy()
        return logits

    def close(self) -> None:
        """Nothing is held open."""


def reference_runner(network: Network, input_size: tuple[int, int]) -> TorchRunner:
    """The FP32 reference for images of (height, width) pixels."""
    return TorchRunner(network, interface_of(network.spec, input_size))


def interface_of(spec: Spec, input_size: tuple[int, int]) -> Interface:
    """Input and output of a network for images of (height, width) pixels."""
    pixels = input_size if spec.task == "segmentation" else ()
    shape = (spec.num_classes, *pixels)
    return Interface(
        INPUT, (spec.in_channels, *input_size), OUTPUT, shape, activation=spec.activation
    )
