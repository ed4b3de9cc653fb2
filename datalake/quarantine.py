"""Where bad clips wait: whole, with the name of the rule they break, out of everybody's way."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from datalake.bounds import require_bounded
from datalake.land import land
from datalake.rows import RECOVERED_FROM
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest
from vehicle.contracts.home import Home
from vehicle.route import RouteReader, RouteWriter
from vehicle.salvage import carry_over


class NotInQuarantineError(wire.RefusedError):
    """No clip of that name lies in quarantine, or nothing of it can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A clip or summary that was set aside: the rule it breaks, and how."""

    clip_id: str
    error: str
    reason: str
    folder: str


def set_aside(
    home: Home, clip_id: str, error: Exception, move: Callable[[Path, bytes], None]
) -> Quarantined | None:
    """Move a bad clip to the quarantine with its reason.

    Args:
        clip_id: what it is called where it lies now.
        error: the rule it breaks.
        move: moves it to a path, with a note; raises FileNotFoundError when another process did.
    Returns:
        what was set aside, None when another process did it.
    """
    quarantine = home.lake / "quarantine"
    quarantine.mkdir(parents=True, exist_ok=True)
    name, reason = type(error).__name__, str(error)
    note = {"schema": "quarantine/1", "clip_id": clip_id, "error": name, "reason": reason}
    place = _free_name(quarantine / clip_id)
    try:
        move(place, wire.canonical(note))
    except FileNotFoundError:
        return None
    wire.sync_folder(quarantine)
    folder = str(place.relative_to(home.root))
    return Quarantined(clip_id=clip_id, error=name, reason=reason, folder=folder)


def salvage(home: Home, clip_id: str) -> str:
    """Land what is whole of a quarantined clip as a clip of its own; return its id.

    The clip says which one it was recovered from, and the lake marks it as not whole; the one in
    quarantine stays. What its manifest says of the drive is believed as far as it can be read.

    Args:
        clip_id: its folder in quarantine.
    Raises:
        NotInQuarantineError: there is no such folder, or no clip in it.
        RouteCorruptError, EmptyRouteError, OversizedClipError: nothing of it is whole.
    """
    folder = home.lake / "quarantine" / clip_id
    path = folder / "clip.mcap"
    if Path(clip_id).name != clip_id or path.is_symlink() or not path.is_file():
        raise NotInQuarantineError(f"{folder} holds no clip.mcap; `ingest` names what it set aside")
    require_bounded(path)
    reader = RouteReader(path, recover=True)
    metadata = {**reader.metadata, **_said_of(folder), RECOVERED_FROM: clip_id}
    work = home.lake / "work" / f"{clip_id}.{os.getpid()}.part"
    try:
        out = work / "clip.mcap"
        with RouteWriter(out, reader.rig, rate_hz=reader.rate_hz, metadata=metadata) as writer:
            carry_over(path, writer)
        return land(home, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _said_of(folder: Path) -> dict[str, str]:
    """Return what a clip's manifest says of its drive, as a route's metadata."""
    try:
        data = (folder / "manifest.json").read_bytes()
        manifest = wire.from_bytes(ClipManifest, data, strict=False)
    except (OSError, wire.ContractError):
        return {}
    return {
        **{f"tag.{key}": value for key, value in manifest.tags.items()},
        "car_id": manifest.car_id,
        "route_id": manifest.route_id,
        "jurisdiction": manifest.jurisdiction,
        "model": manifest.model,
    }


def _free_name(path: Path) -> Path:
    name, count = path, 1
    while name.exists():
        count += 1
        name = path.with_name(f"{path.name}.{count}")
    return name
