"""The events of the rare families, each a few actors with a few phases. Pure data and geometry."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sim.story.behaviours import Phase
from sim.story.casting import Cast, Need
from sim.users.actors import REVERSING, SCRIPTED

_COMMITTED_S: Final = 2.8
"""Who crosses decides this long before the ego is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What an event needs of its place, and who fills it."""

    need: Need
    cast: Callable[[Cast], None]


def _cut_in(c: Cast) -> None:
    f, beside = c.family, c.spot.beside_m
    c.star(
        c.play(
            "estate", -16.0, beside,
            Phase(until="eta", value=2.6, law="pace", speed_mps=f.event_gap_m, accel_mps2=5.0),
            Phase(
                until="time", value=2.4, law="pace", speed_mps=f.event_gap_m, accel_mps2=4.0,
                left_m=0.0, slide_mps=1.9, blind=True,
            ),
            Phase(until="time", value=3.0, speed_mps=f.event_speed_mps, accel_mps2=3.5),
            Phase(speed_mps=f.event_speed_mps + 3.0, accel_mps2=1.5),
            speed_mps=4.0, exit="joins",
        )
    )  # fmt: skip


def _walks_out(c: Cast, name: str, ahead_m: float, left_m: float) -> None:
    f = c.family
    c.star(
        c.play(
            name, ahead_m, left_m,
            Phase(until="eta", value=f.event_eta_s),
            Phase(left_m=c.spot.oncoming_m + 4.5, slide_mps=f.event_speed_mps),
            face_rad=math.pi / 2,
        )
    )  # fmt: skip


def _jaywalk_truck(c: Cast) -> None:
    s = c.spot
    c.stand("truck", -5.4, -(s.right_m + s.bay_m / 2 - 0.15))
    _walks_out(c, "adult", 0.0, -(s.right_m + s.bay_m / 2 + 0.5))


def _child_runs_out(c: Cast) -> None:
    s = c.spot
    aside = -(s.right_m + s.bay_m / 2)
    c.stand("van", -3.8, aside)
    c.stand("sedan", 3.6, aside)
    _walks_out(c, "child", 0.0, -(s.walk_m + 0.6))


def _wrong_way(c: Cast) -> None:
    f = c.family
    c.star(
        c.play(
            "sedan", 55.0, 0.0,
            Phase(until="eta", value=f.event_eta_s, blind=True),
            Phase(until="gap", value=f.event_gap_m, speed_mps=f.event_speed_mps, blind=True),
            Phase(
                speed_mps=f.event_speed_mps, left_m=c.spot.oncoming_m, slide_mps=3.2, blind=True,
            ),
            way=-1, exit="leaves",
        )
    )  # fmt: skip


def _emergency_stop(c: Cast) -> None:
    f = c.family
    c.star(
        c.play(
            "estate", -22.0, 0.0,
            Phase(until="eta", value=f.event_eta_s, law="pace", speed_mps=f.event_gap_m,
                  accel_mps2=5.0),
            Phase(until="time", value=4.0, accel_mps2=7.5),
            Phase(speed_mps=8.0, accel_mps2=1.5),
            speed_mps=4.0, exit="joins",
        )
    )  # fmt: skip


def _door_opening(c: Cast) -> None:
    f, s = c.family, c.spot
    aside = -(s.right_m + 1.08)
    car = c.stand("sedan", -0.9, aside)
    door = c.play(
        "door", 0.0, aside + 0.92,
        Phase(until="eta", value=f.event_eta_s, law="swing", speed_mps=0.0, left_m=0.0),
        Phase(law="swing", speed_mps=1.6, left_m=1.25),
    )  # fmt: skip
    c.rows[-1]["colour"] = car["colour"]
    c.star(door)


def _crosses(c: Cast, name: str, before_m: float, left_m: float = 0.0) -> None:
    """Cast somebody who times it to the ego, then goes through with it whatever the ego does."""
    f = c.family
    meet = Phase(
        until="eta", value=_COMMITTED_S, law="meet", speed_mps=f.event_speed_mps,
        lead_s=f.event_eta_s, accel_mps2=4.0, blind=True,
    )  # fmt: skip
    wait, go = Phase(until="eta", value=7.0, blind=True), Phase(law="keep", blind=True)
    c.star(c.cross(name, before_m, wait, meet, go, left_m=left_m))


def _red_runner(c: Cast) -> None:
    _crosses(c, "estate", 45.0)


def _cyclist_right(c: Cast) -> None:
    _crosses(c, "cyclist", 24.0, left_m=-1.0)


def _stopped_vehicle(c: Cast) -> None:
    c.star(c.stand("van", 3.0, -0.3))
    c.stand("cone", -5.0, -0.3)
    c.stand("adult", -1.2, -1.9, math.pi)


def _debris(c: Cast) -> None:
    c.star(c.stand("crate", 0.0, 0.2, 0.5))
    c.stand("crate", 2.6, -1.0, 1.9)
    c.stand("tyre", 1.4, 1.2)


def _cone_taper(c: Cast) -> None:
    edge = c.spot.right_m
    for k in range(8):
        c.stand("cone", -10.0 + 2.2 * k, -edge + 0.3 + (edge + 0.6) * k / 7)
    c.star(c.rows[5])
    c.stand("truck", 14.0, -(edge - 1.35))


def _animal_crossing(c: Cast) -> None:
    f, s = c.family, c.spot
    for k, (ahead, off) in enumerate(((0.0, 0.5), (2.0, 2.3))):
        deer = c.play(
            "deer", ahead, -(s.walk_m + off),
            Phase(until="eta", value=f.event_eta_s),
            Phase(left_m=s.oncoming_m + 7.0, slide_mps=f.event_speed_mps),
            face_rad=math.pi / 2,
        )  # fmt: skip
        if k == 0:
            c.star(deer)


def _emergency_vehicle(c: Cast) -> None:
    f, side = c.family, c.spot.beside_m if c.spot.beside_m > 0 else c.spot.oncoming_m
    c.star(
        c.play(
            "ambulance", c.route.index - c.spot.index - 24.0, side,
            Phase(until="eta", value=5.0, law="pace", speed_mps=-26.0, blind=True, accel_mps2=4.0),
            Phase(until="ahead", value=5.0, law="pass", speed_mps=f.event_speed_mps,
                  accel_mps2=3.5, blind=True),
            Phase(until="time", value=3.0, law="pass", speed_mps=3.0, left_m=0.0, slide_mps=1.5),
            Phase(speed_mps=16.0),
            speed_mps=4.0, exit="leaves",
        )
    )  # fmt: skip


def _reversing_van(c: Cast) -> None:
    f, s = c.family, c.spot
    c.star(
        c.play(
            "van", 0.0, -(s.walk_m + 1.4),
            Phase(until="eta", value=f.event_eta_s),
            Phase(until="time", value=5.5, left_m=-0.4, slide_mps=f.event_speed_mps),
            Phase(),
            face_rad=-math.pi / 2,
        )
    )  # fmt: skip
    c.rows[-1]["moving"] = REVERSING


def _crash_site(c: Cast) -> None:
    c.star(c.stand("wreck", 2.0, -0.7, 1.0))
    police = c.stand("police", 7.5, 1.7, 0.4)
    police["moving"] = SCRIPTED
    c.stand("crate", -1.8, 1.5, 0.8)
    c.stand("adult", 5.5, -2.2, 2.0)
    c.stand("cone", -5.0, -0.9)
    c.stand("cone", -5.5, 0.6)


def _motorcycle_filters(c: Cast) -> None:
    f, wide = c.family, c.spot.oncoming_m / 2 if c.spot.beside_m <= 0 else c.spot.beside_m / 2
    c.star(
        c.play(
            "motorcycle", c.route.index - c.spot.index - 14.0, wide + 0.15,
            Phase(until="eta", value=4.0, law="pace", speed_mps=-14.0, blind=True, accel_mps2=4.0),
            Phase(until="ahead", value=1.0, law="pass", speed_mps=f.event_speed_mps,
                  accel_mps2=4.0, blind=True),
            Phase(until="time", value=3.0, law="pace", speed_mps=f.event_gap_m, left_m=0.0,
                  slide_mps=1.6, accel_mps2=4.0, blind=True),
            Phase(law="pass", speed_mps=4.0, accel_mps2=2.0),
            speed_mps=4.0, exit="joins", acts_from=1,
        )
    )  # fmt: skip


def _oncoming_overtakes(c: Cast) -> None:
    f, side = c.family, c.spot.oncoming_m
    slow = f.event_speed_mps * 0.45
    c.play(
        "truck", 30.0, side,
        Phase(until="eta", value=5.5, blind=True), Phase(speed_mps=slow, blind=True),
        way=-1, exit="leaves",
    )  # fmt: skip
    c.star(
        c.play(
            "estate", 44.0, side,
            Phase(until="eta", value=5.5, blind=True),
            Phase(until="gap", value=f.event_gap_m, speed_mps=f.event_speed_mps, left_m=0.0,
                  slide_mps=2.2, blind=True),
            Phase(speed_mps=f.event_speed_mps, left_m=side, slide_mps=3.4, blind=True),
            way=-1, exit="leaves",
        )
    )  # fmt: skip


def _slow_tow(c: Cast) -> None:
    f = c.family
    phases = (
        Phase(until="eta", value=12.0, speed_mps=f.event_speed_mps, accel_mps2=1.0, blind=True),
        Phase(speed_mps=f.event_speed_mps, accel_mps2=1.0, blind=True),
    )
    c.star(c.play("trailer", -14.0, 0.0, *phases, exit="leaves"))
    c.play("truck", -14.0 + 6.5, 0.0, *phases, exit="leaves")


def _lost_load(c: Cast) -> None:
    f = c.family
    pace = {"until": "eta", "value": 1.0, "law": "pace", "accel_mps2": 5.0, "blind": True}
    c.play(
        "truck", -20.0, 0.0,
        Phase(speed_mps=f.event_gap_m, **pace),  # type: ignore[arg-type]
        Phase(speed_mps=11.0, accel_mps2=1.5),
        speed_mps=4.0, exit="leaves",
    )  # fmt: skip
    c.star(
        c.play(
            "crate", -22.5, 0.0,
            Phase(speed_mps=f.event_gap_m + 1.0, **pace),  # type: ignore[arg-type]
            Phase(accel_mps2=7.0, left_m=0.3, slide_mps=0.3, blind=True),
            speed_mps=4.0,
        )
    )  # fmt: skip


def _trailer_adrift(c: Cast) -> None:
    f = c.family
    c.star(
        c.play(
            "trailer", 16.0, 0.0,
            Phase(until="eta", value=f.event_eta_s),
            Phase(until="gap", value=f.event_gap_m, speed_mps=f.event_speed_mps, accel_mps2=0.8,
                  blind=True),
            Phase(),
            way=-1, face_rad=0.0,
        )
    )  # fmt: skip
    c.rows[-1]["moving"] = REVERSING


def _herd_on_road(c: Cast) -> None:
    f, s = c.family, c.spot
    for k, (ahead, left) in enumerate(
        ((0.0, 0.0), (2.2, 1.4), (1.2, -1.5), (4.0, -0.4), (5.2, 1.8), (3.0, 3.4))
    ):
        animal = c.play(
            "deer", ahead, left,
            Phase(until="eta", value=2.5),
            Phase(left_m=left + s.oncoming_m, slide_mps=f.event_speed_mps * (0.6 + 0.2 * k)),
            face_rad=(1.4, 0.3, 2.6, -1.2, 1.9, 0.9)[k], acts_from=0,
        )  # fmt: skip
        if k == 0:
            c.star(animal)


_NEAR: Final = Need(ahead_m=(40.0, 70.0))
_KERB: Final = Need(ahead_m=(40.0, 70.0), kerb=True)
_LONG: Final = Need(ahead_m=(45.0, 60.0), straight_m=(32.0, 30.0))

PLAYS: Final[dict[str, Event]] = {
    "cut_in": Event(
        need=Need(ahead_m=(38.0, 70.0), straight_m=(36.0, 24.0), beside=True), cast=_cut_in
    ),
    "jaywalk_truck": Event(need=Need(bay=True), cast=_jaywalk_truck),
    "child_runs_out": Event(need=Need(bay=True), cast=_child_runs_out),
    "wrong_way": Event(need=_LONG, cast=_wrong_way),
    "emergency_stop": Event(need=_LONG, cast=_emergency_stop),
    "door_opening": Event(need=Need(bay=True), cast=_door_opening),
    "red_runner": Event(need=Need(ahead_m=(40.0, 75.0), crossing="any"), cast=_red_runner),
    "cyclist_right": Event(need=Need(ahead_m=(40.0, 75.0), crossing="right"), cast=_cyclist_right),
    "stopped_vehicle": Event(need=_NEAR, cast=_stopped_vehicle),
    "debris": Event(need=_NEAR, cast=_debris),
    "cone_taper": Event(
        need=Need(ahead_m=(45.0, 70.0), straight_m=(22.0, 16.0), kerb=True), cast=_cone_taper
    ),
    "animal_crossing": Event(need=_NEAR, cast=_animal_crossing),
    "emergency_vehicle": Event(
        need=Need(ahead_m=(45.0, 60.0), straight_m=(30.0, 25.0), back_m=10.0),
        cast=_emergency_vehicle,
    ),
    "reversing_van": Event(need=_KERB, cast=_reversing_van),
    "crash_site": Event(need=_NEAR, cast=_crash_site),
    "motorcycle_filters": Event(
        need=Need(ahead_m=(45.0, 60.0), straight_m=(35.0, 30.0), back_m=10.0),
        cast=_motorcycle_filters,
    ),
    "oncoming_overtakes": Event(need=_LONG, cast=_oncoming_overtakes),
    "slow_tow": Event(need=_LONG, cast=_slow_tow),
    "lost_load": Event(need=_LONG, cast=_lost_load),
    "trailer_adrift": Event(need=_LONG, cast=_trailer_adrift),
    "herd_on_road": Event(need=_NEAR, cast=_herd_on_road),
}
"""By the name a family's `event` says."""
