"""A simulated world as the cameras of a car that drives on the clock."""

import json
import os
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
import tiny_bundle
from tick_parts import tick_of

from sim.run.live import EpisodeSource, LiveWorld
from vehicle.contracts import wire
from vehicle.contracts.wire import ContractError


def test_world_stands_still_until_it_is_told_of_a_tick() -> None:
    source = EpisodeSource(LiveWorld(seed=3))
    frames = iter(source)
    first, again = islice(frames, 2)
    assert first.frame.frame_id == again.frame.frame_id
    assert np.array_equal(first.frame.images["front_wide"], again.frame.images["front_wide"])
    source.answer(tick_of(0)[1])
    moved = next(frames)
    assert moved.frame.frame_id == first.frame.frame_id + 1
    assert not np.array_equal(moved.frame.images["front_wide"], first.frame.images["front_wide"])
    assert source.rig is not None
    assert source.metadata["tag.light"] == "day"


def test_world_travels_to_the_loops_process_as_plain_words() -> None:
    world = LiveWorld(town=17, light="dusk", rate_hz=12.0)
    assert wire.from_bytes(LiveWorld, wire.to_bytes(world)) == world
    with pytest.raises(ContractError):
        wire.from_bytes(LiveWorld, b'{"schema": "liveworld/1", "planet": 4}')


@pytest.mark.slow
def test_whole_car_drives_in_a_world_that_answers(tmp_path) -> None:
    tiny_bundle.make(tmp_path / "bundle")
    words = ["sim", "live", "--seconds", "2", "--rate", "5", "--best-effort", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "roadloop", *words, "--bundle", str(tmp_path / "bundle")],
        env={**os.environ, "ROADLOOP_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    report = json.loads(done.stdout)
    assert report["ticks"] + report["frames_lost"] == 10
    assert report["unanswered"] == 0
    assert report["route_id"] == "live-town16-seed0-day"
