"""What every inference runtime behind the engine must do, and how it refuses."""

from pathlib import Path
from typing import Final, Protocol

import numpy as np

from vehicle.contracts.bundle import TensorSpec
from vehicle.contracts.wire import RefusedError

SIDES: Final = 2
"""Two sets of outputs take turns: a run that comes back late writes where nobody reads."""


class ModelFileError(RefusedError):
    """The network file is missing, or is not a network this engine can run."""


class ModelInputError(RefusedError):
    """An input is missing, unknown, or of another shape, type or layout than the network takes."""


class RuntimeMissingError(RefusedError):
    """The wanted inference runtime is not installed, or is none we know."""


class InferenceError(RefusedError):
    """The network gave no usable answer for this frame; the loop goes on without it."""


class InferenceCancelledError(InferenceError):
    """Inference was stopped because its deadline had passed."""


class InferenceHungError(InferenceCancelledError):
    """An earlier run was told to stop and has not come back."""


class Runtime(Protocol):
    """One network in one runtime. At most one run at a time; `cancel` comes from another thread.

    Attributes:
        name: of the runtime.
        inputs: what the network takes.
        outputs: two sets of arrays; a run of side s writes into `outputs[s]` and nowhere else.
        flushes_denormals: subnormal numbers count as zero while the network runs.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]

    @property
    def flushes_denormals(self) -> bool: ...

    def bind(self, side: int, name: str, array: np.ndarray) -> None:
        """Let runs of `side` read the input `name` from `array`."""
        ...

    def prepare(self) -> None:
        """Get ready for one run."""
        ...

    def infer(self, side: int) -> None:
        """Run once into the outputs of `side`; raises whatever the runtime does."""
        ...

    def cancel(self) -> None:
        """Tell the run to stop, and return at once."""
        ...


def read_model(path: Path) -> bytes:
    """Return the bytes of a network file.

    Raises:
        ModelFileError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"no network at {path}: {error.strerror}") from error
