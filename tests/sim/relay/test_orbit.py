"""A car without coverage gets its update and its advice by orbit, though every node dies once."""

import pytest

from fleet.orbit.routing import NoRouteError
from sim.relay.orbit import run
from sim.relay.orbit_script import CAR, DOWN, UP, write


def test_script_kills_every_node_once_and_lets_the_clip_land_only_at_home():
    script = write(5_000_000, 1_500_000, kill=True)
    names = {node.name for node in script.plan.nodes}
    assert {kill.node for kill in script.kills} == names >= {CAR, UP, DOWN}
    assert len(script.kills) == len(names)
    assert script.clip.hops[-1] == DOWN
    assert script.release.hops[-1] == CAR
    assert script.clip.arrive_utc_ns > script.ask_utc_ns


def test_constellation_that_cannot_carry_it_says_so():
    with pytest.raises(NoRouteError):
        write(5_000_000_000, 1_000, kill=False)


@pytest.mark.slow
def test_update_advice_and_clip_arrive_once_though_every_node_is_killed(tmp_path):
    trial = run(tmp_path, kill=True)
    assert trial.holds, trial.plain()
    assert trial.counts["killed"] == 5
    assert (trial.counts["lost"], trial.counts["twice"]) == (0, 0)
    assert trial.counts["arrived"] == trial.counts["sent"] >= 45
    assert trial.refused
    assert all("TamperedReleaseError" in reason for reason in trial.refused)
    assert trial.accel_mps2["with_advice"] < trial.accel_mps2["own"]
