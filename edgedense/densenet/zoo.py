"""Named networks of the papers."""

from __future__ import annotations

from edgedense.densenet.spec import DenseNetSpec


def imagenet(depth: int, num_classes: int = 1000) -> DenseNetSpec:
    """DenseNet-121, 169, 201 (k = 32) or 161 (k = 48): paper, table 1."""
    config, growth = {
        121: ((6, 12, 24, 16), 32),
        169: ((6, 12, 32, 32), 32),
        201: ((6, 12, 48, 32), 32),
        161: ((6, 12, 36, 24), 48),
    }[depth]
    return DenseNetSpec.build(config, growth, stem="imagenet", num_classes=num_classes)


def cifar_bc(depth: int, growth_rate: int, num_classes: int = 10) -> DenseNetSpec:
    """DenseNet-BC for 32x32 images, three blocks of (depth - 4) / 6 layers: paper, section 4.2."""
    return DenseNetSpec.build(((depth - 4) // 6,) * 3, growth_rate, num_classes=num_classes)
