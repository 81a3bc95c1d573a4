"""Run a TensorRT engine: classic TensorRT 8.6 to 11, or TensorRT for RTX."""

from __future__ import annotations

from pathlib import Path

from edgedense.engines.fit import Built
from edgedense.engines.runner import Interface
from edgedense.engines.tensorrt_engine import OpenEngine
from edgedense.engines.tensorrt_lane import Lane


class TensorRTRunner(Lane):
    """An engine opened on GPU 0, and one lane on it; ``fork`` gives more.

    An engine is executable code: give the bytes that ``artifact.data`` has verified as ``plan``;
    without it, ``path`` is read and trusted. ``built`` is what its manifest says of its build: it
    is compared with this machine first. For threads and CUDA graphs see :class:`Lane`.
    Errors: MachineError without GPU or library, or where the engine does not open here; InputError
    where its inputs and outputs are not those of ``interface``.
    """

    def __init__(
        self,
        path: Path,
        interface: Interface,
        module_name: str = "tensorrt",
        plan: bytes | None = None,
        *,
        built: Built | None = None,
        graphs: bool = True,
    ) -> None:
        data = path.read_bytes() if plan is None else plan
        engine = OpenEngine(path, interface, module_name, data, built)
        try:
            super().__init__(engine, graphs=graphs)
        except BaseException:
            engine.close()
            raise

    def close(self) -> None:
        """Close the forks that are still open, this lane, and the engine."""
        self._engine.close()
