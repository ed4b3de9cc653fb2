"""onnxruntime on the CPU, bound once to fixed memory."""

import ctypes
import ctypes.util
import platform
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from vehicle.contracts.bundle import TensorSpec
from vehicle.engine_runtime import SIDES, ModelFileError, read_model

DTYPES: Final = {
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
}
FATAL_ONLY: Final = 4
"""Log level: a cancelled run is no error here, and the loop never writes to the terminal."""


class OnnxRuntime:
    """One session with two sets of outputs; see `vehicle.engine_runtime.Runtime`.

    Args:
        path: the network.
        threads: of the runtime.
    Raises:
        ModelFileError: missing, unreadable, corrupt, or with inputs of unknown shape or type.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._flush = _FlushToZero()
        with self._flush:
            self._session = _open(path, threads)
        self.inputs = tuple(_spec(a, path) for a in self._session.get_inputs())
        self._options = _run_options()
        self.outputs = self._first_run(path), self._first_run(path)
        self._bindings = tuple(self._session.io_binding() for _ in range(SIDES))
        for binding, arrays in zip(self._bindings, self.outputs, strict=True):
            for name, array in arrays.items():
                binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    @property
    def flushes_denormals(self) -> bool:
        """Return whether subnormal numbers are treated as zero while the network runs."""
        return self._flush.works

    def bind(self, side: int, name: str, array: np.ndarray) -> None:
        """Let runs of `side` read the input `name` from `array`."""
        self._bindings[side].bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def prepare(self) -> None:
        """Get ready for one run: what was cancelled is the run before."""
        self._options = _run_options()

    def infer(self, side: int) -> None:
        """Run once into the outputs of `side`; raises whatever the runtime does."""
        with self._flush:
            self._session.run_with_iobinding(self._bindings[side], self._options)

    def cancel(self) -> None:
        """Tell the run to stop; it looks between two nodes."""
        self._options.terminate = True

    def _first_run(self, path: Path) -> dict[str, np.ndarray]:
        """Run on zeros: gives the shapes of the outputs, and makes later runs no slower."""
        zeros = {s.name: np.zeros(s.shape, s.dtype) for s in self.inputs}
        try:
            with self._flush:
                results = self._session.run(None, zeros, self._options)
        except Exception as error:
            raise ModelFileError(f"{path} fails on zeros: {error}") from error
        names = [o.name for o in self._session.get_outputs()]
        return {
            n: np.ascontiguousarray(np.zeros_like(r)) for n, r in zip(names, results, strict=True)
        }


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
    data = read_model(path)
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
