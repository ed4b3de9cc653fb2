"""One seam over inference runtimes: run a network, and go on without it when it is late.

With a deadline the run belongs to a thread of its own. The loop sleeps until the answer or the
deadline, whichever comes first. At the deadline the run is told to stop, and the loop goes on at
once: the runtime looks at that wish only between two nodes, so waiting for it would put the tick
at the mercy of the longest node. Until a stopped run has come back, nothing new is started.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from vehicle.contracts.bundle import TensorSpec
from vehicle.engine_ort import OnnxRuntime
from vehicle.engine_runtime import (
    InferenceCancelledError,
    InferenceError,
    InferenceHungError,
    ModelFileError,
    ModelInputError,
    Runtime,
    RuntimeMissingError,
)
from vehicle.engine_worker import Worker

__all__ = [
    "Engine",
    "InferenceCancelledError",
    "InferenceError",
    "InferenceHungError",
    "ModelFileError",
    "ModelInputError",
    "RuntimeMissingError",
    "Wrap",
    "open_runtime",
]

RUNTIMES: Final = ("onnxruntime", "openvino")
"""Runtimes by name: the default, and the one of the extra [openvino]."""

SETTLE_US: Final = 1_000
"""How long a new run waits for a stopped one to come back: about what stopping takes."""


Wrap = Callable[[Callable[[int], None]], Callable[[int], None]]
"""Takes a run of the network and returns what is done instead."""


def open_runtime(name: str, model_path: Path, threads: int) -> Runtime:
    """Return a network in the runtime called `name`.

    Raises:
        RuntimeMissingError: not installed, or unknown.
        ModelFileError: see the runtimes.
    """
    if name == "onnxruntime":
        return OnnxRuntime(model_path, threads)
    if name in ("openvino", "openvino-bf16"):
        from vehicle.engine_openvino import OpenVino

        precision = "bf16" if name.endswith("bf16") else "f32"
        return OpenVino(model_path, threads, precision)
    raise RuntimeMissingError(f"runtime {name!r} is unknown, expected one of {list(RUNTIMES)}")


class Engine:
    """One network, ready to run on this machine; used by one thread.

    Args:
        model_path: an ONNX file whose inputs have fixed shapes.
        threads: of the runtime; more than one only where nothing else wants the cores.
        runtime: one of RUNTIMES; "openvino-bf16" computes what the file leaves in float coarsely.
    Raises:
        ModelFileError: missing, unreadable, corrupt, or with inputs of unknown shape or type.
        RuntimeMissingError: the runtime is not installed.
    """

    def __init__(self, model_path: Path, threads: int = 1, runtime: str = "onnxruntime") -> None:
        self.threads = threads
        self._runtime = open_runtime(runtime, model_path, threads)
        self.inputs = self._runtime.inputs
        self.outputs = tuple(
            TensorSpec(name=n, shape=a.shape, dtype=a.dtype.name)
            for n, a in self._runtime.outputs[0].items()
        )
        self._bound: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = {}, {}
        self._side = 0
        self._began_ns = 0
        self._worker = Worker(self._runtime.infer)
        self._closed = False

    @property
    def runtime(self) -> str:
        """Return the name of the runtime."""
        return self._runtime.name

    @property
    def flushes_denormals(self) -> bool:
        """Return whether subnormal numbers are treated as zero while the network runs."""
        return self._runtime.flushes_denormals

    @property
    def thread_id(self) -> int:
        """Return the kernel's id of the thread that waits for the network.

        It follows the caller into the real-time class by itself, one step below.
        """
        return self._worker.thread_id

    def run(
        self, inputs: Mapping[str, np.ndarray], deadline_mono_ns: int | None = None
    ) -> dict[str, np.ndarray]:
        """Run the network once.

        Args:
            inputs: one C-contiguous array per input; arrays used again cost no new binding.
            deadline_mono_ns: absolute, on the system's monotonic clock; control is back by then,
                whatever the runtime does. None waits as long as it takes, in this thread.
        Returns:
            The engine's own output arrays. The next run leaves them as they are, the one after
            that overwrites them; a run without an answer counts for neither.
        Raises:
            InferenceCancelledError: the deadline passed first. The engine can be used again
                (InferenceHungError: not yet, an earlier run is still on its way back).
            ModelInputError: the inputs are not what the network takes.
            InferenceError: the runtime failed.
        """
        if self._closed:
            raise InferenceError("the engine is closed")
        self._settle(deadline_mono_ns)
        side = 1 - self._side
        self._bind(side, inputs)
        self._runtime.prepare()
        self._began_ns = time.monotonic_ns()
        if deadline_mono_ns is None:
            error = self._inline(side)
        elif deadline_mono_ns <= self._began_ns:
            raise InferenceCancelledError("deadline had passed before inference began")
        else:
            self._worker.start(side)
            if not self._worker.wait(deadline_mono_ns):
                self._runtime.cancel()
                self._worker.demote()
                raise InferenceCancelledError(
                    f"inference was stopped at its deadline, {self._since_ms():.2f} ms after it "
                    "began"
                )
            error = self._worker.error
        if error is not None:
            raise InferenceError(f"the runtime failed: {error}") from error
        self._side = side
        return self._runtime.outputs[side]

    def interpose(self, wrap: Wrap) -> None:
        """Put something round every run with a deadline: a fault, to see what becomes of it."""
        self._worker.interpose(wrap)

    def close(self) -> None:
        """Stop the thread; the engine cannot run any more."""
        self._closed = True
        self._worker.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _since_ms(self) -> float:
        return (time.monotonic_ns() - self._began_ns) * 1e-6

    def _inline(self, side: int) -> Exception | None:
        try:
            self._runtime.infer(side)
        except Exception as error:
            return error
        return None

    def _settle(self, deadline_ns: int | None) -> None:
        """Wait a little for a run that was told to stop; without a deadline, until it is back."""
        if not self._worker.busy:
            return
        now_ns = time.monotonic_ns()
        until_ns = now_ns + (SETTLE_US * 1_000 if deadline_ns is not None else 3_600 * 10**9)
        if not self._worker.wait(until_ns if deadline_ns is None else min(until_ns, deadline_ns)):
            raise InferenceHungError(
                f"inference of an earlier frame has not come back {self._since_ms():.1f} ms after "
                "it began; nothing new is started"
            )

    def _bind(self, side: int, inputs: Mapping[str, np.ndarray]) -> None:
        if len(inputs) != len(self.inputs):
            names = [s.name for s in self.inputs]
            raise ModelInputError(f"found inputs {sorted(inputs)}, expected {names}")
        bound = self._bound[side]
        for spec in self.inputs:
            array = inputs.get(spec.name)
            if array is not None and array is bound.get(spec.name):
                continue
            if array is None:
                raise ModelInputError(f"input {spec.name!r} is missing; found {sorted(inputs)}")
            if array.shape != spec.shape or array.dtype.name != spec.dtype:
                raise ModelInputError(
                    f"input {spec.name!r} is {array.dtype} {list(array.shape)}, expected "
                    f"{spec.dtype} {list(spec.shape)}"
                )
            if not array.flags.c_contiguous:
                raise ModelInputError(f"input {spec.name!r} is not C-contiguous: copy it first")
            self._runtime.bind(side, spec.name, array)
            bound[spec.name] = array
