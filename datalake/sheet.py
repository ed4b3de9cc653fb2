"""A contact sheet: what a question found, at a glance, as a PNG or a page that needs nothing else.

A tile is the picture of one camera, or the frame seen from above where there is none, over three
lines: which frame and by what it was chosen, who noticed it, and in what conditions.
"""

import base64
import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import pyarrow as pa

from datalake.birdseye import COLOURS, OTHER, birdseye
from datalake.config import ScrubPolicy
from datalake.lake import Lake
from datalake.shots import Picture, Shot, picture_of, shots
from vehicle.contracts import wire
from vehicle.contracts.frame import CameraModel
from vehicle.contracts.wire import RefusedError
from vehicle.geometry import box_corners, project

WIDE_PX: Final = 384
LOW_PX, HIGH_PX, ABOVE_PX = 160, 288, 216
"""A tile's width; its picture is as high as the highest on the sheet, between the first two; a
frame from above takes the third."""

MOST_TILES: Final = 400
_CAPTION_PX, _MARGIN_PX, _HEAD_PX = 62, 10, 74
_PAGE, _TILE, _INK, _DIM, _VALUE = (16, 18, 20), (26, 30, 34), (236, 238, 240), (150, 158, 166), (
    255, 200, 90)  # fmt: skip
_EDGES: Final = (
    *((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4)),
    *((0, 4), (1, 5), (2, 6), (3, 7)),
)

_FROM_ABOVE: Final = Picture(image=None, camera=None, why="asked for from above")

Progress = Callable[[int, int], None]


class NoFramesError(RefusedError):
    """The query chose no frame of the lake."""


