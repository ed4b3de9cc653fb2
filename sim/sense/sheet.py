"""A picture for people: all cameras with projected boxes, and the labels from above."""

import cv2
import numpy as np

from sim.look.weather import LIGHTS, WEATHERS
from sim.run.episode import Episode
from vehicle.config import RIG_R
from vehicle.contracts.frame import CameraModel, Rig
from vehicle.contracts.sample import LABEL_MIN_PIXELS
from vehicle.contracts.scene import BEV, BEV_DRIVABLE, BEV_LANE, BEV_OCCUPIED
from vehicle.geometry import box_corners, project

_COLOURS = {-1: (255, 255, 255), 0: (255, 190, 40), 1: (60, 230, 255)}
_OTHER_COLOUR = (255, 120, 255)
_EDGES = [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4)]
_EDGES += [(0, 4), (1, 5), (2, 6), (3, 7)]
_WIDE_PX = 640
_TALL_PX = 320


def contact_sheet(episode: Episode, *, boxes: bool = True) -> np.ndarray:
    """Return one RGB picture of an episode's current frame: cameras in rows, BEV at the right."""
    labels, bev = episode.truth()
    images, rig = episode.shot().images, episode.rig
    tiles = [
        _tile(camera, images[camera.name], labels if boxes else None) for camera in rig.cameras
    ]
    while len(tiles) % 2:
        tiles.append(np.zeros_like(tiles[0]))
    rows = [np.hstack(tiles[i : i + 2]) for i in range(0, len(tiles), 2)]
    left = np.vstack(rows) if rows else np.zeros((_TALL_PX, _WIDE_PX, 3), np.uint8)
    above = bev_picture(bev, labels)
    scale = left.shape[0] / above.shape[0]
    size = (round(above.shape[1] * scale), left.shape[0])
    return np.hstack([left, cv2.resize(above, size, interpolation=cv2.INTER_NEAREST)])


def weather_sheet(
    *, town: int, seed: int, family: str, after: int, camera: str = "front_wide"
) -> np.ndarray:
    """Return one camera of one place in every light (columns) and every weather (rows)."""
    rig = Rig(name=camera, cameras=tuple(c for c in RIG_R.cameras if c.name == camera))
    rows = []
    for weather in WEATHERS:
        row = []
        for light in LIGHTS:
            episode = Episode(
                town=town, seed=seed, light=light, weather=weather, family=family, rig=rig
            )
            for _ in range(after):
                episode.step(None)
            tile = cv2.resize(
                episode.shot().images[camera], (_WIDE_PX, _TALL_PX), interpolation=cv2.INTER_NEAREST
            )
            words = f"{light} {weather}"
            cv2.putText(tile, words, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
            row.append(tile)
        rows.append(np.hstack(row))
    return np.vstack(rows)


def bev_picture(bev: np.ndarray, boxes: np.ndarray, cell_px: int = 8) -> np.ndarray:
    """Return the BEV labels as RGB, ahead up and left left; hidden boxes are thin and grey."""
    picture = np.full((BEV.nx, BEV.ny, 3), (30, 34, 30), np.uint8)
    picture[(bev & BEV_DRIVABLE) != 0] = (86, 88, 92)
    picture[(bev & BEV_LANE) != 0] = (228, 220, 190)
    picture[(bev & BEV_OCCUPIED) != 0] = (140, 66, 60)
    above = cv2.resize(
        picture[::-1, ::-1], None, fx=cell_px, fy=cell_px, interpolation=cv2.INTER_NEAREST
    )
    scale = cell_px / BEV.cell_m
    for row in [*boxes, np.array([-1, 1.35, 0, 0, 4.7, 1.9, 1.5, 99, 0])]:
        x, y = row[1], row[2]
        ground = box_corners(x, y, row[3], row[4], row[5], 1.0)[:4]
        px = np.stack(
            [
                (BEV.y_min_m + BEV.ny * BEV.cell_m - ground[:, 1]) * scale,
                (BEV.x_min_m + BEV.nx * BEV.cell_m - ground[:, 0]) * scale,
            ],
            axis=1,
        )
        seen = row[7] >= LABEL_MIN_PIXELS
        colour = _COLOURS.get(int(row[0]), _OTHER_COLOUR) if seen else (120, 120, 120)
        cv2.polylines(above, [np.round(px).astype(np.int32)], True, colour, 2 if seen else 1)
    return above


def _tile(camera: CameraModel, image: np.ndarray, boxes: np.ndarray | None) -> np.ndarray:
    tile = cv2.resize(image, (_WIDE_PX, _TALL_PX), interpolation=cv2.INTER_NEAREST)
    scale = np.array([_WIDE_PX / camera.width_px, _TALL_PX / camera.height_px])
    for row in boxes if boxes is not None else ():
        if row[7] < LABEL_MIN_PIXELS:
            continue
        corners = box_corners(*(float(v) for v in row[1:7]))
        uv, depth = project(camera, corners)
        if (depth < 0.3).any():
            continue
        px = np.round((uv + 0.5) * scale).astype(int)
        if (np.abs(px) > 10_000).any():
            continue
        for a, b in _EDGES:
            colour = _COLOURS.get(int(row[0]), _OTHER_COLOUR)
            cv2.line(tile, tuple(px[a]), tuple(px[b]), colour, 1, cv2.LINE_AA)
    cv2.putText(tile, camera.name, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
    return tile
