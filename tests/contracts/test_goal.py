"""A goal checks itself at birth."""

import math

import numpy as np
import pytest

from vehicle.contracts.goal import Goal
from vehicle.contracts.wire import ContractError

SQUARE = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])


def test_goal_may_be_a_time_alone() -> None:
    goal = Goal(from_s=1.0, to_s=1.0)
    assert goal.regions_m == ()
    assert goal.speed_mps is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"regions_m": (SQUARE[:2],)}, r"regions_m\[0\] has shape"),
        ({"regions_m": (SQUARE, SQUARE * math.nan)}, r"regions_m\[1\] is not finite"),
        ({"from_s": 3.0}, "from_s is 3.0, expected at most to_s"),
        ({"to_s": math.inf}, "to_s is inf"),
        ({"speed_mps": (5.0, 4.0)}, "speed_mps is .* expected .least, most."),
        ({"speed_mps": (math.nan, 4.0)}, "least is nan"),
        ({"yaw_rad": (-4.0, 4.0)}, "over a turn"),
    ],
)
def test_impossible_goal_is_refused_by_field(change: dict[str, object], said: str) -> None:
    usual = {"regions_m": (SQUARE,), "from_s": 1.0, "to_s": 2.0, "speed_mps": (0.0, 9.0)}
    with pytest.raises(ContractError, match=said):
        Goal(**{**usual, **change})  # type: ignore[arg-type]
