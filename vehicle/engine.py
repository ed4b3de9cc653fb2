"""One seam over the inference runtime: run a network, and stop it when it is late.

onnxruntime on the CPU, bound once to fixed memory. A watchdog thread sets `RunOptions.terminate`
at the absolute deadline; the runtime looks at it between two nodes, so control comes back within
about a millisecond and the session stays usable.
"""

import ctypes
import ctypes.util
import platform
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from vehicle.contracts.bundle import TensorSpec
from vehicle.contracts.wire import RefusedError

DTYPES: Final = {
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
}
IDLE_NS: Final = 3_600_000_000_000
FATAL_ONLY: Final = 4
"""Log level: a cancelled run is no error here, and the loop never writes to the terminal."""


class ModelFileError(RefusedError):
    """The network file is missing, or is not a network this engine can run."""


class ModelInputError(RefusedError):
    """An input is missing, unknown, or of another shape, type or layout than the network takes."""


class InferenceError(RefusedError):
    """The network gave no usable answer for this frame; the loop goes on without it."""


class InferenceCancelledError(InferenceError):
    """Inference was stopped because its deadline had passed."""


class Engine:
    """One network, ready to run on this machine.

    Args:
        model_path: an ONNX file whose inputs have fixed shapes.
        threads: of the runtime; more than one only where nothing else wants the cores.
    Raises:
        ModelFileError: missing, unreadable, corrupt, or with inputs of unknown shape or type.
    """

    def __init__(self, model_path: Path, threads: int = 1) -> None:
        self._flush = _FlushToZero()
        with self._flush:
            self._session = _open(model_path, threads)
        self.inputs = tuple(_spec(a, model_path) for a in self._session.get_inputs())
        self._bound: dict[str, np.ndarray] = {}
        self._binding = self._session.io_binding()
        self._watchdog = _Watchdog()
        try:
            self._outputs = self._first_run(model_path)
        except BaseException:
            self._watchdog.close()
            raise
        for name, array in self._outputs.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        self.outputs = tuple(
            TensorSpec(name=n, shape=a.shape, dtype=a.dtype.name) for n, a in self._outputs.items()
        )

    @property
    def flushes_denormals(self) -> bool:
        """Return whether subnormal numbers are treated as zero while the network runs."""
        return self._flush.works

    @property
    def watchdog_thread_id(self) -> int:
        """Return the kernel's id of the watchdog, which must outrank the thread it stops.

        A loop in the real-time class gives it a higher priority or another core.
        """
        return self._watchdog.thread_id

    def run(
        self, inputs: Mapping[str, np.ndarray], deadline_mono_ns: int | None = None
    ) -> dict[str, np.ndarray]:
        """Run the network once.

        Args:
            inputs: one C-contiguous array per input; arrays used again cost no new binding.
            deadline_mono_ns: absolute, on the system's monotonic clock; None never cancels.
        Returns:
            The engine's own output arrays, overwritten by the next run: copy what must last.
        Raises:
            InferenceCancelledError: the deadline passed first. The engine can be used again.
            ModelInputError: the inputs are not what the network takes.
            InferenceError: the runtime failed.
        """
        self._bind(inputs)
        options = _run_options()
        if not self._watchdog.arm(options, deadline_mono_ns):
            raise InferenceCancelledError("deadline had passed before inference began")
        began_ns = time.monotonic_ns()
        try:
            with self._flush:
                self._session.run_with_iobinding(self._binding, options)
        except Exception as error:
            if self._watchdog.disarm():
                took_ms = (time.monotonic_ns() - began_ns) * 1e-6
                raise InferenceCancelledError(
                    f"inference was stopped at its deadline, {took_ms:.2f} ms after it began"
                ) from None
            raise InferenceError(f"the runtime failed: {error}") from error
        finally:
            self._watchdog.disarm()
        return self._outputs

    def close(self) -> None:
        """Stop the watchdog; the engine cannot run any more."""
        self._watchdog.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _bind(self, inputs: Mapping[str, np.ndarray]) -> None:
        if len(inputs) != len(self.inputs):
            names = [s.name for s in self.inputs]
            raise ModelInputError(f"found inputs {sorted(inputs)}, expected {names}")
        for spec in self.inputs:
            array = inputs.get(spec.name)
            if array is not None and array is self._bound.get(spec.name):
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
            self._binding.bind_input(
                spec.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data
            )
            self._bound[spec.name] = array

    def _first_run(self, path: Path) -> dict[str, np.ndarray]:
        """Run on zeros: gives the shapes of the outputs, and makes later runs no slower."""
        zeros = {s.name: np.zeros(s.shape, s.dtype) for s in self.inputs}
        try:
            with self._flush:
                results = self._session.run(None, zeros, _run_options())
        except Exception as error:
            raise ModelFileError(f"{path} fails on zeros: {error}") from error
        names = [o.name for o in self._session.get_outputs()]
        return {
            n: np.ascontiguousarray(np.zeros_like(r)) for n, r in zip(names, results, strict=True)
        }


