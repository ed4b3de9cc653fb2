"""When a second opinion is worth asking for, and what is asked: decided from one tick of the log.

Nothing here is on the frame path: the process that asks reads ticks from the ring, as others do.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Final, Literal
from urllib.parse import urlsplit

import numpy as np

from vehicle.caution import HIDES, TALL_M
from vehicle.contracts.advice import ASK_EGO, ASK_TRACKS, rows_of
from vehicle.contracts.ego import EgoState
from vehicle.contracts.scene import Scene
from vehicle.contracts.tick import Tick
from vehicle.contracts.wire import ContractError, require
from vehicle.geometry import to_local_2d
from vehicle.offboard import MailboxAddress
from vehicle.ring_layout import RingAddress

Reason = Literal["occluded", "uncertain", "disagreement"]

MODEL: Final = "collective"
"""Asked for where a site's address names no model."""

UNIX: Final = "unix:"

UNCERTAIN_RATIO: Final = 0.5
"""Where a frame lies beyond 99 of 100 frames of the training data (see Scene)."""

DISAGREEMENT_RATIO: Final = 0.5
BESIDE_M: Final = 5.0
"""Whoever hides further from the plan than this cannot be on it in time."""

AHEAD_M: Final = 50.0
_STILL_MPS: Final = 0.7
_LEAST_MPS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OffboardSettings:
    """All that the process is told.

    Args:
        car: process id of the frame loop.
        folder: of the car: identity/.
        address: https://HOST:PORT of a site, with /MODEL where not the usual one is asked; or
            unix:PATH, unix:PATH:MODEL of a front on this computer, which asks on.
        tenant, jurisdiction: as in InferenceRequest.
        deadline_s: from the end of exposure; what comes later is not wanted.
        freshness_s: advice about an older instant is not wanted.
        every_s: least time between two questions.
        origin_m: east and north of the local frame's origin in the site's frame.
    """

    SCHEMA: ClassVar[str] = "offboard/1"
    car: int
    ring: RingAddress
    mailbox: MailboxAddress
    folder: str
    car_id: str
    address: str
    tenant: str = "fleet"
    jurisdiction: str = "ZZ"
    deadline_s: float = 0.2
    freshness_s: float = 0.5
    every_s: float = 0.1
    origin_m: tuple[float, float] = (0.0, 0.0)


def split(address: str) -> tuple[str, str]:
    """Return the base of a site's address and the model it names.

    Raises:
        ContractError: it is not http(s)://HOST:PORT, http(s)://HOST:PORT/MODEL or unix:PATH.
    """
    if address.startswith(UNIX):
        path, _, model = address.removeprefix(UNIX).partition(":")
        require(bool(path), f"offboard address is {address!r}, expected unix:PATH")
        return UNIX + path, model or MODEL
    try:
        url = urlsplit(address)
        plain = url.scheme in ("https", "http") and bool(url.hostname) and url.port is not None
    except ValueError as error:
        raise ContractError(f"offboard address {address!r}: {error}") from error
    model = url.path.strip("/") or MODEL
    require(
        plain and "/" not in model and "@" not in url.netloc and not (url.query or url.fragment),
        f"offboard address is {address!r}, expected https://HOST:PORT, https://HOST:PORT/MODEL or "
        "unix:PATH",
    )
    return f"{url.scheme}://{url.netloc}", model


def reason_to_ask(tick: Tick, ego: EgoState) -> Reason | None:
    """Return why the car would like to know more, None where its own eyes are enough.

    "occluded": something tall stands beside where the plan leads, and could hide somebody.
    "uncertain": the network says of the frame that it has not seen its like, or did not answer.
    "disagreement": the shadow sees or plans something else.
    """
    scene, plan = tick.scene, tick.plan
    if plan is None or ego.speed_mps < _LEAST_MPS:
        return None
    if scene is not None and _hides(scene.tracks, plan.trajectory.states[:, 1:3]):
        return "occluded"
    if scene is not None:
        doubt = scene.uncertainty_ratio
        if not scene.fresh or (math.isfinite(doubt) and doubt > UNCERTAIN_RATIO):
            return "uncertain"
    if tick.signals.get("shadow_disagreement", 0.0) > DISAGREEMENT_RATIO:
        return "disagreement"
    return None


def _hides(tracks: np.ndarray, way_m: np.ndarray) -> bool:
    """Return whether something tall that stands is ahead, beside the points of a way."""
    tall = tracks[HIDES[tracks["kind"]] & (tracks["height_m"] >= TALL_M)]
    tall = tall[np.hypot(tall["vx_mps"], tall["vy_mps"]) < _STILL_MPS]
    tall = tall[(tall["x_m"] > 0.0) & (tall["x_m"] < AHEAD_M)]
    if not len(tall):
        return False
    reach_m = 0.5 * np.maximum(tall["width_m"], tall["length_m"]) + BESIDE_M
    dx = tall["x_m"][:, None] - way_m[None, :, 0]
    dy = tall["y_m"][:, None] - way_m[None, :, 1]
    return bool((np.hypot(dx, dy).min(axis=1) < reach_m).any())


def question(
    scene: Scene | None, ego: EgoState, origin_m: tuple[float, float]
) -> dict[str, np.ndarray]:
    """Return the tensors of a request: what the car sees and where it is, in its local frame.

    Args:
        origin_m: east and north of the local frame's origin in the frame of who is asked.
    """
    seen = np.zeros((0, 10), np.float32)
    if scene is not None and len(scene.tracks):
        local = scene.tracks.copy()
        place = to_local_2d(ego, np.column_stack([local["x_m"], local["y_m"]]).astype(np.float64))
        c, s = math.cos(ego.yaw_rad), math.sin(ego.yaw_rad)
        vx, vy = scene.tracks["vx_mps"], scene.tracks["vy_mps"]
        local["x_m"], local["y_m"] = place[:, 0], place[:, 1]
        local["yaw_rad"] += ego.yaw_rad
        local["vx_mps"], local["vy_mps"] = c * vx - s * vy, s * vx + c * vy
        seen = np.array(rows_of(local), np.float32)
    where = np.array([ego.x_m, ego.y_m, ego.yaw_rad, ego.speed_mps, *origin_m])
    return {ASK_TRACKS: seen, ASK_EGO: where}
