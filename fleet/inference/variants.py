"""One thing to ask, several networks that can answer it: the best that is still done in time.

Networks of one rig look at the same pictures, one quicker, one surer. Who has time left gets the
surer one. Memories stay at home: a single frame is judged without what came before it.

Source: Romero et al., INFaaS: Automated Model-less Inference Serving (2021): ask for an answer by a
deadline, not for a model.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from fleet.inference.oip_model import EngineModel, Pace
from fleet.inference.oip_tensors import BYTES
from vehicle import bundles
from vehicle.clock import Clock
from vehicle.contracts import wire
from vehicle.contracts.bundle import ModelBundle, TensorSpec
from vehicle.contracts.inference import InferenceRequest
from vehicle.contracts.wire import RefusedError

PICTURES: Final = ("front", "side")
ANSWERED_BY: Final = "variant"
"""Output BYTES [1]: name@version of the network that answered."""

ROOM: Final = 1.2
"""A network is chosen only when so many times its usual duration is left."""

Arrays = Mapping[str, np.ndarray]


class MixedVariantsError(RefusedError):
    """Networks that shall stand in for each other do not take or tell the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A bundle that may answer.

    Args:
        tag: name@version.
        folder: of the bundle.
        bundle: its manifest, verified.
    """

    tag: str
    folder: Path
    bundle: ModelBundle

    @classmethod
    def at(cls, folder: Path) -> "Variant":
        """Return the bundle in a folder, every file of it verified."""
        bundle = bundles.load(folder)
        return cls(tag=bundle.tag, folder=folder, bundle=bundle)


class Network(Protocol):
    """What runs a variant; `EngineModel` does."""

    async def infer(self, inputs: Arrays, request: InferenceRequest | None) -> Arrays:
        """See `oip_model.Model`."""
        ...


def choose(expected_us: Sequence[int], left_us: float) -> int:
    """Return which network to ask: the last, which is the best, of those done in time.

    Args:
        expected_us: quickest first.
        left_us: until the deadline; infinite for none.
    Returns:
        an index; 0 when none is done in time, for a late answer is the desk's to refuse.
    """
    fits = [i for i, us in enumerate(expected_us) if us * ROOM <= left_us]
    return max(fits, default=0)


class Variants:
    """A model that is answered by one of several networks.

    Args:
        name: by which it is asked for.
        variants: quickest first, best last.
        load: tag -> the network, ready to run; it may keep only some in memory.
        clock: deadlines are read by.
    Raises:
        MixedVariantsError: they were trained for different cameras or kinds.
    """

    def __init__(
        self,
        name: str,
        variants: Sequence[Variant],
        load: Callable[[str], Awaitable[Network]],
        clock: Clock,
    ) -> None:
        first = variants[0].bundle
        for other in variants[1:]:
            if (other.bundle.rig.digest, other.bundle.kinds) != (first.rig.digest, first.kinds):
                raise MixedVariantsError(
                    f"{other.tag} sees other cameras or kinds than {variants[0].tag}; serve it "
                    "under a name of its own"
                )
        self.name, self.version = name, str(max(v.bundle.version for v in variants))
        self.digest = wire.digest("\n".join(bundles.digest_of(v.folder) for v in variants).encode())
        self.variants = tuple(variants)
        self._load, self._clock = load, clock
        self._paces = {v.tag: Pace(v.bundle.latency_budget_us) for v in variants}
        own = [{s.name for s in v.bundle.outputs if s.name != "rows"} for v in variants]
        told = set.intersection(*own) - {"memory_out"}
        self.inputs: tuple[TensorSpec, ...] = tuple(s for s in first.inputs if s.name in PICTURES)
        self.outputs: tuple[TensorSpec, ...] = (
            *(s for s in first.outputs if s.name in told),
            TensorSpec(name=ANSWERED_BY, shape=(1,), dtype=BYTES),
        )

    def expected_us(self) -> int:
        """Return how long the quickest takes: nobody is turned away for the best one's sake."""
        return self._paces[self.variants[0].tag].expected_us()

    async def infer(self, inputs: Arrays, request: InferenceRequest | None) -> Arrays:
        """Return what the best network that is done in time says, and which one it was."""
        variant, outputs = await self.look(inputs, request)
        told = {s.name: outputs[s.name] for s in self.outputs if s.name != ANSWERED_BY}
        return {**told, ANSWERED_BY: np.array([variant.tag.encode()], dtype=object)}

    async def look(
        self, inputs: Arrays, request: InferenceRequest | None
    ) -> tuple[Variant, Arrays]:
        """Return which network was asked and all its outputs.

        Args:
            inputs: at least PICTURES.
        """
        left_us = float("inf")
        if request is not None:
            left_us = (request.deadline_utc_ns - self._clock.utc_ns()) / 1_000
        expected = [self._paces[v.tag].expected_us() for v in self.variants]
        variant = self.variants[choose(expected, left_us)]
        return variant, await self._ask(variant, inputs, request)

    async def warm(self, most: int) -> None:
        """Load the quickest networks and learn how long each takes, before anybody waits.

        Args:
            most: how many.
        """
        blank = {s.name: np.zeros(s.shape, s.dtype) for s in self.inputs}
        for variant in self.variants[:most]:
            await self._ask(variant, blank, None)

    async def _ask(
        self, variant: Variant, inputs: Arrays, request: InferenceRequest | None
    ) -> Arrays:
        network = await self._load(variant.tag)
        began_ns = self._clock.mono_ns()
        outputs = await network.infer(_fed(variant.bundle, inputs), request)
        self._paces[variant.tag].took((self._clock.mono_ns() - began_ns) / 1_000)
        return outputs


def _fed(bundle: ModelBundle, inputs: Arrays) -> dict[str, np.ndarray]:
    """Return what a network takes: the pictures, and nothing to remember."""
    blank = {s.name: s for s in bundle.inputs if s.name not in PICTURES}
    return {
        **{name: np.ascontiguousarray(inputs[name]) for name in PICTURES},
        **{name: np.zeros(s.shape, s.dtype) for name, s in blank.items()},
    }


def kept(variants: Sequence[Variant], threads: int = 1) -> Callable[[str], Awaitable[Network]]:
    """Return a `load` that keeps every network in memory, for a site without a cluster."""
    networks = {v.tag: EngineModel(v.folder, threads) for v in variants}

    async def load(tag: str) -> Network:
        return networks[tag]

    return load
