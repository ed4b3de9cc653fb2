"""Whole routes into the landing zone: a drive log that no trigger cut can be asked about too."""

import os
import shutil
from pathlib import Path
from typing import Final

from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest, FileEntry
from vehicle.contracts.home import Home
from vehicle.contracts.wire import RefusedError
from vehicle.route import RouteReader

_NAMED: Final = ("car_id", "route_id", "jurisdiction", "model")


class EmptyRouteError(RefusedError):
    """A route file holds no tick."""


def land(home: Home, route: Path) -> str:
    """Put a route file into the landing zone as one clip; return its clip id.

    The manifest says what the route's own metadata says; events are those of its ticks. Where
    nobody says it was simulated, it was recorded somewhere: jurisdiction XX, not ZZ.

    Args:
        home: whose landing zone.
        route: a route file, as `roadloop import` writes it.
    Raises:
        RouteMissingError, RouteCorruptError: it does not read from end to end.
        EmptyRouteError: it holds no tick.
    """
    reader = RouteReader(route)
    records = list(reader.records())
    if not records:
        raise EmptyRouteError(f"{route} holds no tick; import it again")
    first, last = records[0].observation.frame, records[-1].observation.frame
    clip_id = wire.digest_file(route)
    about = reader.metadata
    simulated = about.get("source") == "simulator"
    tags = {k.removeprefix("tag."): v for k, v in about.items() if k not in _NAMED}
    tags["taken"] = "whole"  # no trigger chose it: a fair draw, whatever fired along the way
    manifest = ClipManifest(
        clip_id=clip_id,
        car_id=about.get("car_id") or "unknown",
        route_id=about.get("route_id") or route.stem,
        events=tuple(event for r in records if r.tick for event in r.tick.events),
        frames=(first.frame_id, last.frame_id),
        start_mono_ns=first.mono_ns,
        end_mono_ns=last.mono_ns,
        created_utc_ns=route.stat().st_mtime_ns,
        jurisdiction=about.get("jurisdiction") or ("ZZ" if simulated else "XX"),
        model=about.get("model", ""),
        rig_digest=reader.rig.digest if reader.rig else "",
        files=(FileEntry(name="clip.mcap", sha256=clip_id, size_bytes=route.stat().st_size),),
        tags=tags,
    )
    _place(home.landing / clip_id, route, manifest)
    return clip_id


def _place(folder: Path, route: Path, manifest: ClipManifest) -> None:
    if folder.exists():
        return
    temp = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
    try:
        temp.mkdir(parents=True)
        shutil.copyfile(route, temp / "clip.mcap")
        with (temp / "clip.mcap").open("rb") as file:
            os.fsync(file.fileno())
        wire.atomic_write(temp / "manifest.json", wire.to_bytes(manifest))
        temp.rename(folder)
        wire.sync_folder(folder.parent)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
