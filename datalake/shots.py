"""What a sheet shows of each frame: its facts, its road users, its picture.

Only frames of the lake are shown, and a picture only from an object that somebody has scrubbed, or
whose jurisdiction asks for nobody to look.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any, Final

import numpy as np
import pyarrow as pa

from datalake.clips import MissingClipError
from datalake.config import ScrubPolicy
from datalake.lake import Lake, QueryError
from datalake.stills import stills
from datalake.vectors import values_sql
from vehicle.contracts.frame import CameraModel
from vehicle.mcap_records import RouteCorruptError

AROUND_S: Final = 3.0
"""Of the ego's way before and after a frame."""

APART_S: Final = 1.0
"""Frames of a clip closer than this show the same; they come last."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shot:
    """One frame to show.

    Args:
        facts: of `ticks`, `clips` and the frame's events, by column.
        value: name and number that the frame was chosen by; None: the query gave none.
        tracks: rows of `tracks`.
        past_P2, ahead_P2: the ego's way, metres in its frame.
    """

    clip_id: str
    frame_id: int
    facts: dict[str, Any]
    value: tuple[str, float] | None
    tracks: list[dict[str, Any]]
    past_P2: np.ndarray
    ahead_P2: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """What a camera saw: uint8 [H, W, 3] RGB, its calibration; `why` there is none, in words."""

    image: np.ndarray | None
    camera: CameraModel | None
    why: str = ""


def shots(lake: Lake, query: str | pa.Table, limit: int) -> tuple[list[Shot], int]:
    """Return the frames that a query chose, in its order, and how many it chose in all.

    Args:
        query: SQL, or its answer: must hold clip_id; with frame_id those frames, without it the
            clips' first events or middle frames. Its first further column of numbers is shown as
            the value.
        limit: at most so many; each clip is shown once before any is shown twice.
    Raises:
        QueryError: no clip_id; or DuckDB refuses it.
    """
    answer = lake.sql(query) if isinstance(query, str) else query
    if "clip_id" not in answer.column_names:
        raise QueryError(f"the query yields {', '.join(answer.column_names)}; expected a clip_id")
    if "frame_id" not in answer.column_names:
        answer = _frames_of(lake, answer)
    name = _value_column(answer)
    keys = [
        (clip, frame, value)
        for clip, frame, value in zip(
            answer["clip_id"].to_pylist(),
            answer["frame_id"].to_pylist(),
            answer[name].to_pylist() if name else [None] * answer.num_rows,
            strict=True,
        )
        if clip is not None and frame is not None
    ]
    chosen = _spread(lake, keys, limit)
    return _described(lake, chosen, name), len(keys)


def picture_of(lake: Lake, shot: Shot, camera: str | None, policy: ScrubPolicy) -> Picture:
    """Return what a camera saw, or why that cannot be shown.

    Args:
        camera: its name; None: the clip's first.
        policy: who must have looked for faces and plates.
    """
    facts = shot.facts
    if not facts["cameras"]:
        return Picture(image=None, camera=None, why="no cameras")
    if facts["scrub"] in (None, "none") and policy.who_looks(facts["jurisdiction"]):
        return Picture(image=None, camera=None, why="not scrubbed")
    wanted = None if camera is None else (camera,)
    try:
        rig, images = stills(lake.home, shot.clip_id, shot.frame_id, facts["mono_ns"], wanted)
    except MissingClipError:
        return Picture(image=None, camera=None, why="clip erased")
    except RouteCorruptError:
        return Picture(image=None, camera=None, why="clip damaged")
    for model in rig.cameras if rig else ():
        if model.name in images:
            return Picture(image=images[model.name], camera=model)
    return Picture(image=None, camera=None, why=f"no picture of {camera or 'this frame'}")


def _frames_of(lake: Lake, answer: pa.Table) -> pa.Table:
    """Return the rows with a frame for each clip: of its first event, else the middle one."""
    listed = values_sql(pa.table({"clip_id": answer["clip_id"].cast(pa.string())}))
    frames = lake.sql(
        "SELECT l.clip_id, coalesce(min(e.frame_id), "
        "any_value((c.frame_first + c.frame_last) // 2)) "
        f"AS frame_id FROM ({listed}) l JOIN clips c USING (clip_id) LEFT JOIN events e "
        "USING (clip_id) GROUP BY ALL"
    )
    of = dict(zip(frames["clip_id"].to_pylist(), frames["frame_id"].to_pylist(), strict=True))
    column = pa.array([of.get(c) for c in answer["clip_id"].to_pylist()], pa.int64())
    return answer.append_column("frame_id", column)


def _value_column(answer: pa.Table) -> str | None:
    for field in answer.schema:
        number = pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
        if number and field.name != "frame_id" and not field.name.endswith("_ns"):
            return str(field.name)
    return None


def _spread(
    lake: Lake, keys: Sequence[tuple[str, int, Any]], limit: int
) -> list[tuple[str, int, Any]]:
    """Return `limit` of the keys in their order: clips take turns with frames well apart."""
    if len(keys) <= limit:
        return list(dict.fromkeys(keys))
    clips = pa.table({"clip_id": pa.array(sorted({k[0] for k in keys}), pa.string())})
    rows = lake.sql(f"SELECT clip_id, rate_hz FROM clips SEMI JOIN ({values_sql(clips)}) USING "
                    "(clip_id)")  # fmt: skip
    rate = dict(zip(rows["clip_id"].to_pylist(), rows["rate_hz"].to_pylist(), strict=True))
    places: dict[str, list[int]] = defaultdict(list)
    for place, (clip, _, _) in enumerate(keys):
        places[clip].append(place)
    queues = [
        _apart(keys, of_clip, APART_S * (rate.get(clip) or 10.0))
        for clip, of_clip in places.items()
    ]
    turns = (place for turn in zip_longest(*queues) for place in turn if place is not None)
    return [keys[place] for place in sorted(islice(turns, limit))]


def _apart(
    keys: Sequence[tuple[str, int, Any]], places: Sequence[int], gap: float
) -> Iterator[int]:
    """Yield a clip's places in their order, those near a frame already shown only at the end."""
    shown: list[int] = []
    late = []
    for place in places:
        frame = keys[place][1]
        if all(abs(frame - f) >= gap for f in shown):
            shown.append(frame)
            yield place
        else:
            late.append(place)
    yield from late


