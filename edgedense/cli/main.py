"""The command ``edgedense``: its commands in the order of the data, and its exit codes."""

from __future__ import annotations

import signal
import sys
import traceback
from types import FrameType
from typing import NoReturn

import click

from edgedense import __version__
from edgedense.cli.benchmark import benchmark
from edgedense.cli.build_engine import build_engine
from edgedense.cli.compare import compare
from edgedense.cli.demo import demo
from edgedense.cli.deploy import deploy
from edgedense.cli.doctor import doctor
from edgedense.cli.ending import EXIT_BUG, failed, interrupted, tell
from edgedense.cli.export_triton import export_triton
from edgedense.cli.finetune import finetune
from edgedense.cli.import_model import import_model
from edgedense.cli.inspect import inspect
from edgedense.cli.layers import layers
from edgedense.cli.lint import lint
from edgedense.cli.models import models
from edgedense.cli.new_key import new_key
from edgedense.cli.pack import pack
from edgedense.cli.profile_target import profile_target
from edgedense.cli.prune import prune
from edgedense.cli.quantize import quantize
from edgedense.cli.report import report
from edgedense.cli.run_bundle import run_bundle
from edgedense.cli.sweep import sweep
from edgedense.cli.targets import targets
from edgedense.cli.train import train
from edgedense.cli.validate import validate
from edgedense.distributed import Finished, leave
from edgedense.errors import EdgedenseError, InputError

# what several processes do together under torchrun; the rest is done by the first alone
SHARED = frozenset({"train", "finetune", "quantize", "validate"})
# commands in the order of work
SECTIONS = {
    "A network": (train, inspect, import_model, prune, finetune),
    "Quantize and build": (quantize, lint, build_engine, layers),
    "Prove": (benchmark, validate, compare, report),
    "Ship": (pack, run_bundle, new_key, export_triton),
    "All at once": (deploy, sweep, demo),
    "What there is": (models, targets, profile_target, doctor),
}


class Ordered(click.Group):
    """Lists commands as they were added, the order of work, under the headings of SECTIONS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of work."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line a command."""
        width = max(map(len, self.commands))
        room = formatter.width - width - 6
        formatter.write_paragraph()
        for heading, commands in SECTIONS.items():
            formatter.write(f"{heading}:\n")
            for command in commands:
                told = command.get_short_help_str(room)
                formatter.write(f"  {command.name or '':<{width}}  {told}\n")


@click.group(
    cls=Ordered,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="edgedense")
@click.pass_context
def cli(context: click.Context) -> None:
    """Make a trained DenseNet ready for an NVIDIA edge device, and prove that it still works.

    \b
    The order of work:  train → inspect → prune → finetune → quantize → lint
                        → build-engine → layers → benchmark → validate → report
    All of it at once:  edgedense deploy MODEL --calib SET --eval SET -o RUN
    Then on a device:   edgedense pack RUN -o B.edz → edgedense run-bundle B.edz
    Or on a server:     edgedense export-triton ENGINE -o REPOSITORY
    Many at once:       edgedense sweep MODEL --calib SET --eval SET -o RUN
    Never seen it?      edgedense demo
    """
    if context.invoked_subcommand not in SHARED:
        leave()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for section in SECTIONS.values():
    for command in section:
        cli.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit with its code (see ``edgedense.errors``)."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        sys.exit(failed(InputError(error.format_message(), _help_for(error))))
    except (KeyboardInterrupt, click.Abort) as error:
        sys.exit(interrupted(error))
    except EdgedenseError as error:
        if error.exit_code == EXIT_BUG:
            traceback.print_exc()
            sys.exit(tell(error.what, error.remedy, EXIT_BUG))
        sys.exit(failed(error))
    except Finished:
        sys.exit(0)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; there is nobody to tell
        sys.exit(0)
    except Exception:  # noqa: BLE001  the last place: anything unforeseen is a bug
        traceback.print_exc()
        remedy = "Please report it with the lines above."
        sys.exit(tell("this is a bug in edgedense", remedy, EXIT_BUG))


def _help_for(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"See: {context.command_path if context else 'edgedense'} --help"


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
