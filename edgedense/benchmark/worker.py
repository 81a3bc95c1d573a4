"""The child: ``python -m edgedense.benchmark.worker`` measures what its standard input orders."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import IO, TypeVar

from edgedense.benchmark.channel import ERROR, MEASURED, READY, RESULT, TICK, Order, event
from edgedense.benchmark.run import measure_run
from edgedense.errors import EdgedenseError

T = TypeVar("T")

_INTERRUPTED, _ORPHANED = 130, 1


class Ticks:
    """Tells the parent about every step of the one loop that is tracked."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield ``items``; after each, one event."""
        for item in items:
            yield item
            tell(self._out, event(TICK, of=total))

    def say(self, line: str) -> None:
        """Drop the line: the parent speaks."""


def main() -> int:
    """Measure what one line of standard input orders; the exit code, 0 if an event tells it."""
    out = _claim_stdout()
    order = Order.from_line(sys.stdin.readline())
    go = threading.Event()
    threading.Thread(target=_listen, args=(go,), daemon=True).start()
    os.chdir(order.directory)
    try:
        with order.subject.opened() as runner:
            run = measure_run(
                runner, order.options, around=_announced(out, go), progress=Ticks(out)
            )
        tell(out, event(RESULT, run=run.to_dict()))
    except EdgedenseError as error:
        told = {"what": error.what, "remedy": error.remedy, "exit_code": error.exit_code}
        tell(out, event(ERROR, **told))
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def tell(out: IO[str], line: str) -> None:
    """Write one line at once."""
    out.write(line)
    out.flush()


@contextlib.contextmanager
def _announced(out: IO[str], go: threading.Event) -> Iterator[None]:
    tell(out, event(READY))
    go.wait()
    yield
    tell(out, event(MEASURED))


def _claim_stdout() -> IO[str]:
    """Standard output for events alone: what libraries print there goes to standard error."""
    sys.stdout.flush()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _listen(go: threading.Event) -> None:
    """End with the parent: then standard input ends too."""
    # not sys.stdin: its lock would be held when the interpreter shuts down
    while os.read(0, 64):
        go.set()
    os._exit(_ORPHANED)


if __name__ == "__main__":
    sys.exit(main())
