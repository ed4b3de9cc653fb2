"""Exact questions to the degrade ladder and the tick's clock, asked on both sides of every edge.

Each check takes the names of `vehicle.fallback` or `vehicle.budget`: the real ones, or a mutant's.
"""

from collections.abc import Callable
from typing import Any

from vehicle.clock import FakeClock
from vehicle.contracts.telemetry import STAGE_BUDGET_US, TICK_BUDGET_US

S = 1_000_000_000


def config(m: Any) -> Any:
    return m.LadderConfig(
        coast_s=0.5, hold_s=0.25, recover_ticks=3, probe_s=0.5, probe_most_s=3.0, settle_s=8.0,
        fits_ratio=0.75, doubt_ratio=4.0,
    )  # fmt: skip


def step(m: Any, ladder: Any, outcome: str, at_ns: int = 0, cost: Any = None) -> Any:
    return m.step(ladder, outcome, at_ns, config(m), cost)


def the_defaults_are_the_documented_ones(m: Any) -> None:
    c, ladder = m.LadderConfig(), m.Ladder()
    assert (c.coast_s, c.hold_s, c.recover_ticks) == (0.5, 0.5, 5)
    assert (c.probe_s, c.probe_most_s, c.settle_s, c.fits_ratio) == (0.5, 64.0, 10.0, 0.9)
    assert c.doubt_ratio == 16.0
    assert (ladder.wait_s, ladder.full_ratio, ladder.halves) == (0.0, 2.0, False)


