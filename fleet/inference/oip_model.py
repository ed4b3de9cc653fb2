"""What answers behind a site's server, and the one that runs a bundle's network.

A site serves models, not files: a network on this machine, a fusion of track lists, a proxy of a
cluster. All it needs of each is what goes in, what comes out, and how long that takes.
"""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from vehicle import bundles
from vehicle.contracts.bundle import ModelBundle, TensorSpec
from vehicle.contracts.inference import InferenceRequest
from vehicle.engine import Engine


class Model(Protocol):
    """One thing that can be asked.

    Attributes:
        name, version: by which it is asked for; `digest` is the sha256 of what it is.
        inputs, outputs: see BYTES and ANY_SIZE in fleet/inference/oip_tensors.py.
    """

    name: str
    version: str
    digest: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    async def infer(
        self, inputs: Mapping[str, np.ndarray], request: InferenceRequest | None
    ) -> Mapping[str, np.ndarray]:
        """Return one array per output, its own to keep.

        The server has checked names, types and shapes of `inputs` against the specs.

        Args:
            request: None when whoever asks speaks the open protocol alone.
        Raises:
            RefusedError: as named; the name and the reason go to whoever asked.
        """
        ...

    def expected_us(self) -> int:
        """Return how long the next answer will take, us: admission reckons with it."""
        ...


class Pace:
    """How long answers take: the mean of the last ones, and how far they stray.

    Source: Jacobson, Congestion Avoidance and Control (1988), section 2: the same estimator.

    Args:
        first_us: believed until something was measured.
    """

    def __init__(self, first_us: float) -> None:
        self._mean_us, self._stray_us, self._measured = first_us, 0.0, False

    def took(self, us: float) -> None:
        """Learn from one answer."""
        if not self._measured:
            self._mean_us, self._stray_us, self._measured = us, us / 4, True
            return
        error = us - self._mean_us
        self._mean_us += error / 8
        self._stray_us += (abs(error) - self._stray_us) / 4

    def expected_us(self) -> int:
        """Return what the next answer will hardly exceed, us."""
        return int(self._mean_us + 2 * self._stray_us)


class EngineModel:
    """A bundle's network on this machine, in a thread of its own.

    Args:
        folder: of a bundle; its files are verified first.
        threads: of the runtime.
    Raises:
        BundleMissingError, TamperedBundleError, ModelFileError: see `vehicle.bundles`.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        bundle: ModelBundle = bundles.load(folder)
        self.name, self.version = bundle.name, str(bundle.version)
        self.digest = bundles.digest_of(folder)
        self._engine = Engine(folder / bundles.MODEL, threads)
        self.inputs, self.outputs = self._engine.inputs, self._engine.outputs
        self._thread = ThreadPoolExecutor(1, f"{bundle.name}@{bundle.version}")
        self._pace = Pace(bundle.latency_budget_us)
        self._thread.submit(self._warm).result()

    async def infer(
        self, inputs: Mapping[str, np.ndarray], request: InferenceRequest | None
    ) -> Mapping[str, np.ndarray]:
        """Return the network's outputs, bit for bit what the car's engine gives.

        A run that is cancelled holds its turn until the network has come back.
        """
        run = asyncio.get_running_loop().run_in_executor(self._thread, self._run, inputs)
        try:
            return await asyncio.shield(run)
        except asyncio.CancelledError:
            await asyncio.wait({run})
            raise

    def expected_us(self) -> int:
        """Return how long the next run will take, us."""
        return self._pace.expected_us()

    def close(self) -> None:
        """End the thread, after what runs in it."""
        self._thread.shutdown()
        self._engine.close()

    def _warm(self) -> None:
        """Run twice on nothing: the first run is no measure of the next."""
        nothing = {s.name: np.zeros(s.shape, s.dtype) for s in self.inputs}
        for _ in range(2):
            self._run(nothing)

    def _run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        began_ns = time.monotonic_ns()
        outputs = {n: a.copy() for n, a in self._engine.run(inputs).items()}
        self._pace.took((time.monotonic_ns() - began_ns) / 1_000)
        return outputs
