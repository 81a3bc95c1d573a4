"""ONNX Runtime on the CPU: the embedded engine, and the oracle for what an ONNX file computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime

from edgedense.engines.runner import Floats, Interface
from edgedense.errors import InputError


class OnnxRunner:
    """Runs an ONNX file; ``exact`` switches all graph optimisations off.

    May be called from several threads. Errors: InputError where the file cannot be loaded.
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
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        # idle threads that spin take the cores from whatever is measured next to this session
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                data or path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            reason = str(error).partition("\n")[0][:200]
            raise InputError(
                f"{path}: ONNX Runtime cannot load it ({reason})",
                "Make the artifact again with this version of edgedense.",
            ) from error
        self.name = "onnxruntime"
        self.interface = interface

    def __call__(self, images: Floats) -> Floats:
        """Logits (N, classes) of images (N, channels, height, width)."""
        feed = {self.interface.input_name: images}
        logits: Floats = self._session.run([self.interface.output_name], feed)[0]
        return logits

    def close(self) -> None:
        """Free the session; closing twice is fine."""
        self._session = None
