"""What becomes of one packet: one direction of a link, without sockets and without a clock."""

import random
from dataclasses import dataclass
from typing import Final

from sim.net.link_profiles import Bursts, Profile, Way

JITTER_SLOT_S: Final = 0.005
"""Packets sent within it meet the same jitter: a cell schedules in turns, not packet by packet."""


@dataclass(slots=True)
class Counts:
    """What a channel did; lost: by bursts, full queue, or while the link was out or cut."""

    packets: int = 0
    size_bytes: int = 0
    lost_burst: int = 0
    lost_queue: int = 0
    lost_out: int = 0


class Channel:
    """One direction of a link: `send` says when a packet arrives, or that it does not.

    The same seed and the same calls give the same answers. Bursts, jitter, epochs and outages are
    functions of seed and time alone, whatever is sent.
    """

    def __init__(self, way: Way, profile: Profile, seed: int) -> None:
        self._way, self._profile, self._seed = way, profile, seed
        self._fate = random.Random(f"{seed}/fate")
        self._bursts = _Bursts(way.loss, seed) if way.loss else None
        self._free_s = 0.0
        self._last_s = 0.0
        self._slot, self._jitter_s = -1, 0.0
        self.cut = False
        self.counts = Counts()

    def send(self, now_s: float, size_bytes: int) -> float | None:
        """Return when a packet arrives that is given to the link at `now_s`, or None: it is lost.

        Args:
            now_s: since the start of the link, not before the last call's.
            size_bytes: of the packet with its headers.
        """
        counts, way = self.counts, self._way
        counts.packets += 1
        counts.size_bytes += size_bytes
        if self.cut or any(outage.covers(now_s) for outage in self._profile.outages):
            counts.lost_out += 1
            return None
        start_s = max(now_s, self._free_s)
        if way.rate_bps:
            if (start_s - now_s) * way.rate_bps / 8 + size_bytes > way.queue_bytes:
                counts.lost_queue += 1
                return None
            start_s += size_bytes * 8 / way.rate_bps
            self._free_s = start_s
        bursts = self._bursts
        if bursts and bursts.bad(start_s) and self._fate.random() < bursts.bad_ratio:
            counts.lost_burst += 1
            return None
        if self._profile.epochs:
            start_s = self._profile.epochs.release_s(start_s)
        self._last_s = max(self._last_s, start_s + way.delay_s + self._jitter(start_s))
        return self._last_s

    def _jitter(self, now_s: float) -> float:
        sigma_s = self._way.jitter_s
        if not sigma_s:
            return 0.0
        slot = int(now_s / JITTER_SLOT_S)
        if slot != self._slot:
            drawn = random.Random(f"{self._seed}/{slot}").gauss(0.0, 1.0)
            self._slot = slot
            self._jitter_s = max(sigma_s * max(-3.0, min(3.0, drawn)), -self._way.delay_s)
        return self._jitter_s


class _Bursts:
    """Good and bad states that follow each other; asked in the order of time."""

    def __init__(self, loss: Bursts, seed: int) -> None:
        self._loss, self.bad_ratio = loss, loss.bad_ratio
        self._random = random.Random(f"{seed}/bursts")
        self._end_s = 0.0
        self._start_s = 0.0
        self._next()

    def _next(self) -> None:
        self._start_s = self._end_s + self._random.expovariate(1.0 / self._loss.good_s)
        self._end_s = self._start_s + self._random.expovariate(1.0 / self._loss.burst_s)

    def bad(self, now_s: float) -> bool:
        """Return whether `now_s` lies in a burst."""
        while now_s >= self._end_s:
            self._next()
        return now_s >= self._start_s
