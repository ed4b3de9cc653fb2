"""How much room is left beyond the RSS safe distance: the envelope's rule as a measure.

The envelope of vehicle/safety.py asks for a brake where a gap is too small; this says how large the
gaps are, by the same distances, so that a trigger can ask for less than the rule or for more.
"""

import math
from typing import Final

import numpy as np
from numba import njit

from vehicle.config import VehicleConfig
from vehicle.course import straighten
from vehicle.proposals import TLEN, TVX, TVY, TWID, TX, TY
from vehicle.safety import rss_lateral, rss_opposite, rss_same_direction

ONCOMING_MPS: Final = -0.5
DRIFT_MPS: Final = 1.5
"""As in vehicle/safety.py: slower than this is standing, faster across is crossing traffic."""

NOBODY_M: Final = 1e9


@njit(cache=True)
def least_margin(users: np.ndarray, speed: float, body: np.ndarray, p: np.ndarray) -> float:
    """Return the least gap less the safe one in metres, NOBODY_M without anybody in the way.

    Args:
        users: [N, 7] columns of `vehicle.proposals`, pulled straight along the course.
        speed: of the ego.
        body: front and rear from the rear axle, width.
        p: reaction, acceleration, own brake, brake of who is ahead, lateral acceleration, lateral
            brake, lateral margin.
    Source: Shalev-Shwartz, Shammah, Shashua (2017), definitions 1, 2 and 6.
    """
    front, width = body[0], body[2]
    rho, accel, brake, front_brake, lat_accel, lat_brake, margin = p
    least = NOBODY_M
    for n in range(users.shape[0]):
        u = users[n]
        if u[TX] + 0.5 * u[TLEN] < front:
            continue
        beside = abs(u[TY]) - 0.5 * u[TWID] - 0.5 * width
        towards = min(DRIFT_MPS, -math.copysign(1.0, u[TY]) * u[TVY])
        if beside > rss_lateral(0.0, -towards, rho, rho, lat_accel, lat_brake, margin):
            continue
        gap = max(0.0, u[TX] - 0.5 * u[TLEN] - front)
        if u[TVX] >= ONCOMING_MPS:
            need = rss_same_direction(speed, max(u[TVX], 0.0), rho, accel, brake, front_brake)
        else:
            need = rss_opposite(speed, -u[TVX], rho, accel, brake, brake)
        least = min(least, gap - need)
    return least


class RssMargin:
    """The measure for one car.

    Args:
        config: the body, and what the envelope counts on.
    """

    def __init__(self, config: VehicleConfig) -> None:
        c = config
        self._body = np.array([c.length_m - c.rear_overhang_m, c.rear_overhang_m, c.width_m])
        self._rss = np.array(
            [
                c.reaction_s,
                c.max_accel_mps2,
                c.rss_brake_mps2,
                c.rss_front_brake_mps2,
                c.rss_lateral_accel_mps2,
                c.rss_lateral_brake_mps2,
                c.rss_lateral_margin_m,
            ]
        )
        self.of(np.ones((1, 7)), 1.0, np.zeros((2, 3)))  # compiles it before the car moves

    def of(self, users: np.ndarray, speed_mps: float, course: np.ndarray) -> float:
        """Return the margin in metres, NaN without anybody in the way.

        Args:
            users: [N, 7] from `safety.road_users`.
            course: [M, 3] x, y, yaw that the car goes along.
        """
        if not len(users):
            return math.nan
        placed = straighten(users, course)
        margin = least_margin(placed, max(speed_mps, 0.0), self._body, self._rss)
        return math.nan if margin >= NOBODY_M else float(margin)
