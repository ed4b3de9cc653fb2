"""Whose clips may leave the lake: a clip keeps the law of the place where it was recorded."""

from collections.abc import Collection
from typing import TypeVar

from datalake.config import ScrubPolicy
from datalake.lake import Lake
from vehicle.contracts.wire import RefusedError

T = TypeVar("T")


class ClosedJurisdictionError(RefusedError):
    """Clips were asked for that home's policy lets into no dataset and no export."""


def only(lake: Lake, chosen: dict[str, T], jurisdictions: Collection[str]) -> dict[str, T]:
    """Return the chosen clips recorded in one of these jurisdictions; all of them without any."""
    if not jurisdictions:
        return chosen
    places = _places(lake, chosen)
    return {c: frames for c, frames in chosen.items() if places.get(c) in jurisdictions}


def require_open(lake: Lake, clip_ids: Collection[str]) -> None:
    """Refuse clips of jurisdictions that privacy.toml closes.

    Args:
        lake: at the snapshot that is asked.
        clip_ids: of clips in it.
    Raises:
        ClosedJurisdictionError: names a clip, its place, and how to ask without it.
    """
    closed = ScrubPolicy.of(lake.home).closed
    shut = {c: p for c, p in _places(lake, clip_ids).items() if p in closed} if closed else {}
    if shut:
        clip, place = min(shut.items())
        raise ClosedJurisdictionError(
            f"{len(shut)} of {len(clip_ids)} clips were recorded where privacy.toml lets none out "
            f"({', '.join(sorted(set(shut.values())))}; first: clip {clip[:12]}, {place}); ask "
            f"without them: WHERE clip_id IN (SELECT clip_id FROM clips WHERE jurisdiction <> "
            f"'{place}')"
        )


def _places(lake: Lake, clip_ids: Collection[str]) -> dict[str, str | None]:
    """Return clip_id -> where it was recorded, for clips that the lake holds."""
    listed = ", ".join("'" + clip.replace("'", "''") + "'" for clip in clip_ids)
    rows = lake.sql(
        "SELECT clip_id, jurisdiction FROM clips "
        f"WHERE list_contains([{listed}]::VARCHAR[], clip_id)"
    )
    return dict(zip(*(rows[name].to_pylist() for name in rows.column_names), strict=True))
