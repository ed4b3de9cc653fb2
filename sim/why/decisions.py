"""Drives that write down what the car decided and, by asking again without it, what caused that.

The real pilot drives on the tracks of everybody in line of sight and on the map's drivable space;
nothing is drawn, so an hour of driving costs minutes.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from sim.run.episode import Episode
from sim.sense.sensors import label_bev
from sim.story.families import FAMILIES
from sim.story.scenarios import check_split, named, scenario_of, split_of
from sim.story.script import NoPlaceError
from vehicle.budget import Budget
from vehicle.caution import TALL_M
from vehicle.clock import FakeClock
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.decision import DecisionRecord
from vehicle.contracts.frame import Observation
from vehicle.contracts.scenario import Scenario
from vehicle.contracts.scene import BEV, BEV_DRIVABLE, TRACK, Occupancy, Scene
from vehicle.contracts.wire import RefusedError
from vehicle.counterfactual import WhatIf
from vehicle.decisions import record_of
from vehicle.pilot import Pilot

HELD_OUT: Final = (
    *("cut_in", "slow_tow", "school_run", "red_runner"),
    *(name for name, family in FAMILIES.items() if family.reserved),
)
"""Families whose decisions no explainer is trained on, so that it can be asked about them."""

TRAINED: Final = tuple(name for name in FAMILIES if name not in HELD_OUT)

TICKS: Final = 300
_CAMERA_X_M: Final = 1.5
_EVERY, _EVERY_DULL = 4, 20
_DULL: Final = ("speed up", "keep speed", "stay stopped")


class HeldOutFamilyError(RefusedError):
    """Records to train on were asked of a family that is kept for testing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a run wrote: records, episodes, and how often the car was asked what if."""

    records: int
    episodes: int
    asked: int
    digest: str


def write_records(
    out: Path,
    *,
    families: Sequence[str],
    towns: Sequence[int],
    episodes: int,
    seed: int = 0,
    ticks: int = TICKS,
    progress: Callable[[int], None] | None = None,
) -> Written:
    """Drive every family in turn and write the records as lines of canonical JSON.

    Args:
        out: the file; it appears whole, at the end.
        families: their names. towns: taken in turn.
        episodes: in all. ticks: of each, at 10 Hz.
        seed: of the first episode; the next one takes the next.
        progress: called with the episodes done.
    Raises:
        HeldOutFamilyError, ReservedFamilyError, UnknownFamilyError: see the families.
    """
    check_split(list(families), list(towns))
    kept = [f for f in families if f in HELD_OUT]
    if kept and any(split_of(town) == "train" for town in towns):
        raise HeldOutFamilyError(
            f"family {kept[0]!r} is kept to test explainers on: take a town from 100"
        )
    lines: list[bytes] = []
    asked = 0
    for number in range(episodes):
        turn, which = divmod(number, len(families))
        town = towns[(number + turn) % len(towns)]  # no family keeps to one town
        scenario = scenario_of(families[which], town=town, seed=seed + number)
        for record, questions in records_of(scenario, ticks):
            lines.append(wire.to_bytes(record))
            asked += questions
        if progress is not None:
            progress(number + 1)
    data = b"".join(line + b"\n" for line in lines)
    wire.atomic_write(out, data)
    return Written(records=len(lines), episodes=episodes, asked=asked, digest=wire.digest(data))


def records_of(scenario: Scenario, ticks: int = TICKS) -> Iterator[tuple[DecisionRecord, int]]:
    """Yield the tested decisions of one drive, and how many questions each took.

    Decisions that a quiet drive is full of are taken every two seconds, others every 0.4 s.
    """
    try:
        episode = Episode.of(scenario, replace(RIG_R, cameras=()))
    except NoPlaceError:  # this town has no place for the family: the next one will
        return
    pilot, since = Pilot(episode.config), _EVERY_DULL
    source = f"{scenario.family}/{scenario.town}/{scenario.seed}"
    for _ in range(ticks):
        obs, scene = seen(episode)
        before = copy.deepcopy(pilot)
        budget = Budget(enforce=False, clock=FakeClock())
        budget.begin(obs.frame.frame_id)
        plan, command = pilot.act(scene, obs, "full", budget)
        assert plan is not None  # the simulator tells the ego's motion
        assert command is not None
        record = record_of(source, scene, obs, plan, command, episode.config)
        since += 1
        dull = record.decision.longitudinal in _DULL and record.decision.lateral == "keep the lane"
        if since >= (_EVERY_DULL if dull else _EVERY):
            question = WhatIf(before, scene, obs, "full", record, episode.config)
            yield question.causes(), question.asked
            since = 0
        episode.step(command)
        if episode.collided:
            return


def seen(episode: Episode) -> tuple[Observation, Scene]:
    """Return what the car is given: everybody in line of sight, and where one may drive."""
    obs = episode.observe(truth=True)
    truth = obs.traffic
    assert truth is not None
    scenery = episode.town.scenery
    bits = label_bev(
        episode.town.ground, np.zeros((0, 11), np.float32), scenery.footprints[scenery.solid],
        episode.pose,
    )  # fmt: skip
    drivable = np.where(bits & BEV_DRIVABLE, 255, 0).astype(np.uint8)
    none = np.zeros_like(drivable)
    grid = Occupancy(grid=BEV, drivable=drivable, lane=none, occupied=none)
    tracks = truth.tracks[in_sight(truth.tracks)]
    return replace(obs, traffic=None), replace(truth, tracks=tracks, occupancy=grid)


def in_sight(tracks: np.ndarray) -> np.ndarray:
    """Return bool [N]: which tracks a camera behind the windscreen has a free line to.

    A road user is hidden when the lines to its middle and to both its sides cross somebody tall.
    Buildings hide nobody here.
    """
    assert tracks.dtype == TRACK
    x, y = tracks["x_m"].astype(float), tracks["y_m"].astype(float)
    away = np.maximum(np.hypot(x - _CAMERA_X_M, y), 1e-6)
    side = 0.5 * np.minimum(tracks["length_m"], tracks["width_m"])
    across = np.stack([-y / away, (x - _CAMERA_X_M) / away], axis=1) * side[:, None]
    middle = np.stack([x, y], axis=1)
    ends = middle[:, None] + across[:, None] * np.array([-1.0, 0.0, 1.0])[None, :, None]
    blocked = np.zeros(ends.shape[:2], bool)
    for n in np.flatnonzero(tracks["height_m"] >= TALL_M):
        crossed = _crosses(ends, tracks[n])
        crossed[n] = False
        blocked |= crossed
    return np.asarray(~blocked.all(axis=1))


def _crosses(ends: np.ndarray, box: np.void) -> np.ndarray:
    """Return whether the lines from the camera to `ends` [..., 2] cross a box on the ground."""
    c, s = math.cos(box["yaw_rad"]), math.sin(box["yaw_rad"])
    turn = np.array([[c, -s], [s, c]])  # points @ turn: into the box's own axes
    middle = np.array([box["x_m"], box["y_m"]])
    start = (np.array([_CAMERA_X_M, 0.0]) - middle) @ turn
    way = (ends - middle) @ turn - start
    half = 0.5 * np.array([box["length_m"], box["width_m"]])
    way = np.where(np.abs(way) < 1e-9, 1e-9, way)
    one, other = (-half - start) / way, (half - start) / way
    enters = np.minimum(one, other).max(axis=-1)
    leaves = np.maximum(one, other).min(axis=-1)
    return np.asarray((enters < leaves) & (leaves > 0.0) & (enters < 0.98))


def known_families(text: str) -> tuple[str, ...]:
    """Return the families that "trained", "held-out" or names with commas stand for."""
    groups = {"trained": TRAINED, "held-out": HELD_OUT}
    names = groups.get(text) or tuple(text.split(","))
    for name in names:
        named(name)
    return names
