import pytest
from hypothesis import given
from hypothesis import strategies as st

from vehicle.contracts.wire import ContractError
from vehicle.restart import Past, RestartPolicy, died, refused, started

S = 1_000_000_000
POLICY = RestartPolicy(first_wait_s=0.1, longest_wait_s=1.0, deaths=4, window_s=10.0)


def lived(gaps_s: list[float], policy: RestartPolicy = POLICY) -> tuple[Past, list[Past], int]:
    """Let a part die after each gap, started at once when due; return the pasts."""
    past, pasts, now_ns = Past(), [], 0
    for gap_s in gaps_s:
        now_ns += round(gap_s * S)
        past = died(past, "code -9", now_ns, policy)
        pasts.append(past)
        if past.due_ns is None:
            break
        now_ns = past.due_ns
        past = started(past)
    return past, pasts, now_ns


def test_first_death_is_answered_at_once_and_further_ones_ever_later():
    _, pasts, _ = lived([20.0, 1.0, 1.0])
    waits = [round((p.due_ns - p.deaths_ns[-1]) / S, 3) for p in pasts]
    assert waits == [0.1, 0.2, 0.4]


def test_part_that_keeps_dying_is_given_up_and_says_so():
    past, _, _ = lived([0.0] * 9)
    assert past.restarts == 3
    assert past.due_ns is None
    assert past.gave_up == "given up after 4 deaths in 10 s, the last: code -9"


def test_part_that_refuses_its_settings_is_not_started_again():
    past = refused(Past(), "no such bundle")
    assert (past.due_ns, past.gave_up) == (None, "not started again: no such bundle")


@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=30))
def test_waits_stay_bounded_and_whoever_lives_long_enough_is_never_given_up(gaps_s):
    past, pasts, _ = lived(gaps_s)
    for each in pasts:
        if each.due_ns is not None:
            assert 0.1 * S <= each.due_ns - each.deaths_ns[-1] <= 1.0 * S
        assert len(each.deaths_ns) <= POLICY.deaths
        assert each.deaths_ns[-1] - each.deaths_ns[0] < POLICY.window_s * S
    assert bool(past.gave_up) == (len(pasts[-1].deaths_ns) == POLICY.deaths)
    if min(gaps_s) > POLICY.window_s:
        assert past.restarts == len(gaps_s)


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=30))
def test_never_more_starts_in_a_window_than_the_policy_allows(gaps_s):
    past, pasts, _ = lived(gaps_s)
    starts = [p.due_ns for p in pasts if p.due_ns is not None]
    for start in starts:
        assert (
            sum(start <= other < start + POLICY.window_s * S for other in starts) <= POLICY.deaths
        )
    assert past.restarts == len(starts)


@pytest.mark.parametrize("wrong", [{"deaths": 0}, {"first_wait_s": -1.0}, {"longest_wait_s": 0.01}])
def test_policy_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ContractError):
        RestartPolicy(**wrong)
