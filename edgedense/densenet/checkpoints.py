"""Loading a trained DenseNet from whatever file it comes in, without ever running its code."""

from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgedense import artifact
from edgedense.densenet.infer import infer_spec
from edgedense.densenet.network import DenseNet
from edgedense.densenet.pickles import find_code
from edgedense.densenet.schemes import SCHEMES, Scheme
from edgedense.densenet.spec import DenseNetSpec
from edgedense.errors import InputError

_ENTRIES = ("state_dict", "net", "model", "model_state")
_PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class Model:
    """A trained network in eval mode, and where it came from.

    ``sha256`` identifies it: of the checkpoint file, or of the artifact's manifest.
    ``preprocess`` is the artifact's (a plain dictionary), None for a checkpoint; ``calibration``
    are content hashes of the images that an earlier stage learned from.
    """

    network: DenseNet
    scheme: str
    sha256: str
    source: Path
    preprocess: dict[str, Any] | None = None
    calibration: tuple[str, ...] = ()

    @property
    def spec(self) -> DenseNetSpec:
        """The network's structure."""
        return self.network.spec


def load_model(path: Path) -> Model:
    """Load a checkpoint file or an artifact that holds weights.

    Errors: InputError for a missing, truncated or unsafe file, for a network that is no DenseNet,
    and for weights that are not finite.
    """
    if artifact.is_artifact(path):
        return _load_artifact(path)
    if not path.is_file():
        what = "a directory, but no edgedense artifact" if path.is_dir() else "no such checkpoint"
        raise InputError(f"{path}: {what}", "Give a checkpoint file, or an artifact directory.")
    state = _strip_prefixes(_unwrap(_read(path), path))
    scheme, renamed = _recognise(state, path)
    network = _restore(infer_spec(renamed, path), renamed, path)
    return Model(network, scheme.name, artifact.sha256_file(path), path)


def save_weights(network: DenseNet, path: Path) -> None:
    """Write a network's state dict as safetensors."""
    from safetensors.torch import save

    # safetensors' own writer hides a full disk behind an error of its own
    path.write_bytes(save({k: v.contiguous() for k, v in network.state_dict().items()}))


def check_channels(spec: DenseNetSpec, channels: int) -> None:
    """Raise InputError where images of ``channels`` do not fit the network's stem."""
    if channels != spec.in_channels:
        raise InputError(
            f"the network reads {spec.in_channels} channel(s), the preprocessing gives {channels}",
            "Choose another --preprocess, or a TOML file with the right colour.",
        )


def _load_artifact(path: Path) -> Model:
    from safetensors.torch import load

    source = artifact.read(path)
    if not source.has(artifact.WEIGHTS_FILE):
        raise InputError(
            f"{path}: a {source.manifest.stage} artifact holds no weights",
            "Give the checkpoint, or the artifact of prune.",
        )
    spec = _spec(source)
    network = _restore(spec, load(source.data(artifact.WEIGHTS_FILE)), path)
    scheme = f"edgedense:{source.manifest.stage}"
    preprocess = source.manifest.preprocess or None
    seen = artifact.calibration_content(source)
    return Model(network, scheme, source.sha256, path, preprocess, seen)


def _spec(source: artifact.Artifact) -> DenseNetSpec:
    try:
        return DenseNetSpec.from_dict(source.fact("model", "spec"))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InputError(
            f"{source.path}: the manifest's model.spec is damaged ({error})",
            "Make the artifact again.",
        ) from error


def _read(path: Path) -> object:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; the outcome says enough
            return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        if code := find_code(path):
            raise InputError(
                f"{path}: refused unread, its pickle names code ({code})",
                "Save the weights alone where you trust the file: "
                "torch.save(model.state_dict(), 'weights.pth')",
            ) from error
        raise InputError(f"{path}: not a PyTorch checkpoint, or truncated", _RECOPY) from error


# what torch.load raises on damaged files, in its zip form and in the older one
_UNREADABLE = (
    *(pickle.UnpicklingError, struct.error, AssertionError, RuntimeError, EOFError, OSError),
    *(ValueError, LookupError, AttributeError, TypeError, OverflowError),
)
_RECOPY = "Copy or download the file again, and compare its size and checksum with the original."


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file, or truncated", _RECOPY) from error


def _unwrap(raw: object, path: Path) -> dict[str, Tensor]:
    for entry in _ENTRIES:
        if isinstance(raw, Mapping) and isinstance(raw.get(entry), Mapping):
            raw = raw[entry]
    if isinstance(raw, Mapping):
        state = {str(k): v for k, v in raw.items() if isinstance(v, Tensor)}
        if state:
            return state
    raise InputError(
        f"{path}: no state dict inside (looked for tensors at the top and under "
        f"{', '.join(_ENTRIES)})",
        "Save the weights as torch.save(model.state_dict(), 'weights.pth').",
    )


def _strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    stripped = True
    while stripped:
        stripped = False
        for prefix in _PREFIXES:
            if all(key.startswith(prefix) for key in state):
                state = {key.removeprefix(prefix): value for key, value in state.items()}
                stripped = True
    return state


def _recognise(state: dict[str, Tensor], path: Path) -> tuple[Scheme, dict[str, Tensor]]:
    misfits = []
    for scheme in SCHEMES:
        names = {key: scheme.rename(key) for key in state}
        unknown = [key for key, name in names.items() if name is None]
        if not unknown:
            return scheme, _renamed(state, names, path)
        misfits.append((len(unknown), scheme.name, unknown[0]))
    _, name, key = min(misfits)
    raise InputError(
        f"{path}: not a DenseNet that edgedense knows (tried "
        f"{', '.join(s.name for s in SCHEMES)}; nearest is {name}, which has no {key!r})",
        "Check that this is a DenseNet; else rename its state dict's keys to torchvision's names.",
    )


def _renamed(
    state: dict[str, Tensor], names: Mapping[str, str | None], path: Path
) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        name = str(names[key])
        if name in renamed:
            raise InputError(
                f"{path}: {key} and another tensor are both {name}",
                "The file mixes two ways of naming: keep one of the two.",
            )
        renamed[name] = value
    return renamed


def _restore(spec: DenseNetSpec, state: dict[str, Tensor], path: Path) -> DenseNet:
    bad = [key for key, value in state.items() if not bool(torch.isfinite(value.float()).all())]
    if bad:
        raise InputError(
            f"{path}: NaN or infinity in {bad[0]}"
            + (f" and {len(bad) - 1} more tensors" if len(bad) > 1 else ""),
            "Training diverged before this was saved: take an earlier checkpoint.",
        )
    network = DenseNet(spec)
    wanted = network.state_dict()
    for key, value in wanted.items():
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, value)  # files older than PyTorch 0.4.1 have none
    _check_tensors(wanted, state, path)
    network.load_state_dict(state)
    return network.eval()


def _check_tensors(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    for key, value in wanted.items():
        found = tuple(state[key].shape) if key in state else None
        if found != tuple(value.shape):
            raise InputError(
                f"{path}: {key} has shape {found}, where the structure asks for "
                f"{tuple(value.shape)}",
                "The file is incomplete, or of a variant that edgedense does not know yet.",
            )
    if extra := sorted(set(state) - set(wanted)):
        raise InputError(
            f"{path}: {extra[0]} has no place in the structure that its other tensors give",
            "The file is of a variant that edgedense does not know yet.",
        )
