"""From a path to a model: by what it is, through the reader that knows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgedense import artifact
from edgedense.densenet.checkpoints.infer import infer_spec
from edgedense.densenet.checkpoints.model import Model
from edgedense.densenet.checkpoints.options import AS_FOUND, LoadOptions
from edgedense.densenet.checkpoints.recognise import ORDER, check_name, recognise
from edgedense.densenet.checkpoints.recognised import Facts, Recognised
from edgedense.densenet.checkpoints.restore import restore
from edgedense.densenet.checkpoints.torch_file import read_checkpoint
from edgedense.densenet.checkpoints.wrappers import unwrap
from edgedense.densenet.family import Network, spec_from_dict
from edgedense.errors import InputError


def load(path: Path, options: LoadOptions) -> Model:
    """As :func:`edgedense.densenet.checkpoints.load_model`."""
    check_name(options.scheme)
    if artifact.is_artifact(path):
        return _load_artifact(path, options)
    if not path.is_file():
        what = "a directory, but no edgedense artifact" if path.is_dir() else "no such checkpoint"
        raise InputError(f"{path}: {what}", "Give a checkpoint file, or an artifact directory.")
    found = _recognise(path, options)
    facts = _overridden(found.facts, options)
    spec = infer_spec(found.state, facts, path)
    if options.pool is not None and spec.task == "segmentation":
        raise InputError(f"{path}: an FC-DenseNet always has max pools", "Leave --pool away.")
    network = restore(spec, found.state, path)
    sha256 = artifact.sha256_file(path)
    return Model(network, found.scheme, sha256, path, notes=facts.notes, preset=facts.preset)


def _recognise(path: Path, options: LoadOptions) -> Recognised:
    suffix = path.suffix.lower()
    if suffix == ".t7":
        raise InputError(
            f"{path}: a Lua Torch file, which no maintained library reads",
            "Save its arrays in order as arr_0, arr_1, … with np.savez, then: "
            f"edgedense import {path.stem}.npz -o DIR --scheme order",
        )
    if suffix in _FOREIGN:
        return _recognise_foreign(path, suffix, options)
    return recognise(unwrap(read_checkpoint(path), path, ema=options.ema), path, options.scheme)


_FOREIGN = (".h5", ".hdf5", ".keras", ".npz", ".caffemodel")


def _recognise_foreign(path: Path, suffix: str, options: LoadOptions) -> Recognised:
    """A file of Keras, Caffe or numpy, whose reader tells its scheme."""
    if options.ema:
        raise InputError(f"{path}: a {suffix} file holds no EMA weights", "Leave --ema away.")
    if suffix == ".caffemodel":
        from edgedense.densenet.checkpoints.caffe import recognise_caffe

        found = recognise_caffe(path)
    else:
        from edgedense.densenet.checkpoints.keras import recognise_keras, recognise_npz

        by_order = options.scheme == ORDER
        recognise_it = recognise_npz if suffix == ".npz" else recognise_keras
        found = recognise_it(path, by_order=by_order)
    if options.scheme not in (None, ORDER, found.scheme):
        raise InputError(
            f"{path}: of the scheme {found.scheme}, not {options.scheme}", "Leave --scheme away."
        )
    return found


def _overridden(facts: Facts, options: LoadOptions) -> Facts:
    if options.activation is not None:
        facts = replace(facts, activation=options.activation, thresholds=())
    if options.eps is not None:
        facts = replace(facts, eps=options.eps)
    if options.pool is not None:
        facts = replace(facts, pool=options.pool)
    if facts.activation == "none":
        return facts
    note = f"The original ends in {facts.activation}: recorded; networks here end at the logits."
    return replace(facts, notes=(*facts.notes, note))


def _load_artifact(path: Path, options: LoadOptions) -> Model:
    from safetensors.torch import load

    if options != AS_FOUND:
        raise InputError(
            f"{path}: an artifact, whose structure is recorded", "Give these options for a file."
        )
    source = artifact.read(path)
    if not source.has(artifact.WEIGHTS_FILE):
        raise InputError(
            f"{path}: a {source.manifest.stage} artifact holds no weights",
            "Give the checkpoint, or the artifact of prune.",
        )
    network = _restored(source, load(source.data(artifact.WEIGHTS_FILE)))
    scheme = f"edgedense:{source.manifest.stage}"
    preprocess = source.manifest.preprocess or None
    seen = artifact.calibration_content(source)
    return Model(network, scheme, source.sha256, path, preprocess, seen)


def _restored(source: artifact.Artifact, state: dict[str, Any]) -> Network:
    try:
        return restore(spec_from_dict(source.fact("model", "spec")), state, source.path)
    except _DAMAGED as error:
        raise InputError(
            f"{source.path}: the manifest's model.spec is damaged ({error})",
            "Make the artifact again.",
        ) from error


# what specs and torch raise on widths that are no widths
_DAMAGED = (TypeError, KeyError, ValueError, AttributeError, RuntimeError, ArithmeticError)
