"""Triggers fire when their condition holds long enough, and then keep quiet."""

import math
from typing import Any

import numpy as np
import pytest
from trigger_parts import Ticks, fired, observed, plan_of, scene_of, signal, timed

from vehicle.contracts.campaign import FAMILIES, Campaign, TriggerSpec
from vehicle.contracts.wire import ContractError
from vehicle.lookout import Lookout
from vehicle.novelty import Novelty

LATE = 20_000

CASES: dict[str, tuple[float, list[dict[str, Any]], list[int]]] = {
    "hard_brake": (3.5, [{"accel": a} for a in (0, -3.4, -3.5, -6, 0)], [2, 3]),
    "harsh_steer": (4.0, [{"yaw_rate": w} for w in (0, 0.39, 0.4, -0.5, 0)], [2, 3]),
    "ttc": (1.5, [{"gap": g} for g in (40, 20, 16, 14, 12)], [3, 4]),
    "rss": (0.0, [{"gap": g} for g in (60, 30, 8, 5, 60)], [2, 3]),
    "human_disagreement": (2.0, [{"engaged": False, "planned": 8.0}] * 18, [15, 16, 17]),
    "shadow_disagreement": (0.5, [{}] * 5, [2, 3]),
    "flicker": (0.5, [{"gap": 9, "lost": n} for n in ((), (), (7,), (7,), (), ())], [4, 5]),
    "uncertainty": (0.6, [{"doubt": d} for d in (0.1, 0.7, 0.5, 0.6)], [1, 3]),
    "novelty": (1.0, [{"embedding": e} for e in ((3, 0), (2, 0), (0, 1), (), (3, 2))], [2, 4]),
    "deadline_miss": (2, [{"took_us": t} for t in (LATE, 1, LATE, LATE, 1)], [3]),
    "rung": (2, [{"rung": r} for r in ("full", "fewer_cameras", "coast", "hold_plan")], [2, 3]),
    "mrm": (0, [{"rung": r} for r in ("full", "hold_plan", "mrm")], [2]),
    "takeover": (0, [{"engaged": e} for e in (None, False, True, True, False, False)], [4]),
    "bookmark": (0, [{"engaged": True, "bookmark": b} for b in (False, True, False)], [1]),
    "random": (0.5, [{}] * 9, [1, 5]),
}
"""Family -> threshold, ticks, and the frames at which it must fire."""


@pytest.mark.parametrize("kind", CASES)
def test_a_family_fires_where_its_condition_holds_and_nowhere_else(kind: str) -> None:
    threshold, ticks, frames = CASES[kind]
    spec = TriggerSpec(name=kind, kind=kind, threshold=threshold, min_interval_s=0.0)
    scores = {0: 0.1, 2: 0.7, 4: 0.4}
    assert fired(spec, ticks, scores, known=((3.0, 0.0),)) == frames


def test_every_family_has_a_case() -> None:
    assert set(CASES) == set(FAMILIES)


@pytest.mark.parametrize("kind", [k for k in CASES if k not in ("random", "rung", "deadline_miss")])
def test_a_family_keeps_quiet_where_nothing_is_known(kind: str) -> None:
    blank = {"lame": True, "blind": True, "planless": True}
    spec = TriggerSpec(name=kind, kind=kind, threshold=CASES[kind][0], min_interval_s=0.0)
    assert fired(spec, [blank] * 25) == []


def test_an_own_expression_is_a_trigger() -> None:
    when = "rises(tracks(range_m < 15) >= 1) then accel_mps2 <= -3 within 2 s"
    spec = TriggerSpec(name="own", kind="expression", when=when)
    ticks = [{"gap": 40}, {"gap": 8}, {"gap": 8}, {"gap": 8, "accel": -3.5}]
    assert fired(spec, ticks) == [3]
    assert fired(spec, [*ticks[:3], *[{"gap": 8}] * 19, {"gap": 8, "accel": -3.5}]) == []


