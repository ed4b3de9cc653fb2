"""The scenario families, as pure data: what each is about, how often, for which light and weather.

Common families are the everyday log, at least 97 % of all drives; rare ones are the long tail,
0.05 to 1 % each.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A kind of drive, as pure data.

    Args:
        share_ratio: of all drives, how many are of this family.
        rare: of the long tail.
        reserved: "test" when only test towns may hold it.
        event: name in sim.story.plays.PLAYS of what happens once before the ego, "" for nothing.
        lights, weathers: what it is meant for; `scenario_of` draws one of each.
        layout: of the towns it is for, see sim.town.world.LAYOUTS.
        signals: junctions have traffic lights, and everybody obeys them.
        wide: the ego starts on a road with two lanes per direction.
        car_gap_m, parked_ratio, person_gap_m, crossing_hz: see sim.users.actors.Density.
        truck_ratio, bus_ratio, motorcycle_ratio, cyclist_ratio: of those who drive.
        child_ratio: of people on foot.
        lane_changes: 1 when traffic changes lanes by MOBIL, else 0.
        sudden_brake_hz: how often the car ahead of the ego stops hard, while there is one.
        jaywalk_hz: how often somebody steps out before the ego, while somebody could.
        event_speed_mps: of whoever the event is about.
        event_eta_s: how long before the ego would be there it begins.
        event_gap_m: how near to the ego it happens, where it happens beside the ego.
    """

    about: str
    share_ratio: float
    rare: bool = False
    reserved: str = ""
    event: str = ""
    lights: tuple[str, ...] = ("day",)
    weathers: tuple[str, ...] = ("clear",)
    layout: str = "lattice"
    signals: bool = False
    wide: bool = False
    car_gap_m: float = 55.0
    parked_ratio: float = 0.45
    person_gap_m: float = 13.0
    crossing_hz: float = 0.008
    truck_ratio: float = 0.0
    bus_ratio: float = 0.0
    motorcycle_ratio: float = 0.0
    cyclist_ratio: float = 0.0
    child_ratio: float = 0.12
    lane_changes: float = 0.0
    sudden_brake_hz: float = 0.01
    jaywalk_hz: float = 0.01
    event_speed_mps: float = 8.0
    event_eta_s: float = 2.4
    event_gap_m: float = 7.0


LIMITS: Final = {
    "car_gap_m": (9.0, 10_000.0),
    "parked_ratio": (0.0, 1.0),
    "person_gap_m": (1.0, 10_000.0),
    "crossing_hz": (0.0, 2.0),
    "truck_ratio": (0.0, 1.0),
    "bus_ratio": (0.0, 1.0),
    "motorcycle_ratio": (0.0, 1.0),
    "cyclist_ratio": (0.0, 1.0),
    "child_ratio": (0.0, 1.0),
    "lane_changes": (0.0, 1.0),
    "signals": (0.0, 1.0),
    "sudden_brake_hz": (0.0, 10.0),
    "jaywalk_hz": (0.0, 10.0),
    "event_speed_mps": (0.3, 30.0),
    "event_eta_s": (0.2, 10.0),
    "event_gap_m": (2.0, 40.0),
}
"""What a parameter may be, lowest and highest."""


def _rare(about: str, share_ratio: float, event: str, **other: object) -> Family:
    """Return a rare family: calm streets, so that its event is the only surprise."""
    calm = {"crossing_hz": 0.002, "sudden_brake_hz": 0.0, "jaywalk_hz": 0.0, "car_gap_m": 70.0}
    return Family(about=about, share_ratio=share_ratio, rare=True, event=event, **{**calm, **other})  # type: ignore[arg-type]


_MIX: Final = {"truck_ratio": 0.1, "bus_ratio": 0.06, "motorcycle_ratio": 0.06}
_ANY_LIGHT: Final = ("day", "dusk", "night")

_COMMON: Final = {
    "town_drive": Family(about="Everyday streets, now and then a surprise.", share_ratio=0.25),
    "jaywalker": Family(
        about="People step out before the car.",
        share_ratio=0.04,
        person_gap_m=9.0,
        parked_ratio=0.75,
        jaywalk_hz=0.12,
    ),
    "sudden_brake": Family(
        about="Dense traffic; the car ahead stops hard.",
        share_ratio=0.04,
        car_gap_m=40.0,
        sudden_brake_hz=0.15,
    ),
    "mixed_traffic": Family(
        about="Trucks, buses, motorcycles and cyclists among the cars.",
        share_ratio=0.12,
        cyclist_ratio=0.1,
        truck_ratio=0.18,
        bus_ratio=0.12,
        motorcycle_ratio=0.1,
        car_gap_m=45.0,
    ),
    "boulevard": Family(
        about="Two lanes per direction; traffic changes lanes.",
        share_ratio=0.1,
        wide=True,
        lane_changes=1.0,
        car_gap_m=32.0,
        **_MIX,
    ),
    "traffic_lights": Family(
        about="Junctions with lights.", share_ratio=0.1, signals=True, car_gap_m=45.0, **_MIX
    ),
    "rush_hour": Family(
        about="As full as the streets get.",
        share_ratio=0.06,
        car_gap_m=24.0,
        lane_changes=1.0,
        lights=("day", "dusk"),
        **_MIX,
    ),
    "quiet_streets": Family(
        about="Hardly anybody about.",
        share_ratio=0.05,
        car_gap_m=160.0,
        person_gap_m=40.0,
        parked_ratio=0.2,
    ),
    "parked_rows": Family(
        about="Streets lined with parked cars.", share_ratio=0.04, parked_ratio=0.95
    ),
    "school_run": Family(
        about="Children on the sidewalks and on the road.",
        share_ratio=0.03,
        child_ratio=0.75,
        person_gap_m=7.0,
        crossing_hz=0.02,
        cyclist_ratio=0.1,
    ),
    "cycle_route": Family(
        about="Many cyclists at the edge of the lane.",
        share_ratio=0.03,
        cyclist_ratio=0.4,
        car_gap_m=42.0,
    ),
    "market_day": Family(
        about="People everywhere, crossing where they like.",
        share_ratio=0.02,
        person_gap_m=5.0,
        crossing_hz=0.03,
    ),
    "roundabouts": Family(
        about="A town of roundabouts.", share_ratio=0.03, layout="roundabout", **_MIX
    ),
    "motorway_merge": Family(
        about="A motorway with exits and on-ramps; traffic changes lanes.",
        share_ratio=0.02,
        layout="motorway_merge",
        lane_changes=1.0,
        car_gap_m=45.0,
        person_gap_m=10_000.0,
        truck_ratio=0.2,
        motorcycle_ratio=0.04,
    ),
    "rain_drive": Family(
        about="Rain and wet roads.", share_ratio=0.02, weathers=("rain", "wet"), **_MIX
    ),
    "night_drive": Family(about="The town by night.", share_ratio=0.02, lights=("night",), **_MIX),
    "low_sun": Family(
        about="Into the sun, or through dusk.",
        share_ratio=0.005,
        lights=("day", "dusk"),
        weathers=("glare", "dirty_lens", "clear"),
    ),
}

