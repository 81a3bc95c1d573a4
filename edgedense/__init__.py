"""Make a trained DenseNet ready for an NVIDIA edge device, and prove that it still works."""

__version__ = "0.1.0"
