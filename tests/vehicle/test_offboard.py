"""Advice can make a command more careful and nothing else, whatever it says, whenever it comes."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from offboard_parts import GO, Heard, S, cap, heard, walker
from safety_parts import scene_of, user

from vehicle.config import VehicleConfig
from vehicle.contracts.advice import ADVISED_COLUMNS, MAX_TRACKS, rows_of, tracks_of
from vehicle.contracts.ego import ControlCommand
from vehicle.contracts.inference import CONTEXTS
from vehicle.contracts.wire import ContractError
from vehicle.heed import BRAKE_MPS2, LEAST_MPS
from vehicle.offboard import LETTER, Mailbox, NoMailboxError
from vehicle.safety import Envelope

SOFT = VehicleConfig().comfort_brake_mps2


@pytest.fixture
def car() -> Iterator[Heard]:
    with heard() as made:
        yield made


def test_without_advice_the_very_command_comes_back_and_no_clock_is_asked(car, monkeypatch):
    monkeypatch.setattr(car.clock, "utc_ns", lambda: pytest.fail("asked for the time"))
    assert car.heed() is GO
    assert car.offboard.notes == ()


def test_somebody_whom_the_car_cannot_see_is_braked_for_as_hard_as_who_follows_can(car):
    advice = car.put(tracks=(walker(),))
    found = car.heed()
    assert found.accel_mps2 == -BRAKE_MPS2
    assert found.curvature_1pm == GO.curvature_1pm
    assert found.limited_by == ("advice_aeb",)
    (note,) = car.offboard.notes
    assert (note.request_id, note.context, note.site) == (advice.request_id, "edge", "junction-7")
    assert (note.verdict, note.held_back_mps2) == ("heeded", GO.accel_mps2 + BRAKE_MPS2)


def test_what_is_said_in_the_local_frame_is_placed_where_the_car_has_come_to(car):
    car.put(tracks=((*walker(x=103.0, y=70.0)[:7], -1.5, 0.0, 0.9),))
    at = {"x": 100.0, "y": 50.0, "yaw": np.pi / 2}
    assert car.heed(**at).limited_by == ("advice_aeb",)
    assert car.heed(x=100.0, y=50.0, yaw=-np.pi / 2) is GO


def test_a_track_moves_on_while_it_travels(car):
    car.put(tracks=(walker(y=-3.0, vy=1.5),), lives_s=1.9)
    assert car.heed() is not GO
    car.clock.advance_ns(round(1.8 * S))  # gone to the other side
    assert car.heed(x=0.0) is GO
    assert car.verdicts == ["no effect"]


@pytest.mark.parametrize(
    ("verdict", "what"),
    [
        ("forged", {"proven": False, "tracks": (walker(),)}),
        ("future", {"age_s": -60.0, "lives_s": 70.0, "tracks": (walker(),)}),
        ("late", {"age_s": 0.4, "lives_s": -0.1, "tracks": (walker(),)}),
        ("late", {"age_s": 60.0, "lives_s": -59.0, "caps": (cap(),)}),
        ("stale", {"age_s": 0.6, "tracks": (walker(),)}),
        ("stale", {"age_s": 60.0, "lives_s": 60.0, "caps": (cap(),)}),
        ("unplaced", {"tracks": (walker(x=5_000.0),)}),
        ("unplaced", {"caps": (cap(x=900_000.0),)}),
    ],
)
def test_advice_that_is_not_to_be_believed_is_refused_by_name_and_once(car, verdict, what):
    car.put(**what)
    assert car.heed() is GO
    assert car.verdicts == [verdict]
    assert car.heed() is GO
    assert car.verdicts == []
    assert car.offboard.counters[f"advice_{verdict}"] == 1


def test_advice_dies_at_its_time_to_live(car):
    car.put(tracks=(walker(vy=0.0, y=0.0),), lives_s=0.3)
    assert car.heed() is not GO
    car.clock.advance_ns(round(0.3 * S))
    assert car.heed() is GO
    assert car.offboard.counters["advice_expired"] == 1


def test_a_road_user_lives_two_seconds_and_a_cap_an_hour_whatever_advice_says(car):
    car.put(tracks=(walker(vy=0.0, y=0.0),), caps=(cap(x=5.0),), lives_s=10**6)
    car.heed()
    car.clock.advance_ns(round(1.9 * S))
    assert car.heed().limited_by == ("advice_aeb",)
    car.clock.advance_ns(round(0.2 * S))
    assert car.heed().limited_by == ("advice_cap",)
    car.clock.advance_ns(3_600 * S)
    assert car.heed() is GO


def test_a_new_word_of_a_context_takes_the_place_of_its_last(car):
    car.put(tracks=(walker(),))
    car.put(tracks=())
    assert car.heed() is GO
    car.put(tracks=(walker(),))
    car.put(tracks=(), context="orbital", caps=(cap(),))
    car.heed()
    assert car.verdicts == ["heeded", "heeded"]


def test_however_much_is_said_the_envelope_is_asked_once_about_as_many_as_fit(car, monkeypatch):
    asked, limit = [], Envelope.limit

    def counted(envelope, command, scene, *rest):
        asked.append(len(scene.tracks))
        return limit(envelope, command, scene, *rest)

    monkeypatch.setattr(Envelope, "limit", counted)
    for context in CONTEXTS:
        car.put(tracks=(walker(),) * 20, context=context)
    assert car.heed().accel_mps2 == -BRAKE_MPS2
    assert asked == [MAX_TRACKS]
    assert car.verdicts == ["heeded", "heeded", "no effect", "no effect", "no effect"]


def test_at_walking_pace_the_cars_own_eyes_are_enough(car):
    car.put(tracks=(walker(x=6.0, y=0.0, vy=0.0),), caps=(cap(speed=0.0, x=0.0),))
    assert car.heed(speed=LEAST_MPS) is GO
    assert car.heed(speed=LEAST_MPS + 0.1).accel_mps2 < 0.0


def test_a_cap_is_slowed_down_for_before_it_begins_and_not_after_it_has_ended(car):
    car.put(caps=(cap(speed=4.0, x=60.0, radius=10.0),))
    assert car.heed(x=0.0) is GO  # sqrt(4^2 + 2 x 1.5 x 50) is over 10 m/s
    near = car.heed(x=30.0)
    assert near.limited_by == ("advice_cap",)
    assert car.heed(x=55.0).accel_mps2 == -SOFT
    assert car.heed(x=75.0) is GO


def test_whom_the_car_sees_itself_it_knows_better_than_others(car):
    car.put(tracks=((0.0, 15.0, 0.5, 0.0, 4.5, 1.8, 1.5, 5.0, 0.0, 0.9),))
    assert car.heed() is not GO
    seen = scene_of(user(15.3, 0.0, vx=5.0))
    assert car.heed(scene=seen) is GO


def test_of_somebody_it_has_only_begun_to_see_the_car_does_not_know_yet_how_fast(car):
    car.put(tracks=(walker(x=15.0, y=-2.0, vy=1.5),))
    seen = scene_of(user(15.0, -2.0, vy=0.2, length=0.5, width=0.5))
    assert car.heed(scene=seen) is not GO


def test_a_pedestrian_close_behind_a_truck_is_not_taken_for_the_truck(car):
    car.put(tracks=(walker(x=25.0, y=-1.7, vy=1.0),))
    truck = scene_of(user(21.0, -3.0, length=8.0, width=2.5))
    assert car.heed(scene=truck).limited_by == ("advice_aeb",)


def test_others_see_the_car_itself_and_it_does_not_brake_for_that(car):
    car.put(tracks=((0.0, 1.4, 0.1, 0.0, 4.7, 1.9, 1.5, 10.0, 0.0, 0.9),))
    assert car.heed() is GO


def test_an_emergency_brake_of_the_car_stays_one(car):
    hard = replace(GO, accel_mps2=-8.0, limited_by=("aeb",))
    car.put(tracks=(walker(),), caps=(cap(x=5.0),))
    assert car.heed(hard) is hard


def test_a_fault_in_heeding_leaves_the_cars_own_command_and_is_counted(car, monkeypatch):
    monkeypatch.setattr(car.offboard._heeding, "limit", lambda *_: 1 / 0)
    car.put(tracks=(walker(),))
    assert car.heed() is GO
    assert car.offboard.counters["advice_faults"] == 1
    monkeypatch.undo()
    assert car.heed() is GO
    car.put(tracks=(walker(),))
    assert car.heed() is not GO


def test_a_writer_killed_in_the_middle_leaves_nothing_that_is_believed_and_the_next_one_heals(car):
    letter = car.far.letters[CONTEXTS.index("edge")]
    car.put(tracks=(walker(),))
    letter["seq"] |= 1
    car.far.words[1] += 1
    assert car.heed() is GO
    assert car.heed() is GO
    car.put(tracks=(walker(),))
    assert car.heed() is not GO


WRITER = """
import itertools, sys
from vehicle.contracts.advice import Advice
from vehicle.offboard import Mailbox, MailboxAddress
far = Mailbox.at(MailboxAddress(name=sys.argv[1]))
one = (0.0, *[1.0] * 9)
two = (0.0, *[2.0] * 9)
for i in itertools.count():
    n = i % 2
    far.put(
        Advice(request_id="12"[n] * 32, context="edge", site="12"[n], model_set="m",
               input_utc_ns=1, valid_until_utc_ns=2 + i, tracks=((one, two)[n],) * 32),
        proven=True, fresh_s=1.0)
