"""A breaker over made-up time."""

from fleet.inference.breaker import NS, Breaker


def test_it_opens_after_failures_in_a_row_and_lets_one_try_when_the_while_is_over() -> None:
    breaker, now = Breaker(), 0
    for _ in range(2):
        breaker.failed(now)
    breaker.answered()
    for _ in range(2):
        breaker.failed(now)
    assert breaker.state(now) == "closed"
    breaker.failed(now)
    assert (breaker.state(now), breaker.allows(now), breaker.opened) == ("open", False, 1)
    now += NS // 2
    assert (breaker.state(now), breaker.allows(now)) == ("half open", True)
    breaker.asked()
    assert not breaker.allows(now)
    breaker.answered()
    assert breaker.state(now) == "closed"


def test_each_failed_try_doubles_the_while_up_to_a_limit() -> None:
    breaker, now = Breaker(failures=1, longest_ns=3 * NS), 0
    waits = []
    for _ in range(5):
        breaker.failed(now)
        began = now
        while not breaker.allows(now):
            now += NS // 4
        waits.append((now - began) / NS)
        breaker.asked()
    assert waits == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_try_that_was_taken_back_leaves_room_for_another() -> None:
    breaker = Breaker(failures=1)
    breaker.failed(0)
    breaker.asked()
    breaker.withdrawn()
    assert breaker.allows(NS)


def test_failures_of_what_was_asked_before_it_opened_do_not_prolong_it() -> None:
    breaker = Breaker(failures=1)
    for _ in range(6):
        breaker.failed(0)
    assert breaker.allows(NS // 2)
