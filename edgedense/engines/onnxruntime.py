"""ONNX Runtime on the CPU: the embedded engine, and the oracle for what an ONNX file computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgedense.engines.runner import Floats, Images, Interface
from edgedense.environment import has_vnni, thread_limit
from edgedense.errors import InputError

_ORT_TYPES = {"float32": "tensor(float)", "float16": "tensor(float16)"}


class OnnxRunner:
    """Runs an ONNX file; ``exact`` switches all graph optimisations off.

    ``threads`` None is what OMP_NUM_THREADS says, else as many as there are cores. May be called
    from several threads. Errors: InputError where the file cannot be loaded, or its input and
    output are not those of ``interface``.
    """

    def __init__(
        self,
        path: Path,
        interface: Interface,
        *,
        threads: int | None = None,
        exact: bool = False,
        data: bytes | None = None,
    ) -> None:
        options = onnxruntime.SessionOptions()
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            levels.ORT_DISABLE_ALL if exact else levels.ORT_ENABLE_ALL
        )
        options.intra_op_num_threads = threads or thread_limit()
        options.enable_cpu_mem_arena = not exact
        options.log_severity_level = 3
        # idle threads that spin take the cores from whatever is measured next to this session
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not has_vnni():
            # x86's other 8-bit products saturate in 16 bits: the slower kernels that do not
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                data or path,
                options,
                providers=["CPUExecutionProvider"],
                # quantizes weights that the file has in floating point, under one scale for all
                disabled_optimizers=["WeightBiasQuantization"],
            )
        except Exception as error:
            reason = str(error).partition("\n")[0][:200]
            raise InputError(
                f"{path}: ONNX Runtime cannot load it ({reason})",
                "Make the artifact again with this version of edgedense.",
            ) from error
        self._check_ends(path, interface)
        self.name = "onnxruntime"
        self.interface = interface

    def __call__(self, images: Images) -> Floats:
        """Logits (N, classes) of images (N, channels, height, width)."""
        feed = {self.interface.input_name: self.interface.fed(images)}
        logits: Images = self._session.run([self.interface.output_name], feed)[0]
        return logits.astype(np.float32, copy=False)

    def _check_ends(self, path: Path, interface: Interface) -> None:
        kind = _ORT_TYPES[interface.dtype]
        wanted = [(interface.input_name, kind), (interface.output_name, kind)]
        ends = (*self._session.get_inputs(), *self._session.get_outputs())
        found = [(end.name, end.type) for end in ends]
        if found != wanted:
            told = ", ".join(f"{name}: {kind}" for name, kind in found)
            raise InputError(
                f"{path} has the ends {told}, not {interface.dtype} {interface.input_name} "
                f"and {interface.output_name}",
                "File and manifest do not belong together: make the artifact again.",
            )

    def close(self) -> None:
        """Free the session; closing twice is fine."""
        self._session = None
