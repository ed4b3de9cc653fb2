"""The ladder goes down at once and up slowly."""

import numpy as np
import pytest

from vehicle.config import RIG_R
from vehicle.contracts.frame import FrameSet
from vehicle.fallback import FrameMender, Ladder, LadderConfig, Outcome, step

TICK_NS = 100_000_000


def climb(outcomes: str, config: LadderConfig | None = None) -> list[str]:
    words: dict[str, Outcome] = {"f": "fresh", "p": "partial", "l": "late", "x": "failed"}
    ladder, rungs = Ladder(), []
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


@pytest.mark.parametrize("name", ["front_wide", "rear_left"])
def test_the_last_image_of_a_camera_stands_in_for_a_while_only(name: str) -> None:
    images = {c.name: np.full((c.height_px, c.width_px, 3), 9, np.uint8) for c in RIG_R.cameras}
    mender = FrameMender(RIG_R, keep_s=0.25)
    whole = FrameSet(frame_id=0, mono_ns=0, images=images)
    assert mender.mend(whole) == (whole, {})
    lost = {k: v for k, v in images.items() if k != name}
    for i, kept in ((1, True), (2, True), (3, False)):
        frame, faults = mender.mend(FrameSet(frame_id=i, mono_ns=i * TICK_NS, images=lost))
        assert faults == {name: "no image"}
        assert (name in frame.images) == kept
