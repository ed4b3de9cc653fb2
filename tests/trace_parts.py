"""Hand-built grounds and drives: a straight two-way road along x, optionally moved as a whole."""

from dataclasses import dataclass, field

import numpy as np

from sim.score.trace import ACTOR_STATE, EgoSample, Snapshot, Trace

LANE_M = 4.0


@dataclass
class StraightRoad:
    """Lane 0 around y = 0 towards +x, lane 1 beyond it (y = 4) the same way, lane 2 (y = 8) back.

    Drivable is -2..10. A junction may cover x in `junction`. Moved by yaw and offset as a whole.
    """

    length_m: float = 400.0
    junction: tuple[float, float] | None = None
    limit_mps: float = 15.0
    on_route: tuple[int, ...] = (0, 1)
    yaw_rad: float = 0.0
    offset_m: tuple[float, float] = (0.0, 0.0)
    calls: list[str] = field(default_factory=list)

    def own(self, points_m: np.ndarray) -> np.ndarray:
        d = np.asarray(points_m, float).reshape(-1, 2) - self.offset_m
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        return np.stack([c * d[:, 0] + s * d[:, 1], -s * d[:, 0] + c * d[:, 1]], axis=1)

    def world(self, points: np.ndarray) -> np.ndarray:
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        p = np.asarray(points, float)
        x, y = p[..., 0], p[..., 1]
        return np.stack([c * x - s * y, s * x + c * y], axis=-1) + self.offset_m

    def drivable(self, points_m: np.ndarray) -> np.ndarray:
        y = self.own(points_m)[:, 1]
        return (y >= -2.0 - 1e-9) & (y <= 10.0 + 1e-9)

    def inside_one_lane(self, points_m: np.ndarray) -> np.ndarray:
        y = self.own(points_m)[:, 1]
        lane = np.floor((y + 2.0 + 1e-9) / LANE_M).astype(np.int64)
        return np.where((lane >= 0) & (lane < 3), lane, -1)

    def on_route_lane(self, points_m: np.ndarray) -> np.ndarray:
        return np.isin(self.inside_one_lane(points_m), self.on_route)

    def in_junction(self, points_m: np.ndarray) -> np.ndarray:
        x = self.own(points_m)[:, 0]
        if self.junction is None:
            return np.zeros(len(x), bool)
        return (x >= self.junction[0]) & (x <= self.junction[1])

    def centreline(self) -> np.ndarray:
        x = np.arange(-50.0, self.length_m + 1.0)
        return self.world(np.stack([x, np.zeros_like(x)], axis=1))

    def speed_limit_mps(self, points_m: np.ndarray) -> np.ndarray:
        return np.full(len(self.own(points_m)), self.limit_mps)

    def flow_yaw(self, points_m: np.ndarray) -> np.ndarray:
        lane = self.inside_one_lane(points_m)
        yaw = np.where(lane == 2, self.yaw_rad + np.pi, self.yaw_rad)
        return np.where((lane < 0) | self.in_junction(points_m), np.nan, yaw)


def actor(
    actor_id: int = 1,
    x: float = 0.0,
    y: float = 0.0,
    yaw: float = 0.0,
    speed: float = 0.0,
    *,
    length: float = 4.0,
    width: float = 2.0,
    static: bool = False,
    kind: int = 0,
) -> np.void:
    row = np.zeros(1, ACTOR_STATE)
    row[0] = (actor_id, kind, x, y, yaw, speed, length, width, static)
    return row[0]


def drive(
    x: np.ndarray,
    y: np.ndarray | float = 0.0,
    yaw: np.ndarray | float = 0.0,
    *,
    speed: np.ndarray | float | None = None,
    accel: np.ndarray | float = 0.0,
    yaw_rate: np.ndarray | float = 0.0,
    actors: object = None,
    red: object = None,
    road: StraightRoad | None = None,
    dt: float = 0.1,
    length: float = 4.0,
    width: float = 2.0,
    **more: object,
) -> Trace:
    """Return a trace; `actors(i, t)` and `red(i)` say who and what is there at snapshot i."""
    road = road or StraightRoad()
    x = np.asarray(x, float)
    n = len(x)
    y, yaw, accel, yaw_rate = (
        np.broadcast_to(np.asarray(v, float), n) for v in (y, yaw, accel, yaw_rate)
    )
    v = np.gradient(x, dt) if speed is None else np.broadcast_to(np.asarray(speed, float), n)
    at = road.world(np.stack([x, y], axis=1))
    snapshots = []
    for i in range(n):
        rows = [a.copy() for a in actors(i, i * dt)] if actors else []
        for row in rows:
            row["x_m"], row["y_m"] = road.world(np.array([row["x_m"], row["y_m"]]))
            row["yaw_rad"] += road.yaw_rad
        ego = EgoSample(
            x_m=at[i, 0], y_m=at[i, 1], yaw_rad=yaw[i] + road.yaw_rad, speed_mps=v[i],
            accel_mps2=accel[i], yaw_rate_radps=yaw_rate[i], length_m=length, width_m=width,
        )  # fmt: skip
        quads = (
            np.zeros((0, 4, 2)) if red is None else road.world(np.asarray(red(i)).reshape(-1, 4, 2))
        )
        snapshots.append(
            Snapshot(
                t_s=i * dt, ego=ego, red_light_m=quads,
                actors=np.array(rows, ACTOR_STATE) if rows else np.zeros(0, ACTOR_STATE),
            )
        )  # fmt: skip
    return Trace(snapshots=tuple(snapshots), road=road, **more)


def steady(seconds: float, speed: float, dt: float = 0.1, start: float = 0.0) -> np.ndarray:
    """Return x over time at constant speed."""
    return start + speed * dt * np.arange(round(seconds / dt) + 1)
