"""Families: each builds and runs, and what a rare one promises really happens."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sim.cli import app
from sim.run.episode import Episode
from sim.sense.family_sheet import sheet
from sim.sense.generate import generate
from sim.story.plays import PLAYS
from sim.story.scenarios import (
    BASE_FAMILIES,
    FAMILIES,
    LIMITS,
    ImpossibleScenarioError,
    ReservedFamilyError,
    UnknownFamilyError,
    check_split,
    draw_family,
    scenario_of,
    split_of,
)
from sim.story.script import NoPlaceError
from sim.users.actors import TooManyActorsError
from vehicle.contracts.frame import Rig
from vehicle.contracts.scenario import Scenario

BLIND = Rig(name="blind", cameras=())
RARE = [name for name, family in FAMILIES.items() if family.rare]
COMMON = [name for name, family in FAMILIES.items() if not family.rare]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One tick of a star: place and heading in the ego frame, its speed, whether it acts.

    `gap_m` is from the ego's front to its nearest point along x; `lane_m` how far the centre of
    the star is from the middle of the ego's route, left positive.
    """

    t_s: float
    x_m: float
    y_m: float
    turn_rad: float
    speed_mps: float
    ego_mps: float
    acting: bool
    gap_m: float
    lane_m: float


def watched(name: str, seconds: float = 15.0) -> list[Look]:
    """Return the star of a family's default episode, tick by tick, driven by a seeing driver."""
    episode = Episode.of(scenario_of(name, town=100, seed=1), BLIND)
    looks = []
    for _ in range(round(seconds * 10)):
        episode.step(None)
        assert episode.script is not None
        table, m = episode.actors.table, episode.motion
        for row in table[table["actor_id"] == episode.script.star_id]:
            dx, dy = float(row["x_m"]) - m.x_m, float(row["y_m"]) - m.y_m
            c, s = math.cos(m.yaw_rad), math.sin(m.yaw_rad)
            path = episode.route.path
            k = int(np.argmin(np.hypot(path[:, 0] - row["x_m"], path[:, 1] - row["y_m"])))
            lane = -math.sin(path[k, 2]) * (row["x_m"] - path[k, 0])
            lane += math.cos(path[k, 2]) * (row["y_m"] - path[k, 1])
            turn = math.remainder(float(row["yaw_rad"]) - path[k, 2], 2 * math.pi)
            half = abs(math.cos(turn)) * row["length_m"] / 2 + abs(math.sin(turn)) * (
                row["width_m"] / 2
            )
            looks.append(
                Look(
                    t_s=episode.t_s,
                    x_m=c * dx + s * dy,
                    y_m=-s * dx + c * dy,
                    turn_rad=turn,
                    speed_mps=float(row["speed_mps"]),
                    ego_mps=m.speed_mps,
                    acting=episode.script.acting,
                    gap_m=c * dx + s * dy - 3.75 - float(half),
                    lane_m=float(lane),
                )
            )
        assert all(np.isfinite(table[n]).all() for n in ("x_m", "y_m", "yaw_rad", "speed_mps"))
    return looks


def crosses(looks: list[Look], within_m: float) -> bool:
    """Return whether the star goes from one side of the lane to the other close before the ego."""
    near = [k for k in looks if k.acting and 0.0 < k.x_m < within_m and abs(k.lane_m) < 1.5]
    sides = [k.lane_m for k in looks if k.acting]
    return bool(near) and min(sides) < -1.0 and max(sides) > 1.0


def enters_lane(looks: list[Look], within_m: float) -> bool:
    """Return whether the star comes from beside the lane into it, close before the ego."""
    outside = [k.t_s for k in looks if abs(k.lane_m) > 1.6]
    inside = [k.t_s for k in looks if abs(k.lane_m) < 0.8 and 0.0 < k.gap_m < within_m]
    return bool(outside) and bool(inside) and min(outside) < max(inside)


def in_the_way(looks: list[Look], within_m: float = 14.0) -> bool:
    """Return whether the ego comes near something that stands or creeps in its lane."""
    near = [k for k in looks if 0.0 < k.gap_m < within_m and abs(k.lane_m) < 1.9]
    return bool(near) and any(k.speed_mps < 2.5 for k in near) and looks[0].gap_m > within_m