_RARE: Final = {
    "cut_in": _rare(
        "A car from the next lane cuts in close ahead and slows.", 0.003, "cut_in",
        wide=True, event_speed_mps=4.0, event_gap_m=5.0,
    ),
    "jaywalk_truck": _rare(
        "Somebody steps out from behind a parked truck.", 0.002, "jaywalk_truck",
        event_speed_mps=1.9, event_eta_s=2.3, lights=_ANY_LIGHT,
    ),
    "child_runs_out": _rare(
        "A child runs out between parked cars.", 0.001, "child_runs_out",
        event_speed_mps=3.0, event_eta_s=2.0,
    ),
    "wrong_way": _rare(
        "A car comes against the traffic in the ego's lane.", 0.0008, "wrong_way",
        event_speed_mps=8.0, event_eta_s=6.0, event_gap_m=17.0, lights=_ANY_LIGHT,
    ),
    "emergency_stop": _rare(
        "The car ahead brakes as hard as it can.", 0.0025, "emergency_stop",
        event_eta_s=0.5, event_gap_m=9.0, weathers=("clear", "wet"),
    ),
    "door_opening": _rare(
        "The door of a parked car opens into the lane.", 0.0015, "door_opening",
        event_eta_s=2.2,
    ),
    "red_runner": _rare(
        "Somebody crosses the junction who should have waited.", 0.0015, "red_runner",
        event_speed_mps=12.0, event_eta_s=1.2, signals=True,
    ),
    "cyclist_right": _rare(
        "A cyclist from the right does not stop at the junction.", 0.0015, "cyclist_right",
        event_speed_mps=6.5, event_eta_s=1.2,
    ),
    "stopped_vehicle": _rare(
        "A broken-down van stands in the lane.", 0.002, "stopped_vehicle",
        weathers=("glare", "clear"),
    ),
    "debris": _rare(
        "Lost cargo and a tyre lie in the lane.", 0.0012, "debris", weathers=("clear", "fog"),
    ),
    "cone_taper": _rare(
        "Cones close the lane before a works truck.", 0.0015, "cone_taper",
        weathers=("rain", "wet"),
    ),
    "animal_crossing": _rare(
        "Deer run across the road.", 0.0008, "animal_crossing",
        event_speed_mps=4.5, event_eta_s=2.8, lights=("night", "dusk"),
    ),
    "emergency_vehicle": _rare(
        "An ambulance with blue lights overtakes from behind.", 0.001, "emergency_vehicle",
        event_speed_mps=6.0, lights=_ANY_LIGHT,
    ),
    "reversing_van": _rare(
        "A van backs out across the sidewalk into the lane.", 0.0008, "reversing_van",
        event_speed_mps=1.8, event_eta_s=4.5,
    ),
    "crash_site": _rare(
        "A car on its roof, police beside it.", 0.0005, "crash_site", lights=("night", "dusk"),
    ),
    "motorcycle_filters": _rare(
        "A motorcycle squeezes past and pulls in close ahead.", 0.0008, "motorcycle_filters",
        event_speed_mps=5.0, event_gap_m=4.0,
    ),
    "oncoming_overtakes": _rare(
        "Oncoming traffic overtakes a truck, in the ego's lane.", 0.0006, "oncoming_overtakes",
        event_speed_mps=12.0, event_gap_m=20.0,
    ),
    "slow_tow": _rare(
        "A truck crawls along with a trailer.", 0.0005, "slow_tow", event_speed_mps=2.0,
    ),
    "lost_load": _rare(
        "A truck ahead loses a crate.", 0.0005, "lost_load", event_gap_m=11.0,
    ),
    "trailer_adrift": _rare(
        "A loose trailer rolls backwards towards the ego.", 0.0005, "trailer_adrift",
        reserved="test", event_speed_mps=2.5, event_eta_s=5.0,
    ),
    "herd_on_road": _rare(
        "A herd stands on the road in fog.", 0.0005, "herd_on_road",
        reserved="test", weathers=("fog",), event_speed_mps=0.6,
    ),
}  # fmt: skip

FAMILIES: Final[dict[str, Family]] = {**_COMMON, **_RARE}

BASE_FAMILIES: Final = ("town_drive", "jaywalker", "sudden_brake")
"""What the first base network was trained on and the fleet of the demo drives."""
