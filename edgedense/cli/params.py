"""Options that several commands share, and reading what they name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from edgedense.densenet.checkpoints import (
    AS_FOUND,
    LoadOptions,
    Model,
    check_channels,
    load_model,
)
from edgedense.errors import InputError

if TYPE_CHECKING:
    from edgedense.data import ImageSet, Preprocess
    from edgedense.engines.pytorch import TorchRunner
    from edgedense.engines.reference import RecordedReference
    from edgedense.progress import Progress

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
model_argument = click.argument("model", type=PATH)
engine_argument = click.argument("engine", type=PATH)
reference_option = click.option(
    "--reference",
    type=PATH,
    metavar="MODEL",
    help="FP32 network to judge against (default: the logits that travel along).",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print exactly one JSON object on stdout."
)


def complete_target(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of targets, for the shell."""
    from edgedense.targets import TARGETS

    named = [CompletionItem(target.name, help=target.label) for target in TARGETS]
    return [item for item in named if item.value.startswith(incomplete)]


def complete_preprocess(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of presets, for the shell; else files."""
    from edgedense.data import PRESETS

    named = [CompletionItem(name) for name in PRESETS if name.startswith(incomplete)]
    return named or [CompletionItem(incomplete, type="file")]


preprocess_option = click.option(
    "--preprocess",
    shell_complete=complete_preprocess,
    metavar="NAME|FILE.toml",
    help="How images become tensors: imagenet, cifar10, cifar100, digits, caffe, xray, camvid "
    "or a TOML file. An artifact brings its own, and so does a checkpoint whose code base has only "
    "one; it is never guessed.",
)
calib_option = click.option(
    "--calib", type=PATH, required=True, help="Some hundred training images."
)
evaluation_option = click.option(
    "--eval",
    "evaluation",
    type=PATH,
    required=True,
    help="Labelled images that training never saw.",
)
run_option = click.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    metavar="RUN",
    help="Run directory: created, or resumed where it stopped.",
)
images_option = click.option(
    "--images", default=512, show_default=True, help="Most calibration images to use."
)
parameters_option = click.option(
    "--params", "parameters", type=float, help="Share of the parameters, instead."
)
method_option = click.option(
    "--method",
    type=click.Choice(["reconstruct", "magnitude", "bn-scale", "taylor", "fpgm", "lamp", "random"]),
    help="reconstruct solves what is left again by least squares; the others rate channels.  "
    "[default: reconstruct with --calib, else magnitude]",
)
align_option = click.option(
    "--align", type=int, help="Kept channels: a multiple of this.  [default: 8]"
)
PRECISION = click.Choice(["int8", "fp16", "fp32"])
PLACEMENT, EFFORT = click.Choice(["conv", "block"]), click.Choice(["fast", "default", "best"])
placement_option = click.option(
    "--placement",
    type=PLACEMENT,
    default="conv",
    show_default=True,
    help="conv: inputs of convolutions in INT8. block: concats too, half their memory traffic for "
    "some dB.",
)
effort_option = click.option(
    "--effort",
    type=EFFORT,
    default="default",
    show_default=True,
    help="fast: ranges only. default: also trades ranges between channels and rounds weights for "
    "what they add up to. best: also what costs memory or speed on the device.",
)
calibrator_option = click.option(
    "--calibrator",
    type=click.Choice(["mse", "entropy", "percentile", "max"]),
    default="mse",
    show_default=True,
    help="How a range is chosen from the values seen.",
)
io_option = click.option(
    "--io",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="Type of the GPU file's input and output; fp16 saves the casts.",
)
stem_option = click.option(
    "--int8-stem/--skip-stem",
    "int8_stem",
    default=None,
    help="Quantize the first convolution, or do not: for INT8, GPUs pad its few input channels to "
    "32.  [default: with placement conv only]",
)
sensitivity_option = click.option(
    "--sensitivity",
    is_flag=True,
    help="Measure what each quantized tensor costs alone; slow (sensitivity.json).",
)
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of every draw."
)


def output_option(required: bool = True) -> Callable[[F], F]:
    """``-o DIR``."""
    return click.option(
        "-o",
        "--output",
        type=PATH,
        required=required,
        metavar="DIR",
        help="Directory to create; whole or not at all.",
    )


class BatchRange(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """``MIN:OPT:MAX``, or one number for all three."""

    name = "MIN:OPT:MAX"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int]:
        """Three ascending positive numbers."""
        if isinstance(value, tuple):
            return value
        try:
            parts = [int(part) for part in str(value).split(":")]
        except ValueError:
            parts = []
        parts = parts * 3 if len(parts) == 1 else parts
        if len(parts) != 3 or not 1 <= parts[0] <= parts[1] <= parts[2]:
            self.fail(f"{value!r} is not MIN:OPT:MAX, for example 1:1:8", param, ctx)
        return parts[0], parts[1], parts[2]


class Several(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """One or more values of a kind, separated by commas."""

    name = "LIST"

    def __init__(self, kind: click.ParamType) -> None:  # type: ignore[type-arg]
        self.kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """The values in their order, each once."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        return tuple(dict.fromkeys(self.kind.convert(part, param, ctx) for part in parts))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """What may stand after the last comma."""
        before, comma, last = incomplete.rpartition(",")
        found = self.kind.shell_complete(ctx, param, last)
        return [CompletionItem(f"{before}{comma}{item.value}") for item in found]


batch_option = click.option(
    "--batch", type=BatchRange(), default="1:1:8", show_default=True, help="Batch sizes to serve."
)


def read_model(path: Path, options: LoadOptions = AS_FOUND) -> Model:
    """Load a checkpoint or artifact (the first place where PyTorch is imported)."""
    from edgedense.environment import require

    for module in ("torch", "safetensors"):
        require(module, "reading a trained network")

    return load_model(path, options)


def read_set(path: Path) -> ImageSet:
    """Read an image set."""
    from edgedense.data import load_set

    return load_set(path)


def record(
    model: Model, evaluation: Path, preprocess: Preprocess, progress: Progress
) -> RecordedReference:
    """FP32 logits of ``model`` on an evaluation set."""
    from edgedense.engines.reference import check_classes, record_reference

    images = read_set(evaluation)
    choose_preprocess(None, preprocess.to_dict(), images)
    runner = fp32_runner(model, preprocess)
    check_classes(runner.interface, images)
    return record_reference(runner, images, preprocess, progress=progress)


def fp32_runner(model: Model, preprocess: Preprocess) -> TorchRunner:
    """The FP32 reference in PyTorch."""
    from edgedense.engines.pytorch import reference_runner

    check_channels(model.spec, preprocess.channels)
    return reference_runner(model.network, preprocess.input_size)


def choose_preprocess(
    asked: str | None,
    recorded: dict[str, Any] | None,
    *sets: ImageSet,
    preset: str | None = None,
) -> Preprocess:
    """The one preprocessing: what an artifact or a set's manifest records, or what was asked.

    ``preset`` names the one that a checkpoint's code base trains with: it is taken where nothing
    else tells, and what is taken must not swap its red and blue.

    Errors: InputError where nothing tells it, or where two sources contradict each other.
    """
    from edgedense.data import PRESETS, Preprocess, load_preprocess

    found = [load_preprocess(asked)] if asked else []
    if recorded:
        found.append(Preprocess.from_dict(recorded))
    found.extend(images.preprocess for images in sets if images.preprocess is not None)
    if preset and not found:
        return PRESETS[preset]
    if not found:
        raise InputError(
            "preprocessing is unknown: the checkpoint does not say how its images were normalised",
            f"Give --preprocess {'|'.join(PRESETS)} or a TOML file.",
        )
    for other in found[1:]:
        if replace(other, name=found[0].name) != found[0]:
            raise InputError(
                f"two different preprocessings: {found[0].name} and {other.name}",
                "Leave --preprocess away: an artifact and a manifest bring their own.",
            )
    if preset:
        _check_colour(found[0], PRESETS[preset])
    return found[0]


def _check_colour(chosen: Preprocess, usual: Preprocess) -> None:
    if {chosen.colour, usual.colour} == {"RGB", "BGR"}:
        raise InputError(
            f"preprocessing {chosen.name} gives {chosen.colour} images, and the checkpoint's code "
            f"base trains on {usual.colour} ({usual.name})",
            f'Leave --preprocess away, or give a TOML file with colour = "{usual.colour}".',
        )