def against_traffic(looks: list[Look], within_m: float) -> bool:
    """Return whether the star comes towards the ego in the ego's lane."""
    return any(
        abs(k.turn_rad) > 2.6 and abs(k.lane_m) < 1.2 and 0.0 < k.gap_m < within_m
        and k.speed_mps > 4.0
        for k in looks
    )  # fmt: skip


def overtakes(looks: list[Look]) -> bool:
    """Return whether the star starts behind and ends before the ego, in its lane."""
    return looks[0].x_m < -5.0 and any(0.0 < k.gap_m < 20.0 and abs(k.lane_m) < 1.0 for k in looks)


def stops_hard(looks: list[Look]) -> bool:
    """Return whether the star, close before the ego, loses 5 m/s within 1.5 s."""
    return any(
        a.speed_mps - b.speed_mps > 4.0 and 0.0 < b.gap_m < 20.0 and abs(b.lane_m) < 1.0
        for a, b in zip(looks, looks[15:], strict=False)
    )


HAPPENS: dict[str, Callable[[list[Look]], bool]] = {
    "cut_in": lambda looks: enters_lane(looks, 9.0),
    "jaywalk_truck": lambda looks: crosses(looks, 22.0),
    "child_runs_out": lambda looks: crosses(looks, 22.0),
    "wrong_way": lambda looks: against_traffic(looks, 40.0),
    "emergency_stop": stops_hard,
    "door_opening": lambda looks: any(
        k.acting and abs(k.turn_rad) > 1.0 and 0.0 < k.gap_m < 20.0 and k.lane_m > -2.2
        for k in looks
    ),
    "red_runner": lambda looks: crosses(looks, 25.0),
    "cyclist_right": lambda looks: crosses(looks, 25.0),
    "stopped_vehicle": in_the_way,
    "debris": in_the_way,
    "cone_taper": lambda looks: in_the_way(looks, 16.0),
    "animal_crossing": lambda looks: crosses(looks, 25.0),
    "emergency_vehicle": overtakes,
    "reversing_van": lambda looks: in_the_way(looks) and any(k.speed_mps < -1.0 for k in looks),
    "crash_site": in_the_way,
    "motorcycle_filters": overtakes,
    "oncoming_overtakes": lambda looks: against_traffic(looks, 45.0),
    "slow_tow": in_the_way,
    "lost_load": stops_hard,
    "trailer_adrift": lambda looks: in_the_way(looks) and any(k.speed_mps < -1.5 for k in looks),
    "herd_on_road": in_the_way,
}


@pytest.mark.parametrize("name", RARE)
def test_the_event_of_a_rare_family_happens(name: str) -> None:
    assert HAPPENS[name](watched(name))


@pytest.mark.parametrize("name", COMMON)
def test_a_common_family_runs(name: str) -> None:
    episode = Episode.of(scenario_of(name, town=100, seed=2), BLIND)
    for _ in range(50):
        episode.step(None)
    table = episode.actors.table
    for field in ("x_m", "y_m", "yaw_rad", "speed_mps", "accel_mps2", "gait_rad"):
        assert np.isfinite(table[field]).all(), field
    assert len(np.unique(table["actor_id"])) == len(table)
    assert math.isfinite(episode.motion.x_m + episode.motion.speed_mps)


@pytest.mark.slow
@pytest.mark.parametrize("town", [103, 110, 121])
def test_events_begin_in_other_towns_too(town: int) -> None:
    late = []
    for name in RARE:
        try:
            episode = Episode.of(scenario_of(name, town=town, seed=town), BLIND)
        except NoPlaceError:
            late.append(name)
            continue
        assert episode.script is not None
        for _ in range(180):
            if episode.script.acting:
                break
            episode.step(None)
        else:
            late.append(name)
        assert np.isfinite(episode.actors.table["x_m"]).all()
    assert len(late) <= 1, late


def test_shares_sum_to_one_and_the_tail_is_thin() -> None:
    assert math.fsum(f.share_ratio for f in FAMILIES.values()) == pytest.approx(1.0, abs=1e-9)
    assert math.fsum(FAMILIES[n].share_ratio for n in COMMON) >= 0.97
    assert all(0.0005 <= FAMILIES[n].share_ratio <= 0.01 for n in RARE)
    assert len(COMMON) >= 12
    assert len(RARE) >= 16
    assert set(HAPPENS) == set(RARE) == set(PLAYS)
    assert set(BASE_FAMILIES) <= set(COMMON)
    assert sum(f.reserved == "test" for f in FAMILIES.values()) == 2


