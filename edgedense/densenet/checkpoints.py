"""Loading a trained DenseNet from whatever file it comes in, without ever running its code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgedense import artifact
from edgedense.densenet.family import Network, Spec, spec_from_dict
from edgedense.densenet.infer import infer_spec
from edgedense.densenet.options import AS_FOUND, LoadOptions
from edgedense.densenet.recognise import ORDER, check_name, recognise
from edgedense.densenet.recognised import Facts, Recognised
from edgedense.densenet.restore import restore
from edgedense.densenet.torch_file import read_checkpoint
from edgedense.densenet.wrappers import unwrap
from edgedense.errors import InputError


@dataclass(frozen=True)
class Model:
    """A trained network in eval mode, and where it came from.

    ``sha256`` identifies it: of the checkpoint file, or of the artifact's manifest.
    ``preprocess`` is the artifact's (a plain dictionary), None for a checkpoint; ``calibration``
    are content hashes of the images that an earlier stage learned from. ``notes`` say what was
    inferred, dropped and reordered; ``preset`` is the preprocessing that the checkpoint's code base
    trains with, None where that is not known.
    """

    network: Network
    scheme: str
    sha256: str
    source: Path
    preprocess: dict[str, Any] | None = None
    calibration: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    preset: str | None = None

    @property
    def spec(self) -> Spec:
        """The network's structure."""
        return self.network.spec


def load_model(path: Path, options: LoadOptions = AS_FOUND) -> Model:
    """Load a checkpoint file or an artifact that holds weights.

    Errors: InputError for a missing, truncated or unsafe file, for a network that is no DenseNet,
    or of a scheme that cannot be told, and for weights that are not finite.
    """
    check_name(options.scheme)
    if artifact.is_artifact(path):
        return _load_artifact(path, options)
    if not path.is_file():
        what = "a directory, but no edgedense artifact" if path.is_dir() else "no such checkpoint"
        raise InputError(f"{path}: {what}", "Give a checkpoint file, or an artifact directory.")
    found = _recognise(path, options)
    facts = _overridden(found.facts, options)
    network = restore(infer_spec(found.state, facts, path), found.state, path)
    sha256 = artifact.sha256_file(path)
    return Model(network, found.scheme, sha256, path, notes=facts.notes, preset=facts.preset)


def save_weights(network: Network, path: Path) -> None:
    """Write a network's state dict as safetensors."""
    from safetensors.torch import save

    # safetensors' own writer hides a full disk behind an error of its own
    path.write_bytes(save({k: v.contiguous() for k, v in network.state_dict().items()}))


def check_channels(spec: Spec, channels: int) -> None:
    """Raise InputError where images of ``channels`` do not fit the network's stem."""
    if channels != spec.in_channels:
        raise InputError(
            f"the network reads {spec.in_channels} channel(s), the preprocessing gives {channels}",
            "Choose another --preprocess, or a TOML file with the right colour.",
        )


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
        from edgedense.densenet.caffe import recognise_caffe

        found = recognise_caffe(path)
    else:
        from edgedense.densenet.keras import recognise_keras, recognise_npz

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