class SheetWriteError(RefusedError):
    """The sheet cannot be written, or its name says neither png nor html."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tile:
    """One frame as it is shown: a picture, uint8 [H, 384, 3] RGB, and three lines of words."""

    image: np.ndarray
    title: str
    value: str
    noticed: str
    conditions: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetReport:
    """What was drawn.

    Args:
        chosen: frames that the query chose.
        pictures: tiles with a camera's picture; the others are seen from above.
        without: why not, with how many.
    """

    SCHEMA = "sheet/1"
    out: str
    chosen: int
    tiles: int
    pictures: int
    without: dict[str, int]


def sheet(
    lake: Lake,
    query: str | pa.Table,
    out: Path,
    *,
    title: str = "",
    limit: int = 24,
    camera: str | None = None,
    boxes: bool = True,
    progress: Progress | None = None,
) -> SheetReport:
    """Write a contact sheet of the frames that a query chooses.

    Args:
        query: SQL or its answer, as `shots.shots` takes it.
        out: *.png or *.html.
        title: shown above; the SQL itself where empty.
        limit: tiles, up to MOST_TILES.
        camera: whose pictures; None: each clip's first; "none": all frames from above.
        boxes: draw the road users that the car believed in.
        progress: called with tiles done and in all.
    Raises:
        SheetWriteError, NoFramesError, QueryError: by name; nothing is written.
    """
    if out.suffix.lower() not in (".png", ".html"):
        raise SheetWriteError(f"{out}: expected a name ending in .png or .html")
    if not 1 <= limit <= MOST_TILES:
        raise SheetWriteError(f"{limit} tiles are asked for, expected 1..{MOST_TILES}")
    found, chosen = shots(lake, query, limit)
    if not found:
        raise NoFramesError("the query chose no frame of the lake; try it with datalake sql")
    policy, without = ScrubPolicy.of(lake.home), dict[str, int]()
    pictures: list[np.ndarray | None] = []
    for done, shot in enumerate(found):
        if progress is not None:
            progress(done, len(found))
        picture = _FROM_ABOVE if camera == "none" else picture_of(lake, shot, camera, policy)
        if picture.why:
            without[picture.why] = without.get(picture.why, 0) + 1
        pictures.append(_small(picture, shot.tracks if boxes else ()))
    height = max(LOW_PX, *(ABOVE_PX if p is None else p.shape[0] for p in pictures))
    tiles = [_tile(*pair, height) for pair in zip(found, pictures, strict=True)]
    about = f"{len(tiles)} of {chosen} frames, lake at snapshot {lake.snapshot()}"
    heading = title or (" ".join(query.split()) if isinstance(query, str) else "frames")
    drawn = [s for s, p in zip(found, pictures, strict=True) if boxes or p is None]
    kinds = sorted({str(row["kind"]) for shot in drawn for row in shot.tracks})
    _save(out, tiles, (heading, about), kinds)
    return SheetReport(
        out=str(out),
        chosen=chosen,
        tiles=len(tiles),
        pictures=len(tiles) - sum(without.values()),
        without=without,
    )


def _save(out: Path, tiles: Sequence[Tile], words: tuple[str, str], kinds: Sequence[str]) -> None:
    if out.suffix.lower() == ".png":
        _, data = cv2.imencode(".png", _page(tiles, *words, kinds)[:, :, ::-1])
        content = data.tobytes()
    else:
        content = _html(tiles, *words, kinds).encode()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        wire.atomic_write(out, content)
    except OSError as error:
        raise SheetWriteError(f"cannot write {out}: {error.strerror or error}") from error


def _tile(shot: Shot, picture: np.ndarray | None, height: int) -> Tile:
    facts = shot.facts
    if picture is None:
        image = birdseye(shot.tracks, shot.past_P2, shot.ahead_P2, WIDE_PX, height)
    else:
        image = np.full((height, WIDE_PX, 3), _TILE, np.uint8)
        y, x = (height - picture.shape[0]) // 2, (WIDE_PX - picture.shape[1]) // 2
        image[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    words = [facts["light"], facts["weather"]]
    conditions = [" ".join(w for w in words if w) or facts["source"] or "conditions unknown"]
    if facts["speed_mps"] is not None:
        conditions.append(f"{facts['speed_mps']:.1f} m/s")
    if facts["n_tracks"] is not None:
        conditions.append(f"{facts['n_tracks']} tracks")
    noticed = facts["fired"] or (f"clip: {facts['triggers']}" if facts["triggers"] else "no event")
    return Tile(
        image=image,
        title=f"{shot.clip_id[:12]}:{shot.frame_id}",
        value="" if shot.value is None else f"{shot.value[0]} {shot.value[1]:.4g}",
        noticed=f"{noticed.replace(',', ', ')} · {facts['car_id'] or 'unknown car'}",
        conditions=" · ".join(conditions),
    )


def _small(picture: Picture, tracks: Sequence[dict[str, Any]]) -> np.ndarray | None:
    """Return a picture as large as it fits a tile, with boxes round the road users in it."""
    image, camera = picture.image, picture.camera
    if image is None or camera is None:
        return None
    scale = min(WIDE_PX / camera.width_px, HIGH_PX / camera.height_px)
    size = max(1, round(camera.width_px * scale)), max(1, round(camera.height_px * scale))
    how = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
    small = np.ascontiguousarray(cv2.resize(image, size, interpolation=how))
    for row in tracks:
        _draw_box(small, camera, scale, row)
    return small


def _draw_box(image: np.ndarray, camera: CameraModel, scale: float, row: dict[str, Any]) -> None:
    names = ("x_m", "y_m", "yaw_rad", "length_m", "width_m", "height_m")
    uv_px, depth_m = project(camera, box_corners(*(float(row[n]) for n in names)))
    uv_px = (uv_px + 0.5) * scale
    if (depth_m < 0.5).any() or (np.abs(uv_px) > 10_000).any():
        return
    corners = np.round(uv_px * 16).astype(np.int32)
    colour = COLOURS.get(str(row["kind"]), OTHER)
    for a, b in _EDGES:
        cv2.line(image, corners[a].tolist(), corners[b].tolist(), colour, 1, cv2.LINE_AA, 4)


def _page(tiles: Sequence[Tile], title: str, about: str, kinds: Sequence[str] = ()) -> np.ndarray:
    """Return all tiles on one picture, in columns that make it about as wide as a screen."""
    base = tiles[0].image.shape[0]
    width, height = WIDE_PX + _MARGIN_PX, base + _CAPTION_PX + _MARGIN_PX
    columns = max(1, min(len(tiles), round(math.sqrt(len(tiles) * 1.5 * height / width))))
    rows = math.ceil(len(tiles) / columns)
    page = np.full(
        (_HEAD_PX + rows * height + _MARGIN_PX, columns * width + _MARGIN_PX, 3), _PAGE, np.uint8
    )
    room = page.shape[1] - 2 * _MARGIN_PX
    _write(page, title, (_MARGIN_PX + 2, 32), 20, _INK, room, 700)
    end = _write(page, about, (_MARGIN_PX + 2, 56), 14, _DIM, room)
    for kind in kinds:
        colour = COLOURS.get(kind, OTHER)
        end = _write(page, kind, (end + 16, 56), 14, colour, max(0, room - end), 600)
    for place, tile in enumerate(tiles):
        x = _MARGIN_PX + place % columns * width
        y = _HEAD_PX + place // columns * height
        card = page[y : y + height - _MARGIN_PX, x : x + WIDE_PX]
        card[:] = _TILE
        card[:base] = tile.image
        room = WIDE_PX - 16
        taken = _write(card, tile.title, (8, base + 19), 14, _INK, room, 600)
        if tile.value:
            left = _extent(tile.value, 14, 600)
            at = max(WIDE_PX - 8 - left, taken + 8)
            _write(card, tile.value, (at, base + 19), 14, _VALUE, WIDE_PX - 8 - at, 600)
        _write(card, tile.noticed, (8, base + 37), 13, _INK, room)
        _write(card, tile.conditions, (8, base + 54), 13, _DIM, room)
    return page


def _write(
    picture: np.ndarray,
    text: str,
    at: tuple[int, int],
    size: int,
    colour: tuple[int, int, int],
    room_px: int,
    weight: int = 400,
) -> int:
    """Write one line, cut to the room there is; return where it ends."""
    shown = "".join(c if c.isprintable() else "?" for c in text)[:400]
    if _extent(shown, size, weight) > room_px:
        while shown and _extent(shown + "…", size, weight) > room_px:
            shown = shown[: len(shown) * 15 // 16] if len(shown) > 32 else shown[:-1]
        shown += "…"
    canvas = np.ascontiguousarray(picture)
    end, _ = cv2.putText(canvas, shown, at, colour, cv2.FontFace("sans"), size, weight)
    picture[:] = canvas
    return int(end[0])


def _extent(text: str, size: int, weight: int) -> int:
    box = cv2.getTextSize((4096, 64), text, (0, 32), cv2.FontFace("sans"), size, weight)
    return int(box[2])


_STYLE: Final = """
body{margin:0;padding:24px;background:#101214;color:#eceef0;font:14px/1.45 system-ui,sans-serif}
h1{font-size:20px;margin:0;overflow-wrap:anywhere}p{margin:4px 0 20px;color:#969ea6}
main{display:grid;gap:12px;grid-template-columns:repeat(auto-fill,minmax(300px,1fr))}
figure{margin:0;background:#1a1e22;border-radius:6px;overflow:hidden}
img{display:block;width:100%}figcaption{padding:8px 10px;overflow-wrap:anywhere}
b{font-family:ui-monospace,monospace}i{float:right;font-style:normal;font-weight:600;color:#ffc85a}
small{display:block;color:#969ea6;font-size:13px}
"""


def _html(tiles: Sequence[Tile], title: str, about: str, kinds: Sequence[str] = ()) -> str:
    """Return one page with every picture in it; no script runs, nothing is fetched."""
    figures = []
    for tile in tiles:
        _, data = cv2.imencode(".jpg", tile.image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
        picture = base64.b64encode(data.tobytes()).decode()
        words = [html.escape(t) for t in (tile.title, tile.value, tile.noticed, tile.conditions)]
        figures.append(
            f'<figure><img alt="{words[0]}" src="data:image/jpeg;base64,{picture}"><figcaption>'
            f"<i>{words[1]}</i><b>{words[0]}</b><small>{words[2]}</small><small>{words[3]}</small>"
            "</figcaption></figure>"
        )
    heading, note = html.escape(title), html.escape(about)
    for kind in kinds:
        colour = "#" + bytes(COLOURS.get(kind, OTHER)).hex()
        note += f' <strong style="color:{colour}">{html.escape(kind)}</strong>'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width">'
        f"<title>{heading[:120]}</title><style>{_STYLE}</style></head><body><h1>{heading}</h1>"
        f"<p>{note}</p><main>{''.join(figures)}</main></body></html>\n"
    )
