"""Several processes as one, as ``torchrun`` starts them: who this one is, and what all exchange."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from edgedense.errors import InputError, MachineError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from torch._C._distributed_c10d import Store

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among ``size``: ``rank`` over all machines, ``local_rank`` on this one."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def check_divides(self, batch: int) -> None:
        """Raise InputError where a batch cannot be split evenly over the processes."""
        if batch % self.size:
            raise InputError(
                f"a batch of {batch} images cannot be split over {self.size} processes",
                f"Give --batch {max(batch // self.size, 1) * self.size}, or another multiple of "
                f"{self.size}: it counts the images of all processes.",
            )


def world() -> World:
    """This process's place by torchrun's environment; alone without it. Errors: InputError."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    values = [os.environ.get(name, default) for name, default in zip(names, "010", strict=True)]
    try:
        rank, size, local = map(int, values)
    except ValueError:
        rank, size, local = -1, 0, 0
    if not 0 <= rank < size:
        told = ", ".join(f"{n}={v}" for n, v in zip(names, values, strict=True))
        raise InputError(f"the environment names no process: {told}", "Start it with torchrun.")
    return World(rank, size, local)


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """The processes connected for the block's time: by NCCL where PyTorch sees GPUs, else gloo.

    An InputError or MachineError of one process is raised by the others too, which would otherwise
    only see that a connection has ended; its ``process`` is the one that raised it first.
    """
    here = world()
    if here.size == 1:
        yield here
        return
    import torch
    from torch import distributed as dist
    from torch.distributed.rendezvous import rendezvous

    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(here.local_rank)
    store, _, _ = next(rendezvous("env://"))
    dist.init_process_group(
        "nccl" if cuda else "gloo", store=store, rank=here.rank, world_size=here.size
    )
    try:
        yield here
    except (InputError, MachineError) as error:
        if error.process is None:
            error.process = here.rank
            mine = json.dumps([here.rank, error.exit_code, error.what, error.remedy])
            if store.compare_set(_ERROR, "", mine).decode() != mine:
                raise (_told(store) or error) from error
        raise
    except (RuntimeError, KeyboardInterrupt) as error:
        # a lost connection, or torchrun ending all processes when one of them has ended
        if (told := _told(store)) is not None:
            raise told from error
        raise
    finally:
        dist.destroy_process_group()


_ERROR = "edgedense/error"


def _told(store: Store) -> InputError | MachineError | None:
    """The error with which another process has left, None where there is none."""
    if not store.check([_ERROR]):
        return None
    process, exit_code, what, remedy = json.loads(store.get(_ERROR))
    kind = MachineError if exit_code == MachineError.exit_code else InputError
    error = kind(what, remedy)
    error.process = process
    return error


def barrier() -> None:
    """Wait until every process is here."""
    if world().size > 1:
        from torch import distributed as dist

        dist.barrier()


def gather(arrays: Mapping[str, NDArray[Any]]) -> list[dict[str, NDArray[Any]]] | None:
    """Every process's arrays in the order of ranks, on rank 0; None on the others.

    Errors: TypeError for arrays of Python objects, which would travel as pickles.
    """
    if world().size == 1:
        return [dict(arrays)]
    found = _gather_bytes(_packed(arrays))
    return None if found is None else [_unpacked(data) for data in found]


def from_first(produce: Callable[[], bytes]) -> bytes:
    """What ``produce`` returns on rank 0, on every rank; so is the InputError that it raises."""
    here = world()
    if here.size == 1:
        return produce()
    message = b""
    if here.first:
        try:
            message = b"\0" + produce()
        except InputError as error:
            message = f"\1{error.what}\0{error.remedy}".encode()
    message = _broadcast(message)
    if message[:1] == b"\1":
        what, _, remedy = message[1:].decode().partition("\0")
        told = InputError(what, remedy)
        told.process = 0
        raise told
    return message[1:]


class Finished(Exception):  # noqa: N818  nothing went wrong
    """This process has done its share; the first one goes on alone."""


def share(items: Sequence[T], chunk: int) -> tuple[T, ...]:
    """This process's part of ``items``, dealt out in turns of ``chunk``: whole batches.

    A batch is then the same images as in one process, and gives the same numbers.
    """
    here = world()
    starts = range(here.rank * chunk, len(items), here.size * chunk)
    return tuple(item for start in starts for item in items[start : start + chunk])


def gather_rows(
    rows: Mapping[str, NDArray[Any]], chunk: int, *, everywhere: bool = False
) -> dict[str, NDArray[Any]]:
    """Arrays with one row an item, put together again in the order before :func:`share`.

    On the first process, or ``everywhere``; else :class:`Finished` is raised on the others.
    """
    import numpy as np

    parts = gather(rows)
    if parts is None:
        if not everywhere:
            raise Finished
        return _unpacked(_broadcast(b""))
    lengths = [len(next(iter(part.values()))) for part in parts]
    turns = max(1, *(-(-length // chunk) for length in lengths))
    whole = {
        name: np.concatenate(
            [part[name][k * chunk : (k + 1) * chunk] for k in range(turns) for part in parts]
        )
        for name in rows
    }
    if everywhere and len(parts) > 1:
        _broadcast(_packed(whole))
    return whole


def leave() -> None:
    """Go on alone: a command that shares nothing runs in the first process only.

    Errors: Finished, on all but the first.
    """
    if not world().first:
        raise Finished
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        os.environ.pop(name, None)


def _packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    import numpy as np

    if wrong := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise TypeError(f"{wrong[0]} holds Python objects")
    data = io.BytesIO()
    numbered: dict[str, Any] = {f"a{k}": array for k, array in enumerate(arrays.values())}
    np.savez(data, names=np.array(list(arrays), dtype=np.str_), **numbered)
    return data.getvalue()


def _unpacked(data: bytes) -> dict[str, NDArray[Any]]:
    import numpy as np

    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {str(name): archive[f"a{k}"] for k, name in enumerate(archive["names"])}


def _gather_bytes(data: bytes) -> list[bytes] | None:
    import torch
    from torch import distributed as dist

    here = world()
    own = torch.tensor([len(data)], dtype=torch.int64, device=_device())
    sizes = [torch.zeros_like(own) for _ in range(here.size)]
    dist.all_gather(sizes, own)
    longest = max(int(size) for size in sizes)
    row = torch.zeros(longest, dtype=torch.uint8, device=_device())
    row[: len(data)] = _tensor(data)
    rows = [torch.zeros_like(row) for _ in range(here.size)] if here.first else None
    dist.gather(row, rows)
    if rows is None:
        return None
    return [_bytes(row[: int(size)]) for row, size in zip(rows, sizes, strict=True)]


def _broadcast(data: bytes) -> bytes:
    import torch
    from torch import distributed as dist

    size = torch.tensor([len(data)], dtype=torch.int64, device=_device())
    dist.broadcast(size, 0)
    row = torch.zeros(int(size), dtype=torch.uint8, device=_device())
    if world().first:
        row[:] = _tensor(data)
    dist.broadcast(row, 0)
    return _bytes(row)


def _device() -> str:
    from torch import distributed as dist

    return "cuda" if dist.get_backend() == "nccl" else "cpu"


def _tensor(data: bytes) -> Tensor:
    import numpy as np
    import torch

    return torch.from_numpy(np.frombuffer(data, np.uint8).copy())


def _bytes(row: Tensor) -> bytes:
    return row.cpu().numpy().tobytes()
