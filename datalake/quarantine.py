"""Where bad clips wait: whole, with the name of the rule they break, out of everybody's way."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vehicle.contracts import wire
from vehicle.contracts.home import Home


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


def _free_name(path: Path) -> Path:
    name, count = path, 1
    while name.exists():
        count += 1
        name = path.with_name(f"{path.name}.{count}")
    return name
