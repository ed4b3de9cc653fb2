"""How often a trigger would have fired in the fleet's past: events, clips and bytes per car-hour.

The lake holds what triggers sent, so its hours are not the fleet's: they are richer in what the
triggers look for. Only the random sample, and drives that were taken in whole, are a fair draw;
where there are such, the forecast is from them alone, with the rest beside it as an upper bound.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from datalake.lake import Lake
from datalake.patterns import compiled
from datalake.queries import DRAWN
from vehicle.contracts.campaign import TriggerSpec

NS: Final = 1_000_000_000
GAP_NS: Final = 2 * NS
"""Ticks of one drive further apart than this are not one stretch of driving."""

_FAIR: Final = f"""{DRAWN}, fair AS (
  SELECT c.clip_id, any_value(c.rate_hz) AS rate_hz, coalesce(bool_and(e.drawn), true)
    OR bool_or(json_extract_string(c.tags, '$.taken') = 'whole') IS true AS fair
  FROM clips c LEFT JOIN drawn e USING (clip_id) GROUP BY c.clip_id
)"""
"""Clips, and whether chance alone chose them."""

_DRIVEN: Final = f"""WITH {_FAIR}, ticked AS (
  SELECT car_id, route_id, mono_ns, bool_or(fair) AS fair FROM ticks JOIN fair USING (clip_id)
  GROUP BY ALL
), stepped AS (
  SELECT fair, mono_ns - lag(mono_ns) OVER w AS step_ns, lag(fair) OVER w AS fair_before
  FROM ticked WINDOW w AS (PARTITION BY car_id, route_id ORDER BY mono_ns)
)
SELECT coalesce(sum(step_ns), 0)::BIGINT AS every_ns,
  coalesce(sum(step_ns) FILTER (WHERE fair AND fair_before), 0)::BIGINT AS fair_ns
FROM stepped WHERE step_ns <= {GAP_NS}"""
"""Nanoseconds of driving; an instant that two clips hold counts once."""

_HELD: Final = """WITH {fair}, ticked AS (
  SELECT m.car_id, m.route_id, m.mono_ns, bool_or(f.fair) AS fair, bool_or(m.matched) AS matched,
    any_value(f.rate_hz) AS rate_hz, arg_min(m.clip_id, m.clip_id) AS clip_id,
    arg_min(m.frame_id, m.clip_id) AS frame_id
  FROM (
{matches}
  ) m JOIN fair f USING (clip_id) GROUP BY ALL
), numbered AS (
  SELECT *, row_number() OVER (PARTITION BY car_id, route_id ORDER BY mono_ns) AS n FROM ticked
)
SELECT car_id || chr(0) || route_id AS drive, n, mono_ns, clip_id, frame_id, fair,
  CAST(round(1e9 / coalesce(rate_hz, 10)) AS BIGINT) AS tick_ns
FROM numbered WHERE matched ORDER BY drive, n"""
"""The ticks on which the condition holds, numbered among all of their drive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What would have been, over some hours of driving.

    Args:
        hours: of driving, each instant of a drive counted once.
        events: how often the trigger would have fired, after its hold and quiet time.
        clips: after clips that touch have become one.
        clip_s: seconds in those clips.
        bytes_per_s: of the lake's own clips, for the bytes.
    """

    hours: float
    events: int
    clips: int
    clip_s: float
    bytes_per_s: float

    @property
    def per_hour(self) -> tuple[float, float, float]:
        """Return clips per car-hour: least, best guess, most (95 % of a Poisson count)."""
        if not self.hours:
            return 0.0, math.nan, math.inf
        return tuple(n / self.hours for n in poisson_interval(self.clips))  # type: ignore[return-value]

    @property
    def bytes_per_hour(self) -> float:
        """Return bytes per car-hour."""
        return self.clip_s * self.bytes_per_s / self.hours if self.hours else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How often a trigger would have fired.

    Args:
        fair: over the random sample and whole drives.
        every: over all clips, those that triggers sent among them: more than the fleet would see.
        frames: (clip_id, frame_id) of the events over all clips.
    """

    fair: Rate
    every: Rate
    frames: tuple[tuple[str, int], ...]