def test_an_event_says_what_was_measured_against_what() -> None:
    spec = TriggerSpec(name="b", kind="hard_brake", threshold=3.5)
    made = Campaign(campaign_id="c", triggers=(spec,), priority=4)
    (_, (event,)) = Ticks(made).run([{"accel": -4.25}])[0]
    assert (event.value, event.threshold, event.priority) == (-4.25, -3.5, 4)
    spec = TriggerSpec(name="n", kind="expression", when="not ttc_s < 2")
    (_, (event,)) = Ticks(Campaign(campaign_id="c", triggers=(spec,))).run([{"blind": True}])[0]
    assert (event.value, event.threshold) == (1.0, 1.0)  # nothing was measured


def test_doubt_must_last_for_its_hold_time() -> None:
    spec = TriggerSpec(name="u", kind="uncertainty", threshold=0.6, hold_s=0.3)
    short = [{"doubt": d} for d in (0.7, 0.7, 0.7, 0.1, 0.7, 0.7)]
    assert fired(spec, short) == []
    assert fired(spec, [{"doubt": 0.7}] * 6) == [3]


def test_a_gap_shorter_than_its_debounce_does_not_end_a_hold() -> None:
    ticks = [{"doubt": d} for d in (0.7, 0.7, 0.7, 0.1, 0.7, 0.7)]
    spec = {"name": "u", "kind": "uncertainty", "threshold": 0.6, "hold_s": 0.3}
    assert fired(TriggerSpec(**spec, debounce_s=0.1), ticks) == [4]
    longer = [*ticks[:3], {"doubt": 0.1}, {"doubt": 0.1}, {"doubt": 0.1}, *ticks[4:]]
    assert fired(TriggerSpec(**spec, debounce_s=0.1), longer) == []


def test_a_frame_the_network_did_not_see_is_no_doubt_of_it() -> None:
    spec = TriggerSpec(name="u", kind="uncertainty", threshold=0.6)
    assert fired(spec, [{"doubt": math.nan}] * 3) == []


def test_quiet_time_passes_before_it_fires_again() -> None:
    spec = TriggerSpec(name="b", kind="hard_brake", threshold=3.0, min_interval_s=1.0)
    assert fired(spec, [{"accel": -4.0}] * 25) == [0, 10, 20]


def test_a_campaign_begins_no_more_clips_an_hour_than_it_may() -> None:
    spec = TriggerSpec(
        name="b", kind="hard_brake", threshold=3.0, pre_s=1.0, post_s=1.0, min_interval_s=0.0
    )
    brakes = [{"accel": -4.0 if i in (0, 5, 100, 200, 205) else 0.0} for i in range(210)]
    assert fired(spec, brakes, max_clips_per_hour=2) == [0, 5, 100]  # the second is in one clip
    made = Campaign(campaign_id="c", triggers=(spec,), max_clips_per_hour=2)
    ticks = Ticks(made)
    ticks.run(brakes)
    assert ticks.lookout.triggers.passed == {"c": 2}


def test_campaigns_fire_beside_each_other_each_under_its_own_name() -> None:
    spec = TriggerSpec(name="b", kind="hard_brake", threshold=3.0)
    slow = Campaign(campaign_id="slow", triggers=(spec,), max_clips_per_hour=1, priority=1)
    fast = Campaign(campaign_id="fast", triggers=(spec,), priority=9)
    found = Ticks(slow, fast).run([{"accel": -4.0}] * 120)
    names = [(e.frame_id, e.campaign_id, e.priority) for _, events in found for e in events]
    assert names == [(0, "slow", 1), (0, "fast", 9), (100, "fast", 9)]


def test_everything_begins_anew_where_time_runs_backwards() -> None:
    spec = TriggerSpec(name="b", kind="hard_brake", threshold=3.0, hold_s=0.2)
    ticks = Ticks(Campaign(campaign_id="c", triggers=(spec,)))
    assert [bool(e) for _, e in ticks.run([{"accel": -4.0}] * 4)] == [False, False, True, False]
    assert [bool(e) for _, e in ticks.run([{"accel": -4.0}] * 4)] == [False, False, True, False]


