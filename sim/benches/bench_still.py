"""A model that does no work: what is measured around it is not its own."""

import asyncio
from collections.abc import Mapping

import numpy as np

from vehicle.contracts.bundle import TensorSpec
from vehicle.contracts.inference import InferenceRequest


class Still:
    """Gives the same kilobyte as always.

    Args:
        takes_s: how long it waits before; 0: not at all.
    """

    name, version, digest = "still", "1", "0" * 64
    inputs: tuple[TensorSpec, ...] = (TensorSpec(name="x", shape=(-1,), dtype="uint8"),)
    outputs: tuple[TensorSpec, ...] = (TensorSpec(name="y", shape=(256,), dtype="float32"),)

    def __init__(self, takes_s: float = 0.0) -> None:
        self._takes_s, self._answer = takes_s, {"y": np.zeros(256, np.float32)}

    async def infer(
        self, inputs: Mapping[str, np.ndarray], request: InferenceRequest | None
    ) -> Mapping[str, np.ndarray]:
        """Return the same as always."""
        if self._takes_s:
            await asyncio.sleep(self._takes_s)
        return self._answer

    def expected_us(self) -> int:
        """Return how long it waits, us."""
        return max(1, int(self._takes_s * 1e6))
