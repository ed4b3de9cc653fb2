"""Captions: why the car decided so at its events, as search keys of clips.

Three files make one: the lake writes the decisions of events that have no caption, an explainer
writes captions of them (`roadloop fleet infer explain write`), the lake takes those in.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from datalake.clips import clip_object
from datalake.duck import quoted
from datalake.lake import Lake, QueryError, Writer
from datalake.tables import CAPTIONS
from vehicle.config import VehicleConfig
from vehicle.contracts import wire
from vehicle.contracts.caption import Caption
from vehicle.contracts.decision import DecisionRecord
from vehicle.contracts.home import Home
from vehicle.contracts.tick import Record
from vehicle.decisions import record_of
from vehicle.route import RouteReader

MOST_WORDS: Final = 16


class CaptionFileError(wire.RefusedError):
    """A line of a file is no caption."""


class UnknownFrameError(wire.RefusedError):
    """A caption is of a clip or frame that the lake does not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncaptioned:
    """Decisions to be explained; `silent` frames hold none: nobody planned there."""

    records: list[DecisionRecord]
    silent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionReport:
    """What came into the lake: captions, those it had before, and how many explain."""

    SCHEMA = "captions/1"
    captions: int
    already: int
    explained: int


def uncaptioned(
    home: Home,
    lake: Lake,
    model: str = "",
    limit: int = 100_000,
    progress: Callable[[int, int], None] | None = None,
) -> Uncaptioned:
    """Return the decisions at events that have no caption yet.

    Args:
        model: explainer, name@version: none of its own; "": of nobody.
        limit: decisions at most, of the newest clips.
        progress: called with clips read and clips in all.
    """
    own = f"WHERE model = {quoted(model)}" if model else ""
    rows = lake.sql(
        "SELECT DISTINCT e.clip_id, e.frame_id, c.created_utc_ns FROM events e "
        "JOIN clips c USING (clip_id) "
        f"ANTI JOIN (SELECT clip_id, frame_id FROM captions {own}) k USING (clip_id, frame_id) "
        f"ORDER BY c.created_utc_ns DESC, e.clip_id, e.frame_id LIMIT {int(limit)}"
    ).to_pylist()
    wanted: dict[str, set[int]] = {}
    for row in rows:
        wanted.setdefault(row["clip_id"], set()).add(row["frame_id"])
    found: list[DecisionRecord] = []
    for done, (clip_id, frames) in enumerate(wanted.items(), start=1):
        found += _of(home, clip_id, frames)
        if progress is not None:
            progress(done, len(wanted))
    return Uncaptioned(records=found, silent=len(rows) - len(found))


def _of(home: Home, clip_id: str, frames: set[int]) -> Iterable[DecisionRecord]:
    path = clip_object(home, clip_id)
    for record in RouteReader(path, recover=True).records() if path.is_file() else ():
        if record.observation.frame.frame_id in frames:
            made = _decided(clip_id, record)
            if made is not None:
                yield made


def _decided(clip_id: str, record: Record) -> DecisionRecord | None:
    tick, obs = record.tick, record.observation
    if tick is None or tick.plan is None or tick.command is None or obs.ego is None:
        return None
    return record_of(clip_id, tick.scene, obs, tick.plan, tick.command, VehicleConfig())


def read_captions(path: Path) -> list[Caption]:
    """Return the captions of a file.

    Raises:
        CaptionFileError: it is not there, or a line is no caption; it is named.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise CaptionFileError(f"{path}: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(wire.from_bytes(Caption, line))
        except wire.ContractError as error:
            raise CaptionFileError(f"{path}:{number}: {error}") from error
    return found


def take_captions(lake: Lake, captions: Sequence[Caption]) -> CaptionReport:
    """Take captions into the lake, each of a frame and an explainer once.

    Raises:
        UnknownFrameError: one is of a clip or frame that is not in the lake; none is taken.
    """
    ticks = {
        (row["clip_id"], row["frame_id"])
        for row in lake.sql(
            "SELECT clip_id, frame_id FROM ticks WHERE "
            f"list_contains([{', '.join(quoted(c.clip_id) for c in captions)}]::VARCHAR[], clip_id)"
        ).to_pylist()
    }
    for caption in captions:
        if (caption.clip_id, caption.frame_id) not in ticks:
            raise UnknownFrameError(
                f"frame {caption.frame_id} of clip {caption.clip_id[:12]} is not in the lake"
            )

    def change(writer: Writer) -> int:
        known: dict[tuple[str, str], set[int]] = {}
        new: dict[tuple[str, int, str], dict[str, Any]] = {}
        for c in captions:
            key = (c.clip_id, c.model)
            if key not in known:
                mine = f"model = {quoted(c.model)}"
                known[key] = writer.frames("captions", c.clip_id, mine)
            if c.frame_id not in known[key]:
                new[c.clip_id, c.frame_id, c.model] = _row(c)
        return writer.append("captions", CAPTIONS.rows(new.values()))

    taken = lake.write(change)
    return CaptionReport(
        captions=taken,
        already=len(captions) - taken,
        explained=sum(caption.explained for caption in captions),
    )


def _row(caption: Caption) -> dict[str, Any]:
    return {
        "clip_id": caption.clip_id,
        "frame_id": caption.frame_id,
        "model": caption.model,
        "text": caption.text,
        "explained": int(caption.explained),
        "decision": caption.longitudinal,
        "lateral_decision": caption.lateral,
        "factors": ", ".join(caption.factors),
    }


def search_sql(words: Sequence[str]) -> str:
    """Return the question for frames whose caption says all of the words.

    Raises:
        QueryError: none or too many words.
    """
    if not 0 < len(words) <= MOST_WORDS:
        raise QueryError(f"{len(words)} words to look for, expected 1 to {MOST_WORDS}")
    says = " AND ".join(f"contains(lower(text), {quoted(word.lower())})" for word in words)
    return (
        f"SELECT clip_id, frame_id, text, model FROM captions WHERE explained = 1 AND {says} "
        "ORDER BY clip_id, frame_id, model"
    )
