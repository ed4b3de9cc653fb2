"""Which clips give way when the outbox or the disk is full: decided here, touching nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vehicle.config import RecordingConfig

NO_ROOM: Final = "no room: all that waits is worth as much, or is being sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A clip of the outbox.

    Args:
        size_bytes: of its folder.
        value: what it is worth (vehicle/worth.py).
        created_utc_ns: when its last frame was recorded.
        fixed: it is being sent, or home has asked for it.
    """

    clip_id: str
    size_bytes: int
    value: float
    created_utc_ns: int
    fixed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The disk that the outbox is on, bytes."""

    size_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What happens.

    Args:
        go: clips that are evicted, in order.
        stays: whether the new clip comes in.
        why: what was short, "" when nothing was.
    """

    go: tuple[str, ...] = ()
    stays: bool = True
    why: str = ""


def make_room(
    held: Sequence[Held], new: Held | None, disk: Disk, config: RecordingConfig
) -> Ruling:
    """Choose what goes so that the outbox is within its quota and the disk keeps its free share.

    Clips of least value go first, of equal ones the older, and no more of them than needed. One
    that is being sent or was asked for never goes, and none for a new clip of less or equal
    value: then the new one itself is given up. Nothing goes in vain.

    Args:
        held: complete clips in the outbox, without `new`.
        new: a complete clip that is on the disk but not yet in the outbox; None to tidy up only.
        disk: with `new` on it.
    """
    mine = new.size_bytes if new else 0
    over = sum(clip.size_bytes for clip in held) + mine - config.outbox_bytes
    short = round(config.least_free_ratio * disk.size_bytes) - disk.free_bytes
    needed = max(over, short)
    if needed <= 0:
        return Ruling()
    why = (
        f"quota: {over} bytes over {config.outbox_bytes}"
        if over >= short
        else f"disk: {short} bytes short of {config.least_free_ratio:.0%} free"
    )
    may_go = [c for c in held if not c.fixed and (new is None or c.value < new.value)]
    may_go.sort(key=lambda c: (c.value, c.created_utc_ns, c.clip_id))
    if sum(c.size_bytes for c in may_go) < needed:
        if new is not None:
            return Ruling(stays=False, why=f"{why}; {NO_ROOM}")
        needed = over  # what others fill the disk with, no number of clips makes up for
    return Ruling(go=_fewest(may_go, needed), why=why)


def _fewest(may_go: Sequence[Held], needed: int) -> tuple[str, ...]:
    """Return the first of `may_go` that free enough, without those that turn out unneeded."""
    chosen: list[Held] = []
    freed = 0
    for clip in may_go:
        if freed >= needed:
            break
        chosen.append(clip)
        freed += clip.size_bytes
    for clip in chosen[::-1]:  # the most valuable of them are spared first
        if freed - clip.size_bytes >= needed:
            chosen.remove(clip)
            freed -= clip.size_bytes
    return tuple(clip.clip_id for clip in chosen)
