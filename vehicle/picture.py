"""One frame as a person can judge it: cameras with overlays, the ground from above, the figures."""

import math
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from vehicle import picture_bev, picture_camera
from vehicle.config import VehicleConfig
from vehicle.contracts import wire
from vehicle.contracts.frame import Observation, Rig
from vehicle.contracts.scene import KINDS, Scene
from vehicle.contracts.tick import Tick
from vehicle.drawing import (
    ALARM,
    BACKGROUND,
    DRIVABLE,
    GUIDANCE,
    KIND_COLOURS,
    LANE,
    OCCUPIED,
    PANEL,
    PLAN,
    PLAN_BRAKES,
    QUIET,
    WORDS,
    width_of,
    words,
)

HEIGHT_PX: Final = 900
CAMERAS_PX: Final = 1180
HEADER_PX: Final = 56
LEGEND_PX: Final = 34
GAP_PX: Final = 8
_USUAL_KINDS: Final = 5


def draw(
    obs: Observation, tick: Tick | None, rig: Rig | None, config: VehicleConfig | None = None
) -> np.ndarray:
    """Return the picture of one frame, uint8 [H, W, 3] RGB.

    Args:
        obs: what the tick was given.
        tick: what the loop made of it; None draws the observation alone.
        rig: the cameras of `obs`, None for a route without any.
        config: the vehicle's body.
    """
    config = config or VehicleConfig()
    body_px = HEIGHT_PX - HEADER_PX - LEGEND_PX
    panels = []
    if rig is not None and rig.cameras:
        panels.append(_cameras(obs, tick, rig, config, body_px))
        panels.append(np.full((body_px, GAP_PX, 3), BACKGROUND, np.uint8))
    panels.append(_ground(obs, tick, config, body_px, None if panels else CAMERAS_PX))
    body = np.concatenate(panels, axis=1)
    image = np.full((HEIGHT_PX, body.shape[1], 3), BACKGROUND, np.uint8)
    top, bottom = HEADER_PX, HEADER_PX + body_px
    image[top:bottom] = body
    _header(image[:HEADER_PX], obs, tick)
    scene = _scene(obs, tick)
    seen = set() if scene is None else {int(kind) for kind in scene.tracks["kind"]}
    _legend(image[bottom:], seen)
    return image


def save(path: Path, obs: Observation, tick: Tick | None, rig: Rig | None) -> None:
    """Write the picture of one frame as PNG, whole or not at all."""
    done, data = cv2.imencode(".png", cv2.cvtColor(draw(obs, tick, rig), cv2.COLOR_RGB2BGR))
    wire.require(done, f"cannot encode a picture for {path}")
    wire.atomic_write(path, data.tobytes())


def _scene(obs: Observation, tick: Tick | None) -> Scene | None:
    return tick.scene if tick is not None and tick.scene is not None else obs.traffic


def _ground(
    obs: Observation,
    tick: Tick | None,
    config: VehicleConfig,
    height_px: int,
    width_px: int | None,
) -> np.ndarray:
    ground, scene = picture_bev.Ground(height_px, width_px), _scene(obs, tick)
    if scene is not None and scene.occupancy is not None:
        picture_bev.draw_occupancy(ground, scene.occupancy)
        picture_bev.draw_flow(ground, scene.occupancy)
    picture_bev.draw_rings(ground)
    if scene is not None:
        picture_bev.draw_lanes(ground, scene.lanes)
    if obs.guidance is not None:
        picture_bev.draw_guidance(ground, obs.guidance)
    if scene is not None:
        picture_bev.draw_tracks(ground, scene.tracks)
    if tick is not None and tick.plan is not None:
        picture_bev.draw_plan(ground, tick.plan)
    picture_bev.draw_ego(ground, config)
    return ground.image


def _cameras(
    obs: Observation, tick: Tick | None, rig: Rig, config: VehicleConfig, height_px: int
) -> np.ndarray:
    mosaic = np.full((height_px, CAMERAS_PX, 3), PANEL, np.uint8)
    shown = [c for c in rig.cameras if c.name in obs.frame.images]
    if not shown:
        text = "no pictures in this frame"
        at = ((CAMERAS_PX - width_of(text, 18)) / 2, height_px / 2)
        words(mosaic, text, at, size=18, colour=QUIET)
        return mosaic
    shapes = [c.width_px / c.height_px for c in shown]
    rows = _rows(shapes, height_px)
    used = sum(height for _, height in rows) + GAP_PX * (len(rows) - 1)
    y, scene = (height_px - used) / 2, _scene(obs, tick)
    for row, height in rows:
        x = (CAMERAS_PX - sum(shapes[i] * height for i in row) - GAP_PX * (len(row) - 1)) / 2
        for i in row:
            view = picture_camera.View(
                obs.frame.images[shown[i].name], shown[i], max(1, int(shapes[i] * height))
            )
            if obs.guidance is not None:
                picture_camera.draw_guidance(view, obs.guidance)
            if tick is not None and tick.plan is not None:
                picture_camera.draw_path(view, tick.plan, config.width_m)
            if scene is not None:
                picture_camera.draw_tracks(view, scene.tracks)
            picture_camera.caption(view, shown[i].name)
            part = mosaic[round(y) :, round(x) :][: view.image.shape[0], : view.image.shape[1]]
            part[:] = view.image[: part.shape[0], : part.shape[1]]
            x += view.image.shape[1] + GAP_PX
        y += height + GAP_PX
    return mosaic


