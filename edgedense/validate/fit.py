"""What must fit before and while an engine is measured."""

from __future__ import annotations

from edgedense.data import Batch, ImageSet, Preprocess
from edgedense.engines.reference import RecordedReference, check_classes
from edgedense.engines.runner import Interface, Runner
from edgedense.errors import InputError


def check_fit(
    engine: Runner,
    images: ImageSet,
    preprocess: Preprocess,
    reference: Runner | RecordedReference | None,
) -> None:
    """Raise InputError where engine, images, preprocessing and reference do not fit."""
    if len(images) == 0:
        raise InputError(f"{images.source}: no images", "Give a set with at least one image.")
    check_classes(engine.interface, images)
    _check_input(engine.interface, preprocess)
    if reference is None:
        return
    if isinstance(reference, RecordedReference):
        theirs = reference.output_shape
    else:
        theirs = reference.interface.output_shape
        _check_input(reference.interface, preprocess)
    ours = tuple(engine.interface.output_shape)
    if tuple(theirs) != ours:
        raise InputError(
            f"the reference has {_outputs(theirs)} outputs, but the engine has {_outputs(ours)}",
            "Give with --reference the FP32 model that the engine was made from.",
        )


def refuse_calibration_images(batch: Batch, seen: frozenset[str]) -> None:
    """Raise InputError, naming the first, where an image was also used for calibration."""
    for name, content in zip(batch.names, batch.content, strict=True):
        if content in seen:
            raise InputError(
                f"{name} is a calibration image of this engine (same pixels)",
                "Give images with --data that it never saw, or quantize again without these.",
            )


def _check_input(interface: Interface, preprocess: Preprocess) -> None:
    gives = (preprocess.channels, *preprocess.input_size)
    takes = tuple(interface.input_shape)
    if gives != takes:
        raise InputError(
            f"preprocessing {preprocess.name!r} gives images of {gives} (channels, height, width), "
            f"but the model takes {takes}",
            "Use the preprocessing that is recorded in the artifact.",
        )


def _outputs(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
