"""What links are like: delay, jitter, rate, bursty loss, outages, satellite epochs; with sources.

Every profile is a declared model, not a recording. `assumed` marks those whose figures rest on no
measurement of ours or of others; `source` says where each figure is from.
"""

from dataclasses import dataclass
from typing import Final

from vehicle.contracts.wire import RefusedError


class UnknownLinkError(RefusedError):
    """There is no link profile of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bursts:
    """Loss in bursts: a good and a bad state that follow each other at random, as time goes by.

    Args:
        ratio: share of packets lost in the long run.
        burst_s: mean length of the bad state, s.
        bad_ratio: share of packets lost in the bad state; in the good one none is.
    Source:
        Gilbert (1960), Elliott (1963); here in continuous time, so that a link with little traffic
        does not stay in one burst for seconds.
    """

    ratio: float
    burst_s: float = 0.02
    bad_ratio: float = 0.7

    @property
    def good_s(self) -> float:
        """Return the mean length of the good state, s."""
        return self.burst_s * (self.bad_ratio / self.ratio - 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One direction of a link.

    Args:
        delay_s: mean one-way delay of an empty link, s.
        jitter_s: standard deviation of it (normal, cut at 3), s; packets keep their order.
        rate_bps: bits per second; 0: no limit.
        queue_bytes: what waits before the link; a packet that finds it full is lost.
        loss: how packets are lost; None: never.
    """

    delay_s: float
    jitter_s: float = 0.0
    rate_bps: float = 0.0
    queue_bytes: int = 256 << 10
    loss: Bursts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """Seconds in which every packet is lost, counted from the start of the link.

    Args:
        start_s, length_s: of the first.
        every_s: it comes back with this period; 0: it does not.
    """

    start_s: float
    length_s: float
    every_s: float = 0.0

    def covers(self, now_s: float) -> bool:
        """Return whether the link is out at `now_s`."""
        since_s = now_s - self.start_s
        if since_s < 0.0:
            return False
        return (since_s % self.every_s if self.every_s else since_s) < self.length_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Epochs:
    """Regular rearrangement of a satellite network: packets wait at the ends of each epoch.

    A packet in the first `start_hold_s` of an epoch leaves when they are over, one in the last
    `end_hold_s` when the epoch is: delay jumps by as much and falls back along a slope.
    """

    every_s: float = 15.0
    start_hold_s: float = 0.140
    end_hold_s: float = 0.075

    def release_s(self, now_s: float) -> float:
        """Return when a packet that comes at `now_s` may go on."""
        phase_s = now_s % self.every_s
        if phase_s < self.start_hold_s:
            return now_s - phase_s + self.start_hold_s
        if phase_s > self.every_s - self.end_hold_s:
            return now_s - phase_s + self.every_s
        return now_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A link with its two directions; `up` leads from the client (the car) to the server."""

    name: str
    up: Way
    down: Way
    outages: tuple[Outage, ...] = ()
    epochs: Epochs | None = None
    assumed: bool = False
    source: str = ""


def _profiles() -> tuple[Profile, ...]:
    ms, mbit = 1e-3, 1e6
    cell, sky = Bursts(ratio=0.007), Bursts(ratio=0.016)
    depot = Bursts(ratio=0.002, burst_s=0.01)
    return (
        Profile(
            name="cabinet",
            up=Way(delay_s=0.5 * ms, jitter_s=0.05 * ms, rate_bps=1_000 * mbit),
            down=Way(delay_s=0.5 * ms, jitter_s=0.05 * ms, rate_bps=1_000 * mbit),
            assumed=True,
            source="glass to a roadside cabinet: 5 us/km over some 50 km, and two switches",
        ),
        Profile(
            name="5g-sa",
            up=Way(delay_s=5 * ms, jitter_s=1.5 * ms, rate_bps=60 * mbit),
            down=Way(delay_s=5 * ms, jitter_s=1.5 * ms, rate_bps=300 * mbit),
            assumed=True,
            source="a stand-alone 5G cell with the site behind it; public networks are slower: a "
            "German drive test finds offload good for what bears over 150 ms (arXiv 2508.03287)",
        ),
        Profile(
            name="lte",
            up=Way(delay_s=25 * ms, jitter_s=6 * ms, rate_bps=20 * mbit, loss=cell),
            down=Way(delay_s=25 * ms, jitter_s=6 * ms, rate_bps=80 * mbit, loss=cell),
            assumed=True,
            source="an LTE or 5G NSA cell of a good day and a region 10 ms behind it; delay and "
            "rates as operators state them, loss and its bursts are ours",
        ),
        Profile(
            name="wifi-depot",
            up=Way(delay_s=2 * ms, jitter_s=1 * ms, rate_bps=100 * mbit, loss=depot),
            down=Way(delay_s=2 * ms, jitter_s=1 * ms, rate_bps=200 * mbit, loss=depot),
            assumed=True,
            source="an access point shared by parked cars, home in the same building",
        ),
        Profile(
            name="leo-dense",
            up=Way(delay_s=18 * ms, jitter_s=5 * ms, rate_bps=15 * mbit, loss=sky),
            down=Way(delay_s=18 * ms, jitter_s=5 * ms, rate_bps=120 * mbit, loss=sky),
            epochs=Epochs(),
            source="Starlink as published: RTT 25-60 ms; 15 s epochs with spikes of some 140 ms "
            "at the start and 75 ms at the end (arXiv 2601.08439), here packets that wait; rates "
            "after in-flight medians of 64 down and 24 up (arXiv 2508.09839); in motion it is "
            "worse (arXiv 2403.13497)",
        ),
        Profile(
            name="leo-sparse",
            up=Way(delay_s=6 * ms, jitter_s=1 * ms, rate_bps=1 * mbit, loss=sky),
            down=Way(delay_s=6 * ms, jitter_s=1 * ms, rate_bps=4 * mbit, loss=sky),
            outages=(Outage(start_s=222.0, length_s=5_518.0, every_s=5_740.0),),
            assumed=True,
            source="one satellite at 550 km: mean pass 222 s above 25 degrees (sgp4, Walker 24/3 "
            "at 37.4 N), one orbit of 5,740 s between passes at best; light takes 3 to 4.5 ms; "
            "rates of a small terminal are ours",
        ),
    )


PROFILES: Final[dict[str, Profile]] = {profile.name: profile for profile in _profiles()}


def profile_of(name: "str | Profile") -> Profile:
    """Return the profile of that name.

    Raises:
        UnknownLinkError: names the ones there are.
    """
    if isinstance(name, Profile):
        return name
    if name not in PROFILES:
        raise UnknownLinkError(f"link {name!r} is unknown; there are: {', '.join(PROFILES)}")
    return PROFILES[name]
