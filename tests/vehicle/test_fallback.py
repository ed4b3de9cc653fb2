"""The ladder goes down at once and up slowly."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from vehicle.contracts.plan import RUNGS
from vehicle.fallback import Cost, Ladder, LadderConfig, Outcome, step

TICK_NS = 100_000_000


WORDS: dict[str, Outcome] = {
    **{"f": "fresh", "p": "partial", "h": "half", "l": "late", "x": "failed"}
}


def climb(outcomes: str, config: LadderConfig | None = None, halves: bool = False) -> list[str]:
    words = WORDS
    ladder, rungs = Ladder(halves=halves), []
    for i, letter in enumerate(outcomes):
        ladder = step(ladder, words[letter], i * TICK_NS, config or LadderConfig())
        rungs.append(ladder.rung)
    return rungs


def test_answers_in_time_stay_on_the_best_rung() -> None:
    assert climb("fffff") == ["full"] * 5


def test_silence_goes_down_every_rung_in_order() -> None:
    assert climb("f" + "l" * 12) == ["full"] + ["coast"] * 5 + ["hold_plan"] * 5 + ["mrm"] * 2


def test_one_late_answer_is_forgiven_after_five_good_ones() -> None:
    assert climb("lfffff") == ["coast"] * 5 + ["full"]


def test_lost_cameras_are_their_own_rung_both_ways() -> None:
    assert climb("fppfffff") == ["full"] + ["fewer_cameras"] * 6 + ["full"]


def test_from_holding_the_plan_the_first_answer_leads_back_to_planning() -> None:
    assert climb("x" * 7 + "f" * 5)[6:] == ["hold_plan"] + ["coast"] * 4 + ["full"]


def test_every_second_answer_late_keeps_coasting_and_never_stops_the_car() -> None:
    assert set(climb("lf" * 30)) == {"coast"}


def test_a_minimal_risk_manoeuvre_is_never_left_by_itself() -> None:
    assert climb("x" * 11 + "f" * 20)[-1] == "mrm"


def test_with_half_the_cameras_the_way_back_takes_every_rung() -> None:
    rungs = climb("l" + "h" * 10 + "f" * 5, halves=True)
    assert rungs == ["coast"] * 5 + ["fewer_cameras"] * 10 + ["full"]


@dataclass
class Core:
    """A core on which a frame costs `full_us` or `half_us`, cut off after `room_us`."""

    full_us: float
    half_us: float
    room_us: float = 7_000.0

    def drive(self, ladder: Ladder, first: int, ticks: int) -> tuple[Ladder, str]:
        """Return the ladder after `ticks`, and a letter per tick: f, h, or l for late."""
        letters = ""
        for i in range(first, first + ticks):
            took = self.full_us if ladder.ask == "full" else self.half_us
            letter = "l" if took > self.room_us else "f" if ladder.ask == "full" else "h"
            cost = Cost(took_us=min(took, self.room_us), room_us=self.room_us)
            ladder = step(ladder, WORDS[letter], i * 27_777_778, LadderConfig(), cost)
            letters += letter
        return ladder, letters


def test_a_slow_core_settles_on_half_the_cameras_and_recovers_with_the_core() -> None:
    start = Ladder(halves=True, full_ratio=1.7)
    ladder, letters = Core(8_600.0, 5_000.0).drive(start, 0, 2_000)
    assert letters.strip("lh") == ""
    assert letters.count("l") == 3, "8.5 ms do not fit into 7: tried after 8 s and 24 s"
    assert "ll" not in letters
    assert ladder.ask == "half"
    ladder, letters = Core(4_300.0, 2_500.0).drive(ladder, 2_000, 200)
    assert letters.strip("hf") == ""
    assert letters.endswith("f" * 150)
    assert ladder.rung == "full"


def test_a_price_that_was_wrong_does_not_keep_the_car_on_half_its_cameras() -> None:
    ladder, letters = Core(9_000.0, 5_000.0).drive(Ladder(halves=True, full_ratio=1.7), 0, 20)
    ladder, letters = Core(5_500.0, 5_000.0).drive(ladder, 20, 36 * 12)
    assert letters.strip("hf") == ""
    assert letters.endswith("f" * 36 * 3)
    assert ladder.full_ratio < 1.2, "and the price is known from then on"
    ladder, _ = Core(9_000.0, 5_000.0).drive(ladder, 2_000, 1)
    ladder, letters = Core(5_500.0, 5_000.0).drive(ladder, 2_001, 72)
    assert letters.endswith("f" * 36)


def test_a_core_that_promises_too_much_is_tried_ever_more_rarely() -> None:
    quarter = 36 * 900
    ladder, letters = Core(7_200.0, 3_000.0).drive(Ladder(halves=True), 0, quarter)
    assert letters.count("l") < 25
    assert letters.count("l") == letters.count("lh")
    assert "f" not in letters
    assert ladder.rung in ("coast", "fewer_cameras")


def test_a_hiccup_costs_a_second_and_is_forgotten() -> None:
    ladder, _ = Core(4_300.0, 2_500.0).drive(Ladder(halves=True), 0, 100)
    for start in (100, 1_000, 2_000):
        ladder, _ = Core(9_000.0, 2_500.0).drive(ladder, start, 1)
        ladder, letters = Core(4_300.0, 2_500.0).drive(ladder, start + 1, 800)
        assert letters.index("f") < 36
        assert letters[36:].strip("f") == ""


outcomes = st.lists(st.sampled_from("fphlx"), max_size=120)
cores = st.lists(
    st.tuples(st.floats(500.0, 30_000.0), st.floats(0.3, 1.0), st.integers(1, 90)), max_size=8
)


@given(outcomes, st.booleans())
def test_the_ladder_never_skips_a_rung_on_the_way_up(letters: list[str], halves: bool) -> None:
    rungs = [RUNGS.index(r) for r in climb("".join(letters), halves=halves)]  # type: ignore[arg-type]
    for letter, before, after in zip(letters[1:], rungs, rungs[1:], strict=False):
        skipped = RUNGS[after] == "full" and RUNGS[before] == "coast" and not halves
        assert before - after <= (2 if skipped and letter == "f" else 1)


@given(outcomes, st.booleans())
def test_a_minimal_risk_manoeuvre_is_for_good_and_only_after_silence(
    letters: list[str], halves: bool
) -> None:
    rungs = climb("".join(letters), halves=halves)
    if "mrm" in rungs:
        first = rungs.index("mrm")
        assert set(rungs[first:]) == {"mrm"}
        assert set(letters[first - 10 : first + 1]) <= {"l", "x"}, "ten ticks are a second"


@given(outcomes, st.booleans(), st.sampled_from("lx"))
def test_where_nothing_answers_the_car_stops_within_its_time(
    letters: list[str], halves: bool, silence: str
) -> None:
    config = LadderConfig()
    ticks = 1 + round((config.coast_s + config.hold_s) * 1e9 / TICK_NS)
    assert climb("".join(letters) + silence * ticks, halves=halves)[-1] == "mrm"


@given(cores)
def test_on_any_core_that_manages_half_the_cameras_the_car_keeps_seeing(
    phases: list[tuple[float, float, int]],
) -> None:
    ladder, first = Ladder(halves=True, full_ratio=1.6), 0
    for full_us, ratio, ticks in phases:
        half_us = min(full_us * ratio, 6_000.0)
        ladder, letters = Core(full_us, half_us).drive(ladder, first, ticks)
        assert "ll" not in letters
        assert ladder.rung in ("full", "fewer_cameras", "coast")
        first += ticks
