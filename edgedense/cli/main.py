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
from edgedense.cli.demo import demo
from edgedense.cli.deploy import deploy
from edgedense.cli.doctor import doctor
from edgedense.cli.inspect import inspect
from edgedense.cli.prune import prune
from edgedense.cli.quantize import quantize
from edgedense.cli.report import report
from edgedense.cli.targets import targets
from edgedense.cli.terminal import emit
from edgedense.cli.validate import validate
from edgedense.errors import EdgedenseError

EXIT_USAGE, EXIT_BUG, EXIT_INTERRUPTED = 2, 70, 130


class Ordered(click.Group):
    """Lists commands as they were added: the order of work."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of work."""
        return list(self.commands)


@click.group(cls=Ordered, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgedense")
def cli() -> None:
    """Make a trained DenseNet ready for an NVIDIA edge device, and prove that it still works.

    \b
    The order of work:  inspect → prune → quantize → build-engine → benchmark → validate → report
    All of it at once:  edgedense deploy MODEL --calib SET --eval SET --target cpu -o RUN
    Never seen it?      edgedense demo
    """


for command in (
    *(inspect, prune, quantize, build_engine, benchmark, validate, report),
    *(deploy, demo, targets, doctor),
):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit with its code (see ``edgedense.errors``)."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted: nothing half-written stays behind", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except EdgedenseError as error:
        _tell(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; there is nobody to tell
        sys.exit(0)
    except Exception:  # noqa: BLE001  the last place: anything unforeseen is a bug
        traceback.print_exc()
        click.echo("This is a bug in edgedense: please report it with the lines above.", err=True)
        sys.exit(EXIT_BUG)


def _tell(error: EdgedenseError) -> None:
    if "--json" in sys.argv:
        emit({"error": error.what, "remedy": error.remedy, "exit_code": error.exit_code})
    click.echo(f"error: {error.what}", err=True)
    if error.remedy:
        click.echo(f"  → {error.remedy}", err=True)
    if error.exit_code == EXIT_BUG:
        traceback.print_exc()


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
