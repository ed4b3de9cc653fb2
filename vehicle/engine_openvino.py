"""OpenVINO on the CPU, for cars that have the extra [openvino]: the same file, often sooner.

Runs synchronously in whichever thread calls, so that the thread's scheduling class and core are
the run's. `cancel` of such a run changes nothing (2026.4: 8 of 8 ran to their end), so a late run
is waited for by the engine's thread, not by the loop.
"""

from pathlib import Path
from typing import Any

import numpy as np

from vehicle.contracts.bundle import TensorSpec
from vehicle.engine_runtime import SIDES, ModelFileError, RuntimeMissingError, read_model


class OpenVino:
    """One compiled network with two sets of outputs; see `vehicle.engine_runtime.Runtime`.

    Args:
        path: the network.
        threads: of the runtime.
        precision: of arithmetic that the file leaves in float: "f32", or "bf16" where the
            processor has it.
    Raises:
        RuntimeMissingError: openvino is not installed.
        ModelFileError: missing, unreadable, corrupt, or with inputs of unknown shape.
    """

    flushes_denormals = True

    def __init__(self, path: Path, threads: int = 1, precision: str = "f32") -> None:
        try:
            import openvino
        except ImportError as error:
            raise RuntimeMissingError(
                "openvino is not installed here: pip install 'roadloop[openvino]', or drive with "
                "onnxruntime"
            ) from error
        self.name = "openvino" if precision == "f32" else f"openvino-{precision}"
        self._tensor = openvino.Tensor
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
            "CPU_DENORMALS_OPTIMIZATION": True,
        }
        data = read_model(path)
        try:
            core = openvino.Core()
            model = core.read_model(data)
            # compiling lets a port go by more names than its own: keep those of the file
            named = [[port.any_name for port in ports] for ports in (model.inputs, model.outputs)]
            compiled = core.compile_model(model, "CPU", options)
            self._ports = dict(zip(named[0], compiled.inputs, strict=True))
            outlets = dict(zip(named[1], compiled.outputs, strict=True))
            self.inputs = tuple(_spec(name, port) for name, port in self._ports.items())
        except Exception as error:
            raise ModelFileError(
                f"{path} ({len(data)} bytes) is not a network that openvino can run: {error}"
            ) from error
        self._requests = [compiled.create_infer_request() for _ in range(SIDES)]
        found = {name: _spec(name, port) for name, port in outlets.items()}
        first, second = (
            {n: np.zeros(s.shape, s.dtype) for n, s in found.items()} for _ in range(SIDES)
        )
        self.outputs = first, second
        for side, request in enumerate(self._requests):
            for name, array in self.outputs[side].items():
                request.set_tensor(outlets[name], self._tensor(array, shared_memory=True))
            for spec in self.inputs:
                self.bind(side, spec.name, np.zeros(spec.shape, spec.dtype))
            try:
                self.infer(side)
            except Exception as error:
                raise ModelFileError(f"{path} fails on zeros: {error}") from error

    def bind(self, side: int, name: str, array: np.ndarray) -> None:
        """Let runs of `side` read the input `name` from `array`."""
        tensor = self._tensor(array, shared_memory=True)
        self._requests[side].set_tensor(self._ports[name], tensor)

    def prepare(self) -> None:
        """Do nothing: a request can be used again."""

    def infer(self, side: int) -> None:
        """Run once into the outputs of `side`; raises whatever the runtime does."""
        self._requests[side].infer()

    def cancel(self) -> None:
        """Do nothing: a synchronous run cannot be stopped, only waited for."""


def _spec(name: str, port: Any) -> TensorSpec:
    shape = tuple(int(d) for d in port.shape)  # raises where a size is not fixed
    return TensorSpec(name=name, shape=shape, dtype=np.dtype(port.element_type.to_dtype()).name)