class _Watchdog:
    """One long-lived thread that terminates the armed run at its deadline."""

    def __init__(self) -> None:
        self._wake = threading.Condition()
        self._options: ort.RunOptions | None = None
        self._deadline_ns = 0
        self._wakes_ns = 0
        self._fired = self._closed = False
        self._thread = threading.Thread(target=self._watch, name="inference-watchdog", daemon=True)
        self._thread.start()

    @property
    def thread_id(self) -> int:
        return self._thread.native_id or 0

    def arm(self, options: ort.RunOptions, deadline_ns: int | None) -> bool:
        """Watch a run; return False when its deadline has passed already."""
        self._fired = False
        if self._closed:
            raise InferenceError("the engine is closed")
        if deadline_ns is None:
            return True
        if deadline_ns <= time.monotonic_ns():
            return False
        with self._wake:
            self._options, self._deadline_ns = options, deadline_ns
            if deadline_ns < self._wakes_ns:
                self._wake.notify()
        return True

    def disarm(self) -> bool:
        """Stop watching; return whether the run was told to stop."""
        if self._options is not None:
            with self._wake:
                self._options = None
        return self._fired

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _watch(self) -> None:
        with self._wake:
            while not self._closed:
                now_ns = time.monotonic_ns()
                if self._options is not None and now_ns >= self._deadline_ns:
                    self._fired = True
                    self._options.terminate = True
                    self._options = None
                armed = self._options is not None
                self._wakes_ns = self._deadline_ns if armed else now_ns + IDLE_NS
                self._wake.wait((self._wakes_ns - now_ns) * 1e-9)


class _FlushToZero:
    """Treats subnormal floats as zero on this thread while a network runs, then as before.

    A float network took 1.1 s instead of 75 ms on black images because of them. The runtime's own
    setting acts on its own threads, and for good on the thread that makes the first session; here
    it acts on whichever thread runs, and is put back afterwards, so that no other arithmetic of the
    loop depends on whether there is a network.
    Source: glibc fenv_t on x86-64: MXCSR at byte 28; bits FTZ (15) and DAZ (6), Intel SDM 1, 10.2.
    """

    _BITS = 0x8040

    def __init__(self) -> None:
        self.works = platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc"
        if self.works:
            self._libm = ctypes.CDLL(ctypes.util.find_library("m") or "libm.so.6")
            self._before = (ctypes.c_uint32 * 8)()
            self._during = (ctypes.c_uint32 * 8)()

    def __enter__(self) -> None:
        if self.works:
            self._libm.fegetenv(self._before)
            ctypes.memmove(self._during, self._before, ctypes.sizeof(self._before))
            self._during[7] |= self._BITS
            self._libm.fesetenv(self._during)

    def __exit__(self, *_: object) -> None:
        if self.works:
            self._libm.fesetenv(self._before)


def _open(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = FATAL_ONLY
    options.use_deterministic_compute = True
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"no network at {path}: {error.strerror}") from error
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelFileError(
            f"{path} ({len(data)} bytes) is not a network that can run here: {error}"
        ) from error


def _run_options() -> ort.RunOptions:
    options = ort.RunOptions()
    options.log_severity_level = FATAL_ONLY
    return options


def _spec(value: Any, path: Path) -> TensorSpec:
    fixed = all(isinstance(d, int) and d > 0 for d in value.shape)
    if not fixed or value.type not in DTYPES:
        raise ModelFileError(
            f"{path}: input {value.name!r} is {value.type} {value.shape}, expected fixed sizes and "
            "a plain type; export it without dynamic axes"
        )
    dtype = np.dtype(DTYPES[value.type]).name
    return TensorSpec(name=value.name, shape=tuple(value.shape), dtype=dtype)
