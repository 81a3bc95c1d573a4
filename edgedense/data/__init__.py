"""Images: which ones (sets), how they become input (preprocess), and reading them (decode)."""

from edgedense.data.decode import Batch, batches, content_hashes
from edgedense.data.loading import load_set
from edgedense.data.manifests import write_manifest
from edgedense.data.masks import classes_file
from edgedense.data.overlap import refuse_overlap
from edgedense.data.preprocess import PRESETS, Preprocess, load_preprocess
from edgedense.data.sets import VOID, ImageSet, Item, set_sha256

__all__ = [
    "PRESETS",
    "VOID",
    "Batch",
    "ImageSet",
    "Item",
    "Preprocess",
    "batches",
    "classes_file",
    "content_hashes",
    "load_preprocess",
    "load_set",
    "refuse_overlap",
    "set_sha256",
    "write_manifest",
]