def _described(lake: Lake, keys: Iterable[tuple[str, int, Any]], name: str | None) -> list[Shot]:
    keys = list(keys)
    if not keys:
        return []
    listed = values_sql(
        pa.table(
            {
                "clip_id": pa.array([k[0] for k in keys], pa.string()),
                "frame_id": pa.array([k[1] for k in keys], pa.int64()),
            }
        )
    )
    facts = _by_key(lake.sql(
        "SELECT t.*, c.cameras, c.jurisdiction, c.scrub, c.light, c.weather, c.source, c.triggers, "
        f"c.rate_hz FROM (SELECT DISTINCT * FROM ({listed})) l JOIN ticks t USING (clip_id, "
        "frame_id) JOIN clips c USING (clip_id)"
    ))  # fmt: skip
    fired = _by_key(lake.sql(
        f"SELECT e.* FROM events e SEMI JOIN ({listed}) l USING (clip_id, frame_id) ORDER BY ALL"
    ))  # fmt: skip
    tracks = _by_key(lake.sql(
        f"SELECT k.* FROM tracks k SEMI JOIN ({listed}) l USING (clip_id, frame_id) ORDER BY ALL"
    ))  # fmt: skip
    ways = _ways(lake, listed)
    found = []
    for clip, frame, value in keys:
        for row in facts.get((clip, frame), ())[:1]:
            row["fired"] = ",".join(sorted({e["trigger"] for e in fired.get((clip, frame), ())}))
            past, ahead = _way(row, ways.get((clip, frame), ()))
            found.append(
                Shot(
                    clip_id=clip,
                    frame_id=frame,
                    facts=row,
                    value=None if name is None or value is None else (name, float(value)),
                    tracks=tracks.get((clip, frame), []),
                    past_P2=past,
                    ahead_P2=ahead,
                )
            )
    return found


def _ways(lake: Lake, listed: str) -> dict[tuple[str, int], list[dict[str, Any]]]:
    rows = lake.sql(
        "SELECT l.clip_id, l.frame_id, t.mono_ns, t.x_m, t.y_m FROM "
        f"(SELECT DISTINCT * FROM ({listed})) l JOIN ticks n USING (clip_id, frame_id) "
        "JOIN ticks t ON t.clip_id = n.clip_id AND abs(t.mono_ns - n.mono_ns) <= "
        f"{int(AROUND_S * 1e9)} WHERE t.x_m IS NOT NULL AND t.y_m IS NOT NULL ORDER BY t.mono_ns"
    )
    return _by_key(rows)


def _way(now: dict[str, Any], way: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the ego's past and future places in its frame of now."""
    if now["x_m"] is None or now["y_m"] is None or now["yaw_rad"] is None or not way:
        return np.zeros((0, 2)), np.zeros((0, 2))
    c, s = np.cos(now["yaw_rad"]), np.sin(now["yaw_rad"])
    places = np.array([[row["x_m"] - now["x_m"], row["y_m"] - now["y_m"]] for row in way])
    places = places @ np.array([[c, -s], [s, c]])
    after = np.array([row["mono_ns"] >= now["mono_ns"] for row in way])
    before = np.array([row["mono_ns"] <= now["mono_ns"] for row in way])
    return places[before], places[after]


def _by_key(rows: pa.Table) -> dict[tuple[str, int], list[dict[str, Any]]]:
    found: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows.to_pylist():
        found[row["clip_id"], row["frame_id"]].append(row)
    return dict(found)
