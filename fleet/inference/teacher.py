"""Adjudication: a larger network looks at a frame the car was unsure of, and says what is missing.

It judges one frame by its pictures; what it is sure of, what lies on the car's way, and what the
car does not know of, becomes advice: the road user, and a disc around it to be slower in. The car
takes it as evidence or not at all.
"""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from fleet.inference.oip_tensors import ANY_SIZE, BYTES
from fleet.inference.variants import ANSWERED_BY, Arrays, Variants
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
    rows_of,
    tracks_of,
)
from vehicle.contracts.bundle import ModelBundle, TensorSpec
from vehicle.contracts.inference import InferenceRequest
from vehicle.contracts.scene import KINDS
from vehicle.decode import Decoder

BOXES: Final = "boxes"
"""Output FP32 [N, 10]: all it sees, ADVISED_COLUMNS in the ego frame."""

SEEN_PROB: Final = 0.2
SURE_PROB: Final = 0.5
"""From where on a detection is told, and from where on it is a hazard."""

KNOWN_M: Final = 2.5
"""The car knows of what is so near to something it sees itself."""

AHEAD_M: Final = 40.0
ASIDE_M: Final = 3.5
"""The car's way: straight ahead, a lane to either side; its plan stays with it."""

CAP_MPS: Final = 6.0
CAP_RADIUS_M: Final = 15.0
"""30 km/h less what a surprised driver does not see; in a disc that one second at town speed
crosses. Own choice: the envelope decides, the cap prepares it."""

VALID_S: Final = 3.0
"""A pedestrian is elsewhere by then."""


class Adjudicator:
    """The model that judges frames.

    Args:
        name: by which it is asked for.
        eyes: the networks that can look.
        site: who advises.
    """

    def __init__(self, name: str, eyes: Variants, site: str, clock: Clock) -> None:
        self.name, self.version, self.digest = name, eyes.version, eyes.digest
        self._eyes, self._site, self._clock = eyes, site, clock
        self._decoders: dict[str, Decoder] = {}
        columns = len(ADVISED_COLUMNS)
        self.inputs: tuple[TensorSpec, ...] = (
            *eyes.inputs,
            TensorSpec(name=ASK_TRACKS, shape=(ANY_SIZE, columns), dtype="float32"),
            TensorSpec(name=ASK_EGO, shape=(len(EGO_COLUMNS),), dtype="float64"),
        )
        self.outputs: tuple[TensorSpec, ...] = (
            TensorSpec(name=BOXES, shape=(ANY_SIZE, columns), dtype="float32"),
            TensorSpec(name=ANSWER, shape=(1,), dtype=BYTES),
            TensorSpec(name=ANSWERED_BY, shape=(1,), dtype=BYTES),
        )

    def expected_us(self) -> int:
        """Return how long the quickest network takes."""
        return self._eyes.expected_us()

    async def infer(
        self, inputs: Arrays, request: InferenceRequest | None
    ) -> Mapping[str, np.ndarray]:
        """Return what is there, and advice where the car misses something."""
        variant, outputs = await self._eyes.look(inputs, request)
        found = self._decoder(variant.tag, variant.bundle).boxes(
            outputs["heat"][0], outputs["box"][0]
        )
        found["vx_mps"] = found["vy_mps"] = 0.0  # a single frame shows no speed
        ego = inputs[ASK_EGO]
        known = placed(tracks_of(inputs[ASK_TRACKS].tolist()), ego, back=True)
        advice = b""
        if request is not None:
            hazards = placed(missed(found, known), ego, back=False)
            advice = wire.to_bytes(self._advice(request, hazards, variant.tag))
        return {
            BOXES: np.array(rows_of(found), np.float32).reshape(-1, len(ADVISED_COLUMNS)),
            ANSWER: np.array([advice], dtype=object),
            ANSWERED_BY: np.array([variant.tag.encode()], dtype=object),
        }

    async def warm(self, most: int) -> None:
        """Make ready what the first frames would wait for; see `Variants.warm`."""
        await self._eyes.warm(most)
        for variant in self._eyes.variants[:most]:
            shapes = {s.name: s.shape for s in variant.bundle.outputs}
            heat, box = (np.zeros(shapes[name][1:], np.float32) for name in ("heat", "box"))
            self._decoder(variant.tag, variant.bundle).boxes(heat, box)

    def _decoder(self, tag: str, bundle: ModelBundle) -> Decoder:
        if tag not in self._decoders:
            self._decoders[tag] = Decoder(bundle.kinds, bundle.bev_box, SEEN_PROB)
        return self._decoders[tag]

    def _advice(self, request: InferenceRequest, hazards: np.ndarray, tag: str) -> Advice:
        worst = hazards[:MAX_CAPS]
        kinds = ", ".join(sorted({KINDS[int(k)] for k in worst["kind"]}))
        return Advice(
            request_id=request.request_id,
            context="hyperscale",
            site=self._site,
            model_set=tag,
            input_utc_ns=request.input_utc_ns,
            valid_until_utc_ns=request.input_utc_ns + int(VALID_S * 1e9),
            tracks=rows_of(worst),
            caps=tuple(
                SpeedCap(
                    speed_mps=CAP_MPS,
                    x_m=float(t["x_m"]),
                    y_m=float(t["y_m"]),
                    radius_m=CAP_RADIUS_M,
                )
                for t in worst
            ),
            reason=f"{kinds} on the way that the car does not know of" if kinds else "",
        )


def missed(found: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the road users on the way that are surely there and nobody told of, best first.

    Args:
        found: TRACK [N], ego frame, by the teacher.
        known: TRACK [M], ego frame, by the car.
    """
    on_the_way = (found["x_m"] > 0.0) & (found["x_m"] < AHEAD_M)
    on_the_way &= np.abs(found["y_m"]) < ASIDE_M
    gap_m = np.hypot(
        found["x_m"][:, None] - known["x_m"][None, :], found["y_m"][:, None] - known["y_m"][None, :]
    )
    unknown = gap_m.min(axis=1, initial=np.inf) > KNOWN_M
    chosen: np.ndarray = found[on_the_way & unknown & (found["score_prob"] >= SURE_PROB)]
    return chosen


def placed(tracks: np.ndarray, ego: np.ndarray, *, back: bool) -> np.ndarray:
    """Return TRACK rows of the ego frame in the local frame; `back`: the other way round.

    Args:
        ego: EGO_COLUMNS.
    """
    out, yaw = tracks.copy(), float(ego[2])
    cos, sin = math.cos(yaw), math.sin(-yaw if back else yaw)
    shift_x, shift_y = float(ego[0]), float(ego[1])
    x, y = tracks["x_m"].astype(np.float64), tracks["y_m"].astype(np.float64)
    if back:
        x, y = x - shift_x, y - shift_y
    out["x_m"], out["y_m"] = cos * x - sin * y, sin * x + cos * y
    if not back:
        out["x_m"] += shift_x
        out["y_m"] += shift_y
    vx, vy = tracks["vx_mps"].astype(np.float64), tracks["vy_mps"].astype(np.float64)
    out["vx_mps"], out["vy_mps"] = cos * vx - sin * vy, sin * vx + cos * vy
    out["yaw_rad"] += -yaw if back else yaw
    return out
