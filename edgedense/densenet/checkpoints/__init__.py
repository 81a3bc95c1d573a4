"""Trained DenseNets out of whatever file they come in, without ever running the file's code.

What happens to a file, in order:

1. ``load`` tells artifacts from files, and files by their suffix.
2. PyTorch: ``torch_file`` reads tensors (``pickles`` names the code in what it must refuse,
   ``unreadable`` says what else is wrong with a file); ``wrappers`` finds the one state dict and
   takes prefixes off, ``twins`` tells it from its averaged copy; ``refused`` knows the relatives
   that edgedense does not run; ``recognise`` finds the scheme whose names fit (``schemes``), and
   undoes what its code base does otherwise (``reorder``, ``selection``).
   Keras and numpy: ``keras_file`` (with ``keras_config``, ``keras_layers``) or ``npz`` reads,
   ``keras`` recognises. Caffe: ``caffe_proto`` parses, ``caffe`` recognises. Both translate names
   by ``layer_names``; where names tell nothing, ``order`` goes by the order of the tensors
   (``readings``: which is a layer and which a transition).
3. All of them give one ``recognised.Recognised``: tensors under our names, and the facts that
   shapes do not tell. ``infer`` reads the structure off the shapes, ``restore`` checks every tensor
   against it and fills the network: a ``model.Model``.

A new code base in PyTorch is a row in ``schemes.SCHEMES``, with its original in
``tests/densenet/originals``. Nothing here imports PyTorch before a file is loaded.
"""

from __future__ import annotations

from pathlib import Path

from edgedense.densenet.checkpoints.model import Model, check_channels, save_weights
from edgedense.densenet.checkpoints.options import AS_FOUND, LoadOptions

__all__ = ["AS_FOUND", "LoadOptions", "Model", "check_channels", "load_model", "save_weights"]


def load_model(path: Path, options: LoadOptions = AS_FOUND) -> Model:
    """Load a checkpoint file or an artifact that holds weights.

    Errors: InputError for a missing, truncated or unsafe file, for a network that is no DenseNet,
    or of a scheme that cannot be told, and for weights that are not finite.
    """
    from edgedense.densenet.checkpoints.load import load

    return load(path, options)