def silence_goes_down_at_its_times(m: Any) -> None:
    for outcome in ("late", "failed"):
        first = step(m, m.Ladder(good_ticks=2), outcome, 7)
        assert (first.rung, first.bad_since_ns, first.good_ticks) == ("coast", 7, 0)
        for after_ns, rung in (
            (S // 2 - 1, "coast"), (S // 2, "hold_plan"), (3 * S // 4 - 1, "hold_plan"),
            (3 * S // 4, "mrm"),
        ):  # fmt: skip
            later = step(m, m.Ladder(rung="coast", bad_since_ns=S), outcome, S + after_ns)
            assert (later.rung, later.bad_since_ns) == (rung, S), after_ns


def silence_never_leads_up(m: Any) -> None:
    assert step(m, m.Ladder(rung="hold_plan"), "late").rung == "hold_plan"
    assert step(m, m.Ladder(rung="fewer_cameras"), "failed").rung == "coast"
    assert m.worse("full", "mrm") == m.worse("mrm", "full") == "mrm"


def nobody_leaves_a_minimal_risk_manoeuvre(m: Any) -> None:
    for outcome in ("fresh", "half", "partial", "late", "failed"):
        ladder = m.Ladder(rung="mrm", good_ticks=9, halves=True)
        assert step(m, ladder, outcome, 9 * S).rung == "mrm"


def the_way_up_takes_as_many_answers_as_it_says(m: Any) -> None:
    for good, rung, left in ((0, "coast", 1), (1, "coast", 2), (2, "full", 0)):
        up = step(m, m.Ladder(rung="coast", bad_since_ns=5, good_ticks=good), "fresh")
        assert (up.rung, up.good_ticks, up.bad_since_ns) == (rung, left, None)
    assert step(m, m.Ladder(rung="coast", good_ticks=2), "partial").rung == "fewer_cameras"
    assert step(m, m.Ladder(rung="coast", good_ticks=2, halves=True), "fresh").rung == (
        "fewer_cameras"
    )
    assert step(m, m.Ladder(rung="coast", good_ticks=2, halves=True), "half").rung == (
        "fewer_cameras"
    )
    assert step(m, m.Ladder(rung="fewer_cameras", good_ticks=2), "fresh").rung == "full"
    assert step(m, m.Ladder(rung="fewer_cameras", good_ticks=1), "fresh").rung == "fewer_cameras"
    held = step(m, m.Ladder(rung="hold_plan", good_ticks=0), "fresh")
    assert (held.rung, held.good_ticks) == ("coast", 1)


def fewer_cameras_are_a_rung_at_once(m: Any) -> None:
    for outcome in ("partial", "half"):
        down = step(m, m.Ladder(good_ticks=2), outcome)
        assert (down.rung, down.good_ticks) == ("fewer_cameras", 0)
    assert step(m, m.Ladder(rung="fewer_cameras", good_ticks=1), "partial").good_ticks == 0
    assert step(m, m.Ladder(rung="fewer_cameras", good_ticks=1), "half").good_ticks == 2
    full = step(m, m.Ladder(good_ticks=1), "fresh")
    assert (full.rung, full.good_ticks) == ("full", 0)


def only_a_late_answer_to_all_cameras_asks_for_half_of_them(m: Any) -> None:
    able = m.Ladder(halves=True, wait_s=0.25, good_ticks=2)
    asked = step(m, able, "late", 2 * S)
    assert (asked.ask, asked.wait_s, asked.probe_ns) == ("half", 0.5, 2 * S + S // 2)
    assert asked.good_ticks == 0
    assert step(m, able, "failed", 2 * S).ask == "full"
    assert step(m, m.Ladder(), "late", 2 * S).ask == "full"
    half = m.Ladder(halves=True, ask="half", wait_s=0.25, probe_ns=3 * S)
    again = step(m, half, "late", 2 * S)
    assert (again.ask, again.wait_s, again.probe_ns) == ("half", 0.25, 3 * S)


def the_wait_doubles_while_full_does_not_settle(m: Any) -> None:
    def late(wait_s: float, after_ns: int) -> float:
        ladder = m.Ladder(halves=True, wait_s=wait_s, full_since_ns=S)
        return float(step(m, ladder, "late", S + after_ns).wait_s)

    assert late(1.0, 8 * S - 1) == 2.0
    assert late(1.0, 8 * S) == 0.5
    assert late(1.0, 0) == 2.0
    assert late(1.5, S) == 3.0
    assert late(2.0, S) == 3.0


def all_cameras_are_asked_for_when_steady_and_not_before(m: Any) -> None:
    def ask(rung: str = "fewer_cameras", good: int = 2, probe_ns: int = 0, at_ns: int = S) -> str:
        ladder = m.Ladder(rung=rung, ask="half", good_ticks=good, probe_ns=probe_ns, halves=True)
        return str(step(m, ladder, "half", at_ns).ask)

    assert ask() == "full"
    assert ask(good=1) == "half"
    assert ask(good=3) == "full"
    assert ask(probe_ns=S) == "full"
    assert ask(probe_ns=S + 1) == "half"
    assert ask(rung="coast") == "half"
    ladder = m.Ladder(rung="fewer_cameras", ask="half", good_ticks=2, halves=True)
    asked = step(m, ladder, "half", S)
    assert (asked.full_since_ns, asked.good_ticks) == (S, 0)


def all_cameras_must_be_expected_to_fit(m: Any) -> None:
    """Twice 375 us is just 0.75 of 1,000; where they do not fit they wait until doubt is due."""
    for half_us, doubt_ns, asked in (
        (375.0, S + 1, "full"), (376.0, S + 1, "half"), (374.0, S + 1, "full"),
        (376.0, S, "full"), (376.0, S - 1, "full"), (375.0, S, "full"),
    ):  # fmt: skip
        ladder = m.Ladder(
            rung="fewer_cameras", ask="half", good_ticks=2, halves=True, doubt_ns=doubt_ns
        )
        cost = m.Cost(took_us=half_us, room_us=1000.0)
        assert step(m, ladder, "half", S, cost).ask == asked, (half_us, doubt_ns)


def doubt_waits_longer_than_hope_and_not_for_ever(m: Any) -> None:
    def asked(wait_s: float) -> tuple[float, float]:
        ladder = m.Ladder(halves=True, wait_s=wait_s, full_since_ns=0)
        down = step(m, ladder, "late", S)
        return (down.probe_ns - S) / S, (down.doubt_ns - S) / S

    assert asked(0.25) == (0.5, 2.0)
    assert asked(0.5) == (1.0, 3.0)


def the_price_of_all_cameras_is_learnt_on_the_way_up(m: Any) -> None:
    def learnt(
        outcome: str = "fresh", since: int | None = 5, rung: str = "fewer_cameras",
        half_us: float = 100.0, took_us: float = 250.0, priced: bool = True,
    ) -> float:  # fmt: skip
        ladder = m.Ladder(rung=rung, halves=True, half_us=half_us, full_since_ns=since)
        cost = m.Cost(took_us=took_us, room_us=9e9) if priced else None
        return float(step(m, ladder, outcome, S, cost).full_ratio)

    assert learnt() == 2.5
    assert learnt(took_us=50.0) == 1.0
    assert learnt(half_us=0.5, took_us=3.0) == 3.0
    for told in ({"outcome": "half"}, {"outcome": "partial"}, {"rung": "coast"}, {"rung": "full"}):
        assert learnt(**told) == 2.0, told
    assert learnt(since=None) == 2.0
    assert learnt(half_us=float("nan")) == 2.0
    assert learnt(priced=False) == 2.0


def a_cost_is_believed_at_once_when_it_rises_and_slowly_when_it_falls(m: Any) -> None:
    def cost(before: float, took: float) -> float:
        ladder = m.Ladder(rung="fewer_cameras", ask="half", halves=True, half_us=before)
        return float(step(m, ladder, "half", 0, m.Cost(took_us=took, room_us=9e9)).half_us)

    assert cost(float("nan"), 100.0) == 100.0
    assert cost(100.0, 200.0) == 200.0
    assert cost(200.0, 100.0) == 190.0
    assert cost(100.0, 100.0) == 100.0


def the_clock_of_a_tick(m: Any) -> None:
    clock = FakeClock()
    budget = m.Budget(enforce=True, clock=clock)
    clock.advance_ns(5_000_000)
    begun = clock.mono_ns()
    budget.begin(4, begun - 2_000_000)
    assert budget.inference_deadline_ns is not None
    room = (budget.inference_deadline_ns - begun) / 1000
    assert abs(budget.inference_room_us - room) < 1e-6
    after = sum(STAGE_BUDGET_US[s] for s in ("track", "plan", "control"))
    left = TICK_BUDGET_US - after - m.WAKE_MARGIN_US
    assert budget.inference_deadline_ns == begun - 2_000_000 + left * 1000
    clock.advance_ns(3_000_000)
    budget.mark("plan")
    clock.advance_ns(1_000_000)
    budget.mark("plan")
    budget.charge({"decode": 400.0, "inference": 1000.4})
    budget.command_left()
    timing = budget.timing("full", False)
    assert timing.stage_us == {"plan": 4000, "track": 400, "inference": 1000}
    assert (timing.total_us, timing.release_mono_ns) == (6000, begun - 2_000_000)
    idle = m.Budget(enforce=False, clock=clock)
    idle.begin(5)
    assert idle.inference_deadline_ns is None
    assert idle.inference_room_us is None
    clock.advance_ns(1_000)
    idle.command_left()
    assert idle.timing("full", False).total_us == 1


def a_stage_is_late_beyond_its_budget_not_at_it(m: Any) -> None:
    clock = FakeClock()
    for over_us, late in ((0, ()), (1, ("plan",))):
        budget = m.Budget(enforce=True, clock=clock)
        budget.begin(1)
        budget.charge({"plan": STAGE_BUDGET_US["plan"] + over_us})
        assert tuple(x.stage for x in budget.misses(budget.timing("full", False))) == late
        budget.begin(2)
        clock.advance_ns((TICK_BUDGET_US + over_us) * 1000)
        budget.command_left()
        missed = budget.misses(budget.timing("full", False))
        assert tuple(x.stage for x in missed) == (("tick",) if over_us else ())


BUDGET: tuple[Callable[[Any], None], ...] = (
    the_clock_of_a_tick,
    a_stage_is_late_beyond_its_budget_not_at_it,
)
LADDER: tuple[Callable[[Any], None], ...] = tuple(
    v
    for v in list(globals().values())
    if getattr(v, "__annotations__", {}) == {"m": Any, "return": None} and v not in BUDGET
)
