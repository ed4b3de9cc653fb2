from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from route_parts import obs_of, same_scene, scene_of, tick_of

from vehicle.contracts.advice import AdviceNote
from vehicle.contracts.ego import DriverInput, EgoState
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.goal import Goal
from vehicle.contracts.plan import STATE_COLUMNS
from vehicle.contracts.scene import TRACK, Signal
from vehicle.contracts.topics import TOPICS
from vehicle.contracts.vocabulary import SIGNALS
from vehicle.route import RouteReader, RouteWriter
from vehicle.telemetry_pb import TelemetryError, decode_telemetry, encode_telemetry
from vehicle.telemetry_schema import MESSAGES


def test_a_tick_comes_back_bit_for_bit() -> None:
    obs, tick = obs_of(3), tick_of(3)
    record = decode_telemetry(encode_telemetry(obs, tick))
    back = record.tick
    assert back is not None
    assert back.scene is not None
    assert back.plan is not None
    assert record.observation.ego == obs.ego
    assert record.observation.guidance is not None
    assert obs.guidance is not None
    assert (record.observation.guidance.centreline_m == obs.guidance.centreline_m).all()
    assert record.cameras == ("wide", "odd")
    assert tick.scene is not None
    assert same_scene(back.scene, tick.scene)
    assert tick.plan is not None
    assert back.plan.digest() == tick.plan.digest()
    assert (back.command, back.timing, back.misses, back.events) == (
        tick.command,
        tick.timing,
        tick.misses,
        tick.events,
    )


def test_what_is_absent_stays_absent() -> None:
    bare = Observation(frame=FrameSet(frame_id=0, mono_ns=0))
    record = decode_telemetry(encode_telemetry(bare, None))
    assert record.observation.frame.frame_id == 0
    assert record.observation.ego is None
    assert record.observation.guidance is None
    assert record.observation.traffic is None
    assert record.tick is None


def test_a_latitude_of_zero_is_not_an_absent_one() -> None:
    ego = decode_telemetry(encode_telemetry(obs_of(1), None)).observation.ego
    assert ego is not None
    assert ego.latitude_deg == 0.0
    assert ego.longitude_deg is None


def test_the_lines_to_wait_at_come_back_and_an_absent_one_stays_absent() -> None:
    guidance = decode_telemetry(encode_telemetry(obs_of(1), None)).observation.guidance
    assert guidance is not None
    assert (guidance.stop_m, guidance.yield_m) == (0.0, None)
    assert (guidance.left_lane_m, guidance.right_lane_m) == (0.0, 40.0)
    assert guidance.goal is None


def test_a_goal_comes_back_with_its_regions_and_windows() -> None:
    obs = obs_of(1)
    assert obs.guidance is not None
    regions = (np.array([[0.0, 1.0], [2.0, 1.0], [2.0, 3.0]]), np.eye(2).repeat(2, axis=0))
    goal = Goal(regions_m=regions, from_s=0.0, to_s=4.5, speed_mps=(0.0, 3.0))
    guidance = replace(obs.guidance, goal=goal)
    back = decode_telemetry(encode_telemetry(replace(obs, guidance=guidance), None))
    assert back.observation.guidance is not None
    found = back.observation.guidance.goal
    assert found is not None
    assert (found.from_s, found.to_s) == (0.0, 4.5)
    assert (found.speed_mps, found.yaw_rad) == ((0.0, 3.0), None)
    assert all((a == b).all() for a, b in zip(found.regions_m, regions, strict=True))


def test_a_signal_of_unknown_distance_comes_back() -> None:
    scene = replace(scene_of(2), signal=Signal(state="none", source="truth"))
    obs = Observation(frame=FrameSet(frame_id=2, mono_ns=5), traffic=scene)
    back = decode_telemetry(encode_telemetry(obs, None)).observation.traffic
    assert back is not None
    assert back.signal is not None
    assert (back.signal.state, back.signal.source) == ("none", "truth")
    assert np.isnan(back.signal.distance_m)


def test_traffic_of_a_log_travels_with_the_observation() -> None:
    obs = Observation(frame=FrameSet(frame_id=2, mono_ns=5), traffic=scene_of(2))
    back = decode_telemetry(encode_telemetry(obs, None)).observation.traffic
    assert back is not None
    assert obs.traffic is not None
    assert same_scene(back, obs.traffic)


def test_an_unused_network_s_uncertainty_stays_nan() -> None:
    obs = Observation(frame=FrameSet(frame_id=2, mono_ns=5), traffic=scene_of(2, tracks=0))
    object.__setattr__(obs.traffic, "uncertainty_ratio", float("nan"))
    back = decode_telemetry(encode_telemetry(obs, None)).observation.traffic
    assert back is not None
    assert np.isnan(back.uncertainty_ratio)
    assert len(back.tracks) == 0


def test_the_table_names_every_field_of_the_contracts() -> None:
    assert tuple(MESSAGES["Tracks"]) == TRACK.names
    assert tuple(MESSAGES["Ego"]) == tuple(f.name for f in fields(EgoState))
    assert tuple(MESSAGES["Plan"])[-7:] == STATE_COLUMNS


def test_the_reference_page_lists_every_message_field_and_topic() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "route-file.md").read_text()
    for message, columns in MESSAGES.items():
        listed = ", ".join(f"`{name}` {spec}" for name, spec in columns.items())
        assert f"| {message} | {listed} |" in page
    assert all(f"`{topic}`" in page for topic in TOPICS)


@pytest.mark.parametrize("data", [b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f"])
def test_garbage_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(TelemetryError):
        decode_telemetry(data)


def test_every_topic_names_a_message_and_a_field_of_a_tick() -> None:
    kinds = {field: kind.rstrip("?*") for field, kind in MESSAGES["TickRecord"].items()}
    assert {t.field: t.message for t in TOPICS.values()} == kinds


def test_signals_and_the_driver_come_back_and_unknown_ones_stay_absent() -> None:
    obs = replace(obs_of(1), driver=DriverInput(engaged=True, bookmark=True))
    tick = replace(tick_of(1), signals={"ttc_s": 0.0, "novelty": 0.25})
    record = decode_telemetry(encode_telemetry(obs, tick))
    assert record.observation.driver == obs.driver
    assert record.tick is not None
    assert record.tick.signals == {"ttc_s": 0.0, "novelty": 0.25}
    quiet = decode_telemetry(encode_telemetry(obs_of(1), tick_of(1)))
    assert quiet.observation.driver is None
    assert quiet.tick is not None
    assert quiet.tick.signals == {}


def test_every_signal_that_is_logged_has_a_field() -> None:
    assert set(MESSAGES["Signals"]) == {name for name, word in SIGNALS.items() if word.logged}


def test_a_route_tells_whose_advice_was_there_and_what_became_of_it(tmp_path) -> None:
    notes = tuple(
        AdviceNote(
            request_id=f"{n:032x}",
            context=context,
            site="junction-7",
            verdict=verdict,
            age_us=90_000 + n,
            held_back_mps2=1.5 * n,
        )
        for n, (context, verdict) in enumerate((("edge", "forged"), ("orbital", "heeded")))
    )
    path = tmp_path / "r.mcap"
    with RouteWriter(path, None, rate_hz=10.0, metadata={}) as writer:
        for n, advice in ((1, notes), (2, ())):
            obs = replace(obs_of(n), frame=FrameSet(frame_id=n, mono_ns=n))
            writer.write(obs, replace(tick_of(n), advice=advice))
    first, second = RouteReader(path).records()
    assert first.tick is not None
    assert second.tick is not None
    assert first.tick.advice == notes
    assert second.tick.advice == ()
