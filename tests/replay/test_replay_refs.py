"""Reference outputs per stage: whatever moves, this says which stage moved first.

`pytest tests/replay --update-refs` writes all of refs/ anew; a commit that does so says why.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from route_parts import picture
from scripted_drive import TICKS, Route, Scripted

from sim.run.episode import Episode
from vehicle import bundles
from vehicle.budget import Budget
from vehicle.clock import FakeClock
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN
from vehicle.contracts.frame import Observation
from vehicle.contracts.scene import KINDS
from vehicle.contracts.tick import Tick
from vehicle.drive import Drive
from vehicle.perception import Perception
from vehicle.replay import replay
from vehicle.route import RouteWriter
from vehicle.sight import Sight
from vehicle.sources import RouteSource

REFS = Path(__file__).parent / "refs"
LOOKS_S = (0.5, 1.0, 2.0, 3.0)
LEVELS = 1.0
"""Pictures may differ by this on another processor, of 255: a codec's rounding is its own."""

SURE_PROB = 0.4
"""Detections that are surer than this must be there on every processor."""

NEAR_M, NEAR_PROB = 0.5, 0.1
WORDS = "stage {} moved; if that is meant: pytest tests/replay --update-refs, and say why"


def held(request: pytest.FixtureRequest, stage: str, now: Any) -> Any:
    """Return the reference of a stage, written anew where that is asked for."""
    path = REFS / f"{stage}.json"
    if request.config.getoption("--update-refs"):
        REFS.mkdir(exist_ok=True)
        rows = ",\n".join(json.dumps(row) for row in now)
        wire.atomic_write(path, f"[\n{rows}\n]\n".encode())
    return json.loads(path.read_text())


def rounded(values: Any) -> list[Any]:
    return [round(float(v), 6) + 0.0 for v in values]


# --- from a detection to a command: exact arithmetic, the same on every processor


@cache
def scripted_ticks() -> tuple[Tick, ...]:
    """Drive the script through the real loop, with the script in the place of the network."""
    images = {c.name: picture(c.width_px, c.height_px, n) for n, c in enumerate(RIG_R.cameras)}
    drive = Drive(
        car_id="car", route_id="scripted", rig=RIG_R, bundle=None, campaigns=(DEFAULT_CAMPAIGN,),
        budget=Budget(enforce=False, clock=FakeClock()), rate_hz=10.0,
    )  # fmt: skip
    drive.sight = Sight(Scripted(), RIG_R)
    return tuple(drive.tick(obs) for obs in Route(images))


def exact(request: pytest.FixtureRequest, stage: str, now: list[Any]) -> None:
    before = held(request, stage, now)
    first = next(
        (i for i, (a, b) in enumerate(zip(before, now, strict=False)) if not _same(a, b)), None
    )
    assert first is None, (
        f"{WORDS.format(stage)}; first at tick {first}: {before[first]} was, {now[first]} is"
    )
    assert len(before) == len(now), WORDS.format(stage)


