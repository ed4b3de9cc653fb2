"""What cars told of their clips before sending them: one row each, from the gateway's files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from datalake.lake import Lake, Writer
from datalake.quarantine import Quarantined, set_aside
from datalake.tables import SUMMARIES
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipSummary
from vehicle.contracts.home import Home

MAX_SUMMARY_BYTES: Final = 128 << 10


class BadSummaryError(wire.RefusedError):
    """A summary's file is not one."""


def take_summaries(home: Home, lake: Lake) -> tuple[int, list[Quarantined]]:
    """Append the summaries that the lake does not hold, each once; the files stay.

    Returns:
        rows appended, and the files that were set aside.
    """
    known = set(lake.sql("SELECT clip_id FROM summaries")["clip_id"].to_pylist())
    rows, bad = [], []
    for path in _files(home):
        if path.stem in known:
            continue
        try:
            rows.append(row_of(_read(path)))
        except BadSummaryError as error:
            moved = set_aside(home, path.stem, error, lambda at, note, of=path: _move(of, at, note))
            bad += [moved] if moved else []

    def append(writer: Writer) -> int:
        there = writer.known("summaries", "clip_id", [row["clip_id"] for row in rows])
        fresh = (row for row in rows if row["clip_id"] not in there)
        return writer.append("summaries", SUMMARIES.rows(fresh))

    return (lake.write(append) if rows else 0), bad


def row_of(summary: ClipSummary) -> dict[str, Any]:
    """Return the row of a summary; its thumbnail stays outside: nobody has blurred it."""
    manifest = summary.manifest
    return {
        "clip_id": manifest.clip_id,
        "car_id": manifest.car_id,
        "route_id": manifest.route_id,
        "jurisdiction": manifest.jurisdiction,
        "created_utc_ns": manifest.created_utc_ns,
        "size_bytes": sum(entry.size_bytes for entry in manifest.files),
        "triggers": ",".join(sorted({event.trigger for event in manifest.events})),
        "campaigns": ",".join(sorted({event.campaign_id for event in manifest.events})),
        "events": len(manifest.events),
        "value": summary.value,
        "facts": json.dumps(summary.facts, sort_keys=True),
        "tags": json.dumps(manifest.tags, sort_keys=True, ensure_ascii=False),
    }


def _files(home: Home) -> Iterator[Path]:
    for car in sorted((home.fleet / "summaries").glob("[!.]*")):
        yield from sorted(car.glob("[!.]*.json"))


def _read(path: Path) -> ClipSummary:
    where = f"summary {path.parent.name}/{path.name}"
    try:
        if path.is_symlink() or path.stat().st_size > MAX_SUMMARY_BYTES:
            raise BadSummaryError(f"{where} is no file of at most {MAX_SUMMARY_BYTES} bytes")
        summary = wire.from_bytes(ClipSummary, path.read_bytes(), strict=False)
    except (OSError, wire.ContractError) as error:
        raise BadSummaryError(f"{where}: {type(error).__name__}: {error}") from error
    found = (summary.manifest.car_id, summary.manifest.clip_id)
    if found != (path.parent.name, path.stem):
        raise BadSummaryError(f"{where} is of clip {found[1][:80]} of car {found[0]}")
    return summary


def _move(path: Path, place: Path, note: bytes) -> None:
    place.mkdir()
    (place / "reason.json").write_bytes(note)
    path.rename(place / path.name)