def poisson_interval(count: int) -> tuple[float, float, float]:
    """Return the 95 % interval of a counted number round itself.

    Source: Byar's approximation, Breslow and Day, Statistical Methods in Cancer Research II (1987).
    """
    z, more = 1.959964, count + 1
    low = count * (1 - 1 / (9 * count) - z / (3 * math.sqrt(count))) ** 3 if count else 0.0
    return low, float(count), more * (1 - 1 / (9 * more) + z / (3 * math.sqrt(more))) ** 3


def forecast(lake: Lake, spec: TriggerSpec) -> Forecast:
    """Return how often a trigger would have fired in what the lake holds."""
    matches = compiled(spec.expression).matches
    rows = lake.sql(_HELD.format(fair=_FAIR, matches=matches)).to_pylist()
    held = [Held(**row) for row in rows]
    driven = lake.sql(_DRIVEN).to_pylist()[0]
    sizes = lake.sql(
        "SELECT sum(size_bytes) / sum(duration_s) AS b FROM clips WHERE duration_s > 0"
    )
    bytes_per_s = float(sizes["b"][0].as_py() or 0.0)
    every = fired(held, spec)
    fair = fired([tick for tick in held if tick.fair], spec)
    return Forecast(
        fair=_rate(fair, driven["fair_ns"], spec, bytes_per_s),
        every=_rate(every, driven["every_ns"], spec, bytes_per_s),
        frames=tuple((tick.clip_id, tick.frame_id) for tick in every),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A tick on which a trigger's condition holds.

    Args:
        drive: car and route.
        n: number of the tick among those of the drive.
        fair: of a clip that chance alone chose.
        tick_ns: period of the loop.
    """

    drive: str
    n: int
    mono_ns: int
    clip_id: str
    frame_id: int
    fair: bool
    tick_ns: int


def fired(held: Sequence[Held], spec: TriggerSpec) -> list[Held]:
    """Return the ticks on which a trigger fires, as the car decides (vehicle/trigger.py): after
    its hold, which a failure within the debounce does not end, and not within its quiet time.

    Args:
        held: ordered by drive and time.
    """
    found: list[Held] = []
    before = since = last = None
    for tick in held:
        half_ns = tick.tick_ns // 2
        if before is None or before.drive != tick.drive:
            since, last = tick, None
        elif tick.n != before.n + 1 or tick.mono_ns - before.mono_ns > GAP_NS:
            debounce_ns = round(spec.debounce_s * NS) + 3 * half_ns if spec.debounce_s else 0
            if tick.mono_ns - before.mono_ns > debounce_ns:
                since = tick
        before = tick
        long = since is None or tick.mono_ns - since.mono_ns >= round(spec.hold_s * NS) - half_ns
        quiet_ns = round(spec.min_interval_s * NS) - half_ns
        if long and (last is None or tick.mono_ns - last.mono_ns >= quiet_ns):
            found.append(tick)
            last = tick
    return found


def words(told: Forecast) -> list[str]:
    """Return a forecast as sentences."""
    lines = []
    for rate, where, meaning in (
        (told.fair, "the random sample and drives taken in whole", "this is what to expect"),
        (told.every, "all clips", "triggers chose them: expect fewer"),
    ):
        if not rate.hours:
            lines.append(f"the lake holds no hour of {where} yet")
            continue
        least, best, most = rate.per_hour
        lines.append(
            f"{rate.events} events, {rate.clips} clips in {rate.hours:.3g} h of {where}: "
            f"{best:.3g} clips (95 %: {least:.2g} to {most:.2g}) and "
            f"{rate.bytes_per_hour / 1e6:.3g} MB per car-hour; {meaning}"
        )
    return lines


def _rate(events: Sequence[Held], driven_ns: int, spec: TriggerSpec, bytes_per_s: float) -> Rate:
    pre_ns, post_ns = round(spec.pre_s * NS), round(spec.post_s * NS)
    clips = clip_ns = 0
    drive, until_ns = "", 0
    for tick in events:
        begin_ns, end_ns = tick.mono_ns - pre_ns, tick.mono_ns + post_ns
        if tick.drive != drive or begin_ns > until_ns:
            clips, clip_ns = clips + 1, clip_ns + end_ns - begin_ns
        else:
            clip_ns += max(end_ns - until_ns, 0)
        drive, until_ns = tick.drive, end_ns
    return Rate(
        hours=driven_ns / NS / 3600,
        events=len(events),
        clips=clips,
        clip_s=clip_ns / NS,
        bytes_per_s=bytes_per_s,
    )