def _heights(shapes: list[float], rows: list[range]) -> list[float]:
    """Return row heights that fill the width: the first row's own, one for all the others."""
    heights = [(CAMERAS_PX - GAP_PX * (len(row) - 1)) / sum(shapes[i] for i in row) for row in rows]
    return heights[:1] + [min(heights[1:], default=0.0)] * (len(rows) - 1)


def _rows(shapes: list[float], height_px: int) -> list[tuple[range, float]]:
    """Return the rows of the mosaic with their heights: the split into the
    largest pictures.

    The first row has a height of its own, so that front cameras stand larger than the others.
    """
    count = len(shapes)
    best: tuple[float, list[tuple[range, float]]] = (0.0, [])
    for first in range(1, count + 1):
        for per_row in range(1, max(1, count - first) + 1):
            rows = [range(first)]
            rows += [range(i, min(i + per_row, count)) for i in range(first, count, per_row)]
            heights = _heights(shapes, rows)
            if min(heights) == heights[0] and heights[0] < max(heights):
                continue  # what comes first is what the car mostly looks at
            scale = min(1.0, (height_px - GAP_PX * (len(rows) - 1)) / sum(heights))
            heights = [h * scale for h in heights]
            split = list(zip(rows, heights, strict=True))
            size = sum(height * len(row) for row, height in split)
            if size > best[0] + 1e-6:
                best = (size, split)
    return best[1]


def _header(image: np.ndarray, obs: Observation, tick: Tick | None) -> None:
    x = words(image, f"frame {obs.frame.frame_id}", (14, 35), size=20, weight=600)
    x = _figure(image, x, "time", f"{obs.frame.mono_ns * 1e-9:.2f} s")
    if obs.ego is not None:
        x = _figure(image, x, "speed", f"{obs.ego.speed_mps * 3.6:.1f} km/h")
        x = _figure(image, x, "measured", f"{obs.ego.accel_mps2:+.2f} m/s²")
    if tick is None:
        return
    if tick.command is not None:
        x = _figure(image, x, "demanded", f"{tick.command.accel_mps2:+.2f} m/s²")
        x = _figure(image, x, "curvature", f"{tick.command.curvature_1pm:+.4f} 1/m")
    if tick.plan is not None:
        x = _figure(image, x, "plan", tick.plan.proposal)
    if tick.scene is not None:
        x = _figure(image, x, "road users", str(len(tick.scene.tracks)))
        signal = tick.scene.signal
        if signal is not None and signal.state != "none":
            far = "" if math.isnan(signal.distance_m) else f" {signal.distance_m:.0f} m"
            x = _figure(image, x, "light", f"{signal.state}{far}")
        if not math.isnan(tick.scene.uncertainty_ratio):
            x = _figure(image, x, "uncertainty", f"{tick.scene.uncertainty_ratio:.2f}")
    x = _figure(image, x, "rung", tick.timing.rung.replace("_", " "))
    x = _figure(image, x, "tick", f"{tick.timing.total_us / 1000:.1f} ms")
    if tick.events:
        names = ", ".join(e.trigger for e in tick.events)
        words(image, names, (x + 22, 35), size=18, colour=ALARM, weight=600)


def _figure(image: np.ndarray, x: int, name: str, value: str) -> int:
    words(image, name, (x + 22, 21), size=11, colour=QUIET)
    end = words(image, value, (x + 22, 42), size=16, colour=WORDS)
    return max(end, x + 22 + width_of(name, 11))


def _legend(image: np.ndarray, seen: set[int]) -> None:
    """Name the colours: the usual kinds always, the others where one is in the picture."""
    x = 14
    usual = set(range(_USUAL_KINDS))
    entries = [(KIND_COLOURS[i], KINDS[i]) for i in sorted(usual | seen) if i < len(KINDS)]
    entries += [(DRIVABLE, "drivable"), (LANE, "lane line"), (OCCUPIED, "occupied")]
    entries += [(PLAN, "plan"), (PLAN_BRAKES, "plan brakes"), (GUIDANCE, "guidance")]
    for colour, name in entries:
        cv2.rectangle(image, (x, 12), (x + 12, 22), colour, -1)
        x = words(image, name, (x + 18, 22), size=12, colour=QUIET) + 18