def test_defaults_are_within_the_limits() -> None:
    for family in FAMILIES.values():
        for name, (low, high) in LIMITS.items():
            assert low <= getattr(family, name) <= high


def test_families_are_drawn_by_their_shares() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_family(rng) for _ in range(4000)]
    assert not any(FAMILIES[name].reserved for name in drawn)
    rare = np.mean([FAMILIES[name].rare for name in drawn])
    assert 0.015 < rare < 0.035


def test_two_runs_of_an_event_are_the_same() -> None:
    tables = []
    for _ in range(2):
        episode = Episode.of(scenario_of("cut_in", town=100, seed=5), BLIND)
        for _ in range(60):
            episode.step(None)
        tables.append((episode.actors.table.tobytes(), episode.pose.tobytes()))
    assert tables[0] == tables[1]


def test_a_relocated_ego_meets_the_event_anew() -> None:
    episode = Episode.of(scenario_of("debris", town=100, seed=1), BLIND)
    first = episode.script
    episode.relocate(np.random.default_rng(3))
    assert episode.script is not None
    assert episode.script is not first
    ids = episode.actors.table["actor_id"].tolist()
    assert len(ids) == len(set(ids))


def test_towns_are_split() -> None:
    kinds = [split_of(t) for t in (0, 15, 16, 19, 20, 99, 100)]
    assert kinds == [*["train"] * 2, *["fleet"] * 2, *["validation"] * 2, "test"]
    assert split_of(100, 500) == "final"
    assert split_of(1_000_003) == "train"
    assert scenario_of("roundabouts", town=100, seed=0).town == 1_000_100


def test_reserved_families_are_for_test_towns_only() -> None:
    check_split(["trailer_adrift"], [100, 200])
    with pytest.raises(ReservedFamilyError, match="town 3"):
        check_split(["debris", "trailer_adrift"], [100, 3])
    with pytest.raises(ReservedFamilyError, match="herd_on_road"):
        scenario_of("herd_on_road", town=17, seed=0)


def test_no_training_frames_are_made_of_reserved_families(tmp_path: Path) -> None:
    with pytest.raises(ReservedFamilyError, match="trailer_adrift"):
        generate(tmp_path / "set", towns=[0], frames=1, families=("trailer_adrift",))
    assert list(tmp_path.iterdir()) == []


def test_frames_of_a_rare_family_hold_its_kinds(tmp_path: Path) -> None:
    manifest = generate(tmp_path / "set", towns=[100], frames=12, families=("herd_on_road",))
    assert manifest.boxes["animal"] > 0
    assert manifest.tags["families"] == "herd_on_road"


@pytest.mark.parametrize(
    ("name", "value"),
    [("car_gap_m", 0.1), ("parked_ratio", 1.5), ("event_speed_mps", -4.0), ("crossing_hz", 99.0)],
)
def test_an_impossible_parameter_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ImpossibleScenarioError, match=name):
        Episode(town=100, seed=0, family="cut_in", parameters={name: value}, rig=BLIND)


def test_thousands_of_actors_are_refused_by_name() -> None:
    with pytest.raises(TooManyActorsError, match="at most 1200"):
        Episode(town=100, seed=0, parameters={"person_gap_m": 1.0}, rig=BLIND)


def test_more_kinds_of_vehicles_than_vehicles_are_refused() -> None:
    ratios = {"truck_ratio": 0.7, "bus_ratio": 0.7}
    with pytest.raises(ImpossibleScenarioError, match=r"1\.4"):
        Episode(town=100, seed=0, parameters=ratios, rig=BLIND)


def test_a_parameter_that_is_no_number_is_unknown() -> None:
    with pytest.raises(UnknownFamilyError, match="event"):
        Episode.of(Scenario(town=0, seed=0, parameters={"event": 1.0}), BLIND)


def test_a_town_without_the_place_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.story.script.find_spot", lambda *a, **k: None)
    with pytest.raises(NoPlaceError, match="take another town"):
        Episode(town=100, seed=0, family="debris", rig=BLIND)


def test_the_sheet_has_a_tile_per_family() -> None:
    picture = sheet(("debris", "quiet_streets"))
    assert picture.shape == (226, 2 * 384, 3)
    assert picture[40:].std() > 10.0


def test_families_are_listed_and_drawn(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    call = ["families", "--json", "--sheet", str(path), "--only", "debris"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["debris"]["rare"] is True
    assert path.read_bytes().startswith(b"\x89PNG")
