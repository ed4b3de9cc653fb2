"""A model that knows where home has confirmed a hazard, and tells a car to be slower there.

What it says is minutes to hours old and never about a road user: a disc on the ground and a speed,
which a car may only use to be more careful. It is small enough to ride on a satellite.

Source: own work.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from fleet.inference.oip_tensors import ANY_SIZE, BYTES
from fleet.inference.policy import Site
from fleet.inference.refusals import MalformedRequestError
from fleet.orbit.power import Upsets, agreed
from vehicle.clock import Clock
from vehicle.contracts import wire
from vehicle.contracts.advice import (
    ADVISED_COLUMNS,
    ANSWER,
    ASK_EGO,
    ASK_TRACKS,
    EGO_COLUMNS,
    MAX_CAPS,
    Advice,
    SpeedCap,
)
from vehicle.contracts.bundle import TensorSpec
from vehicle.contracts.inference import InferenceRequest
from vehicle.contracts.wire import require

REACH_M: Final = 15_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hazard:
    """A place to be slow at, in the site's east-north-up frame.

    Args:
        reason: in words.
    """

    SCHEMA: ClassVar[str] = "hazard/1"
    east_m: float
    north_m: float
    radius_m: float
    speed_mps: float
    reason: str

    def __post_init__(self) -> None:
        require(self.radius_m > 0.0 and self.speed_mps >= 0.0, f"hazard {self.reason!r}")


class HazardModel:
    """Answers with the caps around the car that asks.

    Args:
        hazards: confirmed at home.
        site: that answers.
        lives_s: how long an answer may be heeded, from the instant it is about.
        upsets: what radiation does; every answer is computed until two runs agree.
    """

    name, version = "hazards", "1"
    inputs: tuple[TensorSpec, ...] = (
        TensorSpec(name=ASK_TRACKS, shape=(ANY_SIZE, len(ADVISED_COLUMNS)), dtype="float32"),
        TensorSpec(name=ASK_EGO, shape=(len(EGO_COLUMNS),), dtype="float64"),
    )
    outputs: tuple[TensorSpec, ...] = (TensorSpec(name=ANSWER, shape=(1,), dtype=BYTES),)

    def __init__(
        self,
        hazards: Sequence[Hazard],
        site: Site,
        clock: Clock,
        *,
        lives_s: float = 3_600.0,
        upsets: Upsets | None = None,
    ) -> None:
        self._places = np.array(
            [[h.east_m, h.north_m, h.radius_m, h.speed_mps] for h in hazards]
        ).reshape(-1, 4)
        self._hazards, self._site, self._clock = tuple(hazards), site, clock
        self._lives_ns, self._upsets = int(lives_s * 1e9), upsets
        self.digest = wire.digest(wire.to_bytes(self._hazards))
        self.runs = 0

    async def infer(
        self, inputs: Mapping[str, np.ndarray], request: InferenceRequest | None
    ) -> Mapping[str, np.ndarray]:
        """Return one Advice.

        Raises:
            MalformedRequestError: asked without saying for which car.
            UpsetError: no two runs agree.
        """
        if request is None:
            raise MalformedRequestError("advice is for a car: send the request's parameters too")
        _, _, _, _, east_m, north_m = (float(v) for v in inputs[ASK_EGO])
        x_m, y_m = float(inputs[ASK_EGO][0]), float(inputs[ASK_EGO][1])
        found, runs = agreed(
            lambda: {"near": self._near(x_m + east_m, y_m + north_m)}, self._upsets
        )
        self.runs += runs
        near = [int(i) for i in found["near"]]
        now_ns = self._clock.utc_ns()
        advice = Advice(
            request_id=request.request_id,
            context=self._site.context,
            site=self._site.name,
            model_set=f"{self.name}@{self.version}",
            input_utc_ns=request.input_utc_ns,
            valid_until_utc_ns=max(now_ns + 1, request.input_utc_ns + self._lives_ns),
            caps=tuple(
                SpeedCap(
                    speed_mps=self._hazards[i].speed_mps,
                    x_m=self._hazards[i].east_m - east_m,
                    y_m=self._hazards[i].north_m - north_m,
                    radius_m=self._hazards[i].radius_m,
                )
                for i in near
            ),
            reason="; ".join(self._hazards[i].reason for i in near)[:300],
        )
        answer = np.empty(1, dtype=object)
        answer[0] = wire.to_bytes(advice)
        return {ANSWER: answer}

    def expected_us(self) -> int:
        """Return how long an answer takes, us."""
        return 1_000

    def _near(self, east_m: float, north_m: float) -> np.ndarray:
        """Return the indices of hazards near a place, the nearest first."""
        away = np.hypot(self._places[:, 0] - east_m, self._places[:, 1] - north_m)
        order = np.argsort(away, kind="stable")
        return order[away[order] < REACH_M][:MAX_CAPS].astype(np.int32)