def _same(a: Any, b: Any) -> bool:
    """Compare plain data; numbers to a millionth, for sines differ in the last bit by processor."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= 2e-6 * max(1.0, abs(a))
    return bool(a == b)


def test_tracks_are_those_of_the_reference(request: pytest.FixtureRequest) -> None:
    columns = ("x_m", "y_m", "yaw_rad", "length_m", "width_m", "vx_mps", "vy_mps")
    now = []
    for tick in scripted_ticks():
        assert tick.scene is not None
        rows = np.sort(tick.scene.tracks, order="track_id")
        now.append(
            [
                [int(t["track_id"]), KINDS[t["kind"]], int(t["age_ticks"]),
                 int(t["coasted_ticks"]), *(round(float(t[c]), 4) + 0.0 for c in columns)]
                for t in rows
            ]
        )  # fmt: skip
    exact(request, "tracks", now)


def test_plans_are_those_of_the_reference(request: pytest.FixtureRequest) -> None:
    now = []
    for tick in scripted_ticks():
        assert tick.plan is not None
        s = tick.plan.trajectory.states
        at = [np.interp(LOOKS_S, s[:, 0], s[:, c]) for c in (1, 2, 4)]
        now.append([tick.plan.rung, tick.plan.proposal, *map(rounded, at)])
    exact(request, "plans", now)


def test_commands_are_those_of_the_reference(request: pytest.FixtureRequest) -> None:
    now = []
    for tick in scripted_ticks():
        c = tick.command
        assert c is not None
        now.append([*rounded((c.accel_mps2, c.curvature_1pm)), c.hazard_lights, list(c.limited_by)])
    exact(request, "commands", now)


def test_signals_are_those_of_the_reference(request: pytest.FixtureRequest) -> None:
    now = [
        [[name, *rounded((value,))] for name, value in t.signals.items()] for t in scripted_ticks()
    ]
    exact(request, "signals", now)


def test_events_are_those_of_the_reference(request: pytest.FixtureRequest) -> None:
    ticks = scripted_ticks()
    now = [
        [t.frame_id, e.trigger, *rounded((e.value, e.threshold))] for t in ticks for e in t.events
    ]
    assert len(now) >= 2, "the script is made so that something happens"
    exact(request, "events", now)


def test_the_script_leads_the_loop_through_what_it_is_for() -> None:
    ticks = scripted_ticks()
    assert len(ticks) == TICKS
    assert max(len(t.scene.tracks) for t in ticks if t.scene) >= 4
    assert len({t.plan.proposal for t in ticks if t.plan}) >= 3
    assert any(t.command.limited_by for t in ticks if t.command)


def test_two_drives_over_the_script_are_the_same_to_the_bit() -> None:
    first = scripted_ticks()
    scripted_ticks.cache_clear()
    for a, b in zip(first, scripted_ticks(), strict=True):
        assert a.plan is not None
        assert b.plan is not None
        assert a.plan.digest() == b.plan.digest()
        assert a.command == b.command
        assert a.scene is not None
        assert b.scene is not None
        assert a.scene.tracks.tobytes() == b.scene.tracks.tobytes()


# --- from a picture to a detection: a codec and a network, which round as a processor likes


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record four frames of the simulator, as a car would."""
    path = tmp_path_factory.mktemp("town") / "town.mcap"
    episode = Episode(town=104, seed=4, rate_hz=10.0)
    with RouteWriter(path, episode.rig, rate_hz=10.0, metadata={"source": "simulator"}) as writer:
        for _ in range(4):
            writer.write(episode.observe())
            episode.step(None)
    return path


def frames(path: Path) -> Iterator[Observation]:
    yield from RouteSource(path)


def test_decoded_pictures_are_those_of_the_reference(
    request: pytest.FixtureRequest, town: Path
) -> None:
    """Brightness of a 2 x 4 grid of each picture and colour."""
    now = []
    for obs in frames(town):
        row = []
        for camera in RIG_R.cameras:
            image = obs.frame.images[camera.name].astype(np.float64)
            h, w = image.shape[0] // 2, image.shape[1] // 4
            cells = image[: 2 * h, : 4 * w].reshape(2, h, 4, w, 3).mean(axis=(1, 3))
            row.append([round(v, 2) for v in cells.reshape(-1).tolist()])
        now.append(row)
    before = held(request, "pictures", now)
    assert np.abs(np.array(before) - np.array(now)).max() < LEVELS, WORDS.format("pictures")


def test_detections_are_those_of_the_reference(request: pytest.FixtureRequest, town: Path) -> None:
    """The shipped network on the four frames: whoever it is sure of, on every processor."""
    now: list[list[list[Any]]] = []
    source = RouteSource(town)
    assert source.rig is not None
    perception = Perception(bundles.base_folder(), source.rig)
    try:
        for obs in source:
            found = perception.perceive(obs.frame, ego=obs.ego)
            now.append(
                [
                    [KINDS[t["kind"]], *(round(float(t[c]), 3) + 0.0 for c in
                     ("x_m", "y_m", "length_m", "width_m", "score_prob"))]
                    for t in found.tracks
                ]
            )  # fmt: skip
    finally:
        perception.close()
    before = held(request, "detections", now)
    assert sum(map(len, now)) > 0
    for i, (a, b) in enumerate(zip(before, now, strict=True)):
        lost = _lost(a, b) + _lost(b, a)
        assert lost == [], f"{WORDS.format('detections')}; frame {i}: {lost}"


def _lost(some: list[list[Any]], others: list[list[Any]]) -> list[list[Any]]:
    """Return the sure ones of `some` that have no like among `others`."""
    return [
        a
        for a in some
        if a[5] >= SURE_PROB
        and not any(
            a[0] == b[0]
            and np.hypot(a[1] - b[1], a[2] - b[2]) < NEAR_M
            and abs(a[5] - b[5]) < NEAR_PROB
            for b in others
        )
    ]


def test_a_replay_of_a_recorded_town_is_the_same_to_the_bit_twice(town: Path) -> None:
    first, second = (replay(town, bundle=bundles.base_folder()) for _ in range(2))
    assert first.plan_digest == second.plan_digest != ""
    assert first.scene_digest == second.scene_digest != ""
    assert first.events == second.events
