"""What the cameras see and what is true about it: images, ids, depth, labelled boxes, BEV bits."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numba import njit

from sim.look.render import View, make_view, render
from sim.look.staging import Light, Stage
from sim.town.paint import CELL_M, Ground
from vehicle.contracts.frame import Rig
from vehicle.contracts.sample import boxes_from_tracks
from vehicle.contracts.scene import BEV, BEV_DRIVABLE, BEV_LANE, BEV_OCCUPIED, TRACK


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """All cameras of one instant, by camera name: rgb, depth in metres, actor ids."""

    images: dict[str, np.ndarray]
    depths_m: dict[str, np.ndarray]
    ids: dict[str, np.ndarray]

    def visible_px(self, actor_ids: np.ndarray) -> np.ndarray:
        """Return for each actor the pixels it covers in all cameras together."""
        most = int(actor_ids.max(initial=0)) + 1
        total = np.zeros(most, np.int64)
        for ids in self.ids.values():
            total += np.bincount(np.clip(ids, 0, most - 1).ravel(), minlength=most)
        total[0] = 0
        return total[actor_ids]


class Sensors:
    """The cameras of a rig in a town.

    Args:
        threads: cameras drawn at a time; the pictures do not depend on it.
    """

    def __init__(self, rig: Rig, stage: Stage, *, threads: int = 1) -> None:
        self.rig, self._stage, self._threads = rig, stage, threads
        self._views: list[View] = [make_view(camera) for camera in rig.cameras]

    def shoot(
        self,
        table: np.ndarray,
        ego: np.ndarray,
        light: Light,
        seed: int,
        tick: int,
        *,
        speed_mps: float = 0.0,
    ) -> Shot:
        """Render every camera.

        Args:
            table: ACTOR rows.
            ego: x, y, yaw of the ego frame in town.
            seed, tick: of noise and weather; each camera has a stream of its own.
            speed_mps: of the ego; rain comes the faster.
        """
        staged = self._stage.place(table, float(ego[0]), float(ego[1]), light)

        def draw(index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            lens_seed = (seed % 1_000_003) * 16 + index + 1
            noise = ((seed % 1_000_003) * 100_003 + tick) * 16 + index + 1
            return render(
                self._views[index], self._stage, staged, ego, light, noise,
                lens_seed=lens_seed, tick=tick, speed_mps=speed_mps,
            )  # fmt: skip

        if self._threads > 1:
            with ThreadPoolExecutor(self._threads) as pool:
                drawn = list(pool.map(draw, range(len(self._views))))
        else:
            drawn = [draw(index) for index in range(len(self._views))]
        names = [view.camera.name for view in self._views]
        images, depths, ids = (
            {name: picture[k] for name, picture in zip(names, drawn, strict=True)} for k in range(3)
        )
        return Shot(images=images, depths_m=depths, ids=ids)


def label_boxes(table: np.ndarray, ego: np.ndarray, shot: Shot) -> np.ndarray:
    """Return BOX_COLUMNS rows [M, 11] of the actors whose centre lies within the BEV extent."""
    c, s = math.cos(ego[2]), math.sin(ego[2])
    dx, dy = table["x_m"] - ego[0], table["y_m"] - ego[1]
    x, y = c * dx + s * dy, -s * dx + c * dy
    inside = (x >= BEV.x_min_m) & (x < BEV.x_min_m + BEV.nx * BEV.cell_m)
    inside &= (y >= BEV.y_min_m) & (y < BEV.y_min_m + BEV.ny * BEV.cell_m)
    rows = table[inside]
    tracks = np.zeros(len(rows), TRACK)
    tracks["x_m"], tracks["y_m"] = x[inside], y[inside]
    yaw = rows["yaw_rad"] - ego[2]
    tracks["yaw_rad"] = (yaw + math.pi) % (2 * math.pi) - math.pi
    tracks["vx_mps"] = rows["speed_mps"] * np.cos(yaw)
    tracks["vy_mps"] = rows["speed_mps"] * np.sin(yaw)
    tracks["track_id"], tracks["kind"] = rows["actor_id"], rows["kind"]
    for name in ("length_m", "width_m", "height_m"):
        tracks[name] = rows[name]
    return boxes_from_tracks(tracks, shot.visible_px(rows["actor_id"]))


def label_bev(ground: Ground, boxes: np.ndarray, solids: np.ndarray, ego: np.ndarray) -> np.ndarray:
    """Return the BEV bits uint8 [100, 64].

    Args:
        boxes: BOX_COLUMNS rows in the ego frame.
        solids: [K, 5] x, y, half length, half width, yaw of buildings in town.
    """
    near = solids[np.hypot(solids[:, 0] - ego[0], solids[:, 1] - ego[1]) < 80.0].astype(np.float64)
    c, s = math.cos(ego[2]), math.sin(ego[2])
    dx, dy = near[:, 0] - ego[0], near[:, 1] - ego[1]
    houses = np.stack(
        [c * dx + s * dy, -s * dx + c * dy, near[:, 2], near[:, 3], near[:, 4] - ego[2]], axis=1
    )
    actors = np.stack(
        [boxes[:, 1], boxes[:, 2], boxes[:, 4] / 2, boxes[:, 5] / 2, boxes[:, 3]], axis=1
    ).astype(np.float64)
    return _bev_bits(
        ground.classes, np.array(ground.origin_m), np.asarray(ego, np.float64),
        np.concatenate([houses, actors]), np.array([BEV.x_min_m, BEV.y_min_m, BEV.cell_m]),
        np.zeros((BEV.nx, BEV.ny), np.uint8),
    )  # fmt: skip


@njit(cache=True)
def _bev_bits(classes, origin, ego, solids, grid, out):  # type: ignore[no-untyped-def]
    """Sample 4 x 4 points per cell of the class raster, then cover the cells under solids."""
    c, s = math.cos(ego[2]), math.sin(ego[2])
    h, w = classes.shape
    nx, ny = out.shape
    for ix in range(nx):
        for iy in range(ny):
            drivable, lane = 0, 0
            for k in range(16):
                x = grid[0] + (ix + (k // 4 + 0.5) / 4.0) * grid[2]
                y = grid[1] + (iy + (k % 4 + 0.5) / 4.0) * grid[2]
                px = int((c * x - s * y + ego[0] - origin[0]) / CELL_M)
                py = int((s * x + c * y + ego[1] - origin[1]) / CELL_M)
                if 0 <= px < w and 0 <= py < h:
                    drivable += (classes[py, px] & BEV_DRIVABLE) != 0
                    lane += (classes[py, px] & BEV_LANE) != 0
            if drivable >= 8:
                out[ix, iy] |= BEV_DRIVABLE
            if lane >= 2:
                out[ix, iy] |= BEV_LANE
    for q in range(len(solids)):
        x, y, hl, hw, yaw = solids[q]
        cs, sn = math.cos(yaw), math.sin(yaw)
        reach = math.hypot(hl, hw) + grid[2]
        a0 = max(int((x - reach - grid[0]) / grid[2]), 0)
        a1 = min(int((x + reach - grid[0]) / grid[2]) + 1, nx)
        b0 = max(int((y - reach - grid[1]) / grid[2]), 0)
        b1 = min(int((y + reach - grid[1]) / grid[2]) + 1, ny)
        for ix in range(a0, a1):
            for iy in range(b0, b1):
                dx = grid[0] + (ix + 0.5) * grid[2] - x
                dy = grid[1] + (iy + 0.5) * grid[2] - y
                pad = grid[2] / 2.0 - 0.1
                if abs(cs * dx + sn * dy) <= hl + pad and abs(-sn * dx + cs * dy) <= hw + pad:
                    out[ix, iy] |= BEV_OCCUPIED
    return out