"""


def test_a_letter_is_read_whole_or_not_at_all_while_another_process_writes(monkeypatch):
    with heard() as car:
        seen: list[set[float]] = []
        monkeypatch.setattr(
            "vehicle.offboard.usable",
            lambda letter, ego: seen.append({*letter["tracks"][:, 1], float(letter["site"])}),
        )
        monkeypatch.setattr("vehicle.offboard.judge", lambda **_: None)
        words = [sys.executable, "-c", WRITER, car.box.address.name]
        with subprocess.Popen(words) as writer:
            while len(seen) < 150 and writer.poll() is None:
                car.heed()
            assert writer.poll() is None
            writer.kill()
        assert all(len(values) == 1 for values in seen)
        assert {float(value) for values in seen for value in values} == {1.0, 2.0}


# --- whatever it says

FINITE = st.floats(-1e5, 1e5)
ROWS = st.lists(st.tuples(st.integers(0, 11).map(float), *[FINITE] * 9), max_size=MAX_TRACKS).map(
    tuple
)
CAPS = st.lists(st.builds(cap, st.floats(0, 100), FINITE, st.floats(0.1, 10_000)), max_size=8).map(
    tuple
)
COMMANDS = st.builds(
    lambda a, c, h: ControlCommand(
        frame_id=1, mono_ns=1, accel_mps2=a, curvature_1pm=c, hazard_lights=h
    ),
    st.floats(-8, 2.5),
    st.floats(-0.2, 0.2),
    st.booleans(),
)


def is_more_careful(found: ControlCommand, own: ControlCommand, speed: float) -> bool:
    """Return whether a command only brakes more than the car's own, and within bounds."""
    same = replace(found, accel_mps2=own.accel_mps2, limited_by=own.limited_by) == own
    least = own.accel_mps2 if speed <= LEAST_MPS else min(own.accel_mps2, -BRAKE_MPS2)
    kept = found.limited_by[: len(own.limited_by)] == own.limited_by
    named = found is own or len(found.limited_by) > len(own.limited_by)
    return same and kept and named and least <= found.accel_mps2 <= own.accel_mps2