def test_campaigns_a_tick_has_no_time_for_are_left_out_by_priority_and_named() -> None:
    when = " and ".join(["speed_mps > 1"] * 40)
    specs = tuple(TriggerSpec(name=f"t{i}", kind="expression", when=when) for i in range(20))
    low, big = (
        Campaign(campaign_id=name, triggers=specs, priority=i) for i, name in enumerate(("a", "b"))
    )
    small = Campaign(campaign_id="c", triggers=specs[:1])
    ticks = Ticks(low, big, small)
    (_, events) = ticks.run([{}])[0]
    assert {e.campaign_id for e in events} == {"b", "c"}
    assert list(ticks.lookout.triggers.left_out) == ["campaign a"]
    assert "20 triggers of 2420 nodes beside 20 of 2420" in str(ticks.lookout.triggers.left_out)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"kind": "expression"}, "expected an expression"),
        ({"kind": "ttc", "when": "mrm >= 1"}, "ttc says it already"),
        ({"kind": "expression", "when": "speed > 1"}, "did you mean speed_mps"),
        ({"kind": "ttc", "threshold": math.inf}, "threshold"),
        ({"kind": "ttc", "hold_s": -1.0}, "hold_s"),
    ],
)
def test_a_trigger_that_cannot_be_evaluated_is_refused_at_birth(
    spec: dict[str, Any], says: str
) -> None:
    with pytest.raises(ContractError, match=says):
        TriggerSpec(name="t", **spec)


def test_a_plan_of_one_and_a_half_seconds_before_is_what_a_human_is_measured_by() -> None:
    gaps = signal("human_gap_m", [{"engaged": False, "planned": 8.0}] * 18)
    assert gaps[:15] == [None] * 15
    assert gaps[15:] == pytest.approx([3.0] * 3)
    assert set(signal("human_gap_m", [{"engaged": True, "planned": 8.0}] * 18)) == {None}


def test_a_track_that_comes_and_goes_is_a_flicker_for_a_second() -> None:
    both = {"ids": (7, 8), "gap": 9}
    ticks = [both, {**both, "lost": (8,)}, *[both] * 13]
    assert signal("flicker_ratio", ticks) == [0.0] * 2 + [0.5] * 11 + [0.0] * 2
    one = {"ids": (7,), "gap": 9}
    ghost = [one, {"ids": (7, 9), "gap": 9}, *[one] * 12]
    assert signal("flicker_ratio", ghost) == [0.0] * 2 + [0.5] * 10 + [0.0] * 2


def test_a_wall_clock_nobody_waits_for_is_no_signal() -> None:
    lookout = Lookout(car_id="c", route_id="r", campaigns=(), rate_hz=10.0, timed=False)
    late = timed(0, {"took_us": LATE})
    said, _ = lookout.notice(observed(0, {}), scene_of(0, {}), plan_of(0, {}), None, late)
    assert "missed" not in said
    assert "late_ticks" not in said


def test_a_draw_depends_on_car_route_and_frame_alone_and_is_fair() -> None:
    first, again = (signal("random_prob", [{}] * 400) for _ in range(2))
    assert first == again
    assert sum(p < 0.25 for p in first if p is not None) == pytest.approx(100, abs=30)


def test_novelty_counts_each_dimension_in_spreads_of_the_known_set() -> None:
    rng = np.random.default_rng(1)
    known = rng.normal((5.0, 0.0), (10.0, 1.0), (64, 2))
    novelty, frames = Novelty(known.tolist()), rng.normal((5.0, 0.0), (10.0, 1.0), (20, 2))
    spread = known.std(axis=0)
    for frame in frames:
        wanted = np.sqrt((((frame - known) / spread) ** 2).mean(axis=1)).min()
        assert novelty.of(frame) == pytest.approx(wanted, abs=1e-9)
    assert novelty.of(known[3]) == pytest.approx(0.0, abs=1e-6)
    assert math.isnan(novelty.of(np.zeros(3)))


def test_jerk_is_the_change_of_acceleration_over_three_tenths_of_a_second() -> None:
    jerks = signal("jerk_mps3", [{"accel": a} for a in (0.0, -0.5, -1.0, -1.5, -1.5, -1.5, -1.5)])
    assert jerks[0] is None
    assert jerks[1:] == pytest.approx([-5.0, -5.0, -5.0, -10.0 / 3, -5.0 / 3, 0.0])


def test_an_answer_of_the_shadow_is_forgotten_after_a_second() -> None:
    spec = TriggerSpec(name="s", kind="shadow_disagreement", threshold=0.5, min_interval_s=0.0)
    assert fired(spec, [{}] * 20, {3: 0.9}) == list(range(3, 14))