@settings(deadline=None, max_examples=150)
@given(ROWS, CAPS, COMMANDS, st.floats(-3, 40), st.floats(-3.2, 3.2), st.sampled_from(CONTEXTS))
def test_true_or_false_it_never_speeds_up_steers_or_takes_back(
    rows, caps, command, speed, yaw, context
):
    with heard() as car:
        car.put(tracks=rows, caps=caps, context=context)
        scene = scene_of(user(15.0, 1.0, vx=2.0))
        found = car.heed(command, speed, yaw=yaw, scene=scene)
        assert is_more_careful(found, command, speed)
        assert car.offboard.counters["advice_faults"] == 0


@settings(deadline=None, max_examples=150)
@given(st.binary(min_size=LETTER.itemsize, max_size=LETTER.itemsize), COMMANDS, st.booleans())
def test_nor_does_any_garbage_in_the_memory(data, command, plausible):
    with heard() as car:
        letter = np.frombuffer(data, LETTER)[0].copy()
        if plausible:  # past the first checks
            now_ns = car.clock.utc_ns()
            letter["proven"], letter["tracks_n"], letter["caps_n"] = 1, 32, 8
            letter["input_utc_ns"] = now_ns
            letter["valid_until_utc_ns"] = letter["fresh_until_utc_ns"] = now_ns + S
        letter["seq"] = 2
        car.far.letters[0] = letter
        car.far.words[1] += 1
        assert is_more_careful(car.heed(command), command, 10.0)
        assert car.offboard.counters["advice_faults"] == 0


def test_memory_that_claims_more_than_it_has_is_torn(car):
    for name, value in (("tracks_n", 33), ("tracks_n", -1), ("caps_n", 9)):
        car.put(tracks=(walker(),))
        car.far.letters[CONTEXTS.index("edge")][name] = value
        assert car.heed() is GO
        assert car.verdicts == ["torn"]
    car.put(tracks=(walker(),))
    car.far.letters[CONTEXTS.index("edge")]["tracks"][0, 3] = np.nan
    assert car.heed() is GO
    assert car.verdicts == ["torn"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"tracks": (walker(),) * 33},
        {"tracks": (walker()[:9],)},
        {"tracks": ((0.5, *walker()[1:]),)},
        {"tracks": ((12.0, *walker()[1:]),)},
        {"tracks": ((1.0, np.inf, *walker()[2:]),)},
        {"tracks": (walker(x=2e6),)},
        {"caps": (cap(),) * 9},
        {"site": "a b"},
        {"context": "moon"},
        {"request_id": "1"},
        {"lives_s": -1.0, "age_s": 0.0},
        {"reason": "x" * 301},
    ],
)
def test_words_that_break_the_contract_are_no_advice(car, wrong):
    with pytest.raises(ContractError):
        car.advice(**wrong)


def test_tracks_become_rows_and_rows_tracks():
    tracks = tracks_of((walker(), walker(x=5.0)))
    assert tracks["x_m"].tolist() == [20.0, 5.0]
    again = tracks_of(rows_of(tracks))
    assert np.array_equal(again[list(ADVISED_COLUMNS)], tracks[list(ADVISED_COLUMNS)])


def test_a_mailbox_that_is_gone_is_named(car):
    address = car.box.address
    car.box.close()
    car.far.close()
    with pytest.raises(NoMailboxError, match="gone"):
        Mailbox.at(address)
