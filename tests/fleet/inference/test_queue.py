"""Whose turn it is: against brute force, and turn by turn."""

import asyncio
import bisect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.inference.queue import NEVER, Job, Limits, Turns, first_late
from fleet.inference.refusals import (
    DroppedError,
    QueueFullError,
    StoppingError,
    WontFinishError,
)
from vehicle.clock import FakeClock

MS = 10**6


def job(deadline_ms: float, order: int, cost_ms: int) -> Job:
    return Job(deadline_ms * MS, order, cost_ms * MS, "t")


JOBS = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 20)), max_size=8)


@given(JOBS, st.tuples(st.integers(1, 60), st.integers(0, 20)), st.integers(0, 20))
def test_who_would_be_late_is_who_is_late_when_all_are_run(
    waiting: list[tuple[int, int]], newcomer: tuple[int, int], free_ms: int
) -> None:
    jobs = sorted(job(d, i, c) for i, (d, c) in enumerate(waiting))
    extra = job(newcomer[0], 99, newcomer[1])
    now, late = free_ms * MS, []
    for each in sorted([*jobs, extra]):
        now += each.cost_ns
        if now > each.deadline_ns and each >= extra:
            late.append(each)
    found = first_late(jobs, extra, free_ms * MS, 1)
    assert found is (late[0] if late else None)


ARRIVALS = st.lists(
    st.tuples(st.integers(0, 15), st.integers(1, 60), st.integers(1, 20)), max_size=25
)


@given(ARRIVALS)
def test_who_was_let_in_is_always_answered_in_time(arrivals: list[tuple[int, int, int]]) -> None:
    """Play arrivals (ms after the last one, ms until the deadline, ms of work) on one core."""
    waiting: list[Job] = []
    now, free = 0, 0
    for order, (after_ms, lasts_ms, cost_ms) in enumerate([*arrivals, (10_000, 1, 1)]):
        now += after_ms * MS
        while waiting and free <= now:
            free = max(free, waiting[0].began_ns) + waiting[0].cost_ns
            assert free <= waiting.pop(0).deadline_ns
        newcomer = job(now / MS + lasts_ms, order, cost_ms)
        newcomer.began_ns = now
        if first_late(waiting, newcomer, max(free, now), 1) is None:
            bisect.insort(waiting, newcomer)


def take(turns: Turns, log: list[str], name: str, deadline_ms: float, cost_ms: int) -> Any:
    async def run() -> None:
        deadline_ns = NEVER if deadline_ms == NEVER else deadline_ms * MS
        async with turns.turn(name.rstrip("0123456789"), deadline_ns, cost_ms * 1_000):
            log.append(name)
            await asyncio.sleep(0.001)

    return asyncio.create_task(run())


def test_earliest_deadline_goes_first_and_the_undated_last() -> None:
    async def crowd() -> list[str]:
        turns, log = Turns(FakeClock()), []
        first = take(turns, log, "first", 900, 1)
        await asyncio.sleep(0)
        rest = [
            take(turns, log, name, at, 1)
            for name, at in [("undated", NEVER), ("late", 800), ("soon", 100), ("next", 400)]
        ]
        await asyncio.gather(first, *rest)
        return log

    assert asyncio.run(crowd()) == ["first", "soon", "next", "late", "undated"]


def test_newcomer_that_would_make_another_late_is_not_let_in() -> None:
    async def crowd() -> list[Any]:
        turns, log = Turns(FakeClock()), []
        tasks = [take(turns, log, "a", 900, 50), take(turns, log, "b", 100, 50)]
        await asyncio.sleep(0)
        tasks.append(take(turns, log, "c", 60, 10))
        tasks.append(take(turns, log, "d", 900, 10))
        return [*await asyncio.gather(*tasks, return_exceptions=True), log]

    first, second, third, fourth, log = asyncio.run(crowd())
    assert (first, second, fourth) == (None, None, None)
    assert isinstance(third, WontFinishError)
    assert "another's" in str(third)
    assert log == ["a", "b", "d"]


def test_who_waited_too_long_is_dropped_before_it_costs_anything() -> None:
    clock = FakeClock()

    async def crowd() -> list[Any]:
        turns, log = Turns(clock), []
        tasks = [take(turns, log, "slow", 900, 10), take(turns, log, "next", 50, 10)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        clock.advance_ns(45 * MS)  # the first takes longer than it said
        tasks.append(take(turns, log, "after", 900, 10))
        return [*await asyncio.gather(*tasks, return_exceptions=True), log]

    slow, following, after, log = asyncio.run(crowd())
    assert (slow, after) == (None, None)
    assert isinstance(following, DroppedError)
    assert log == ["slow", "after"]


@pytest.mark.parametrize(
    ("limits", "names"),
    [
        (Limits(waiting=1), ["a", "b", "c"]),
        (Limits(of_tenant=1), ["a", "b1", "b2"]),
    ],
    ids=["all", "tenant"],
)
def test_too_many_that_wait_are_refused(limits: Limits, names: list[str]) -> None:
    async def crowd() -> list[Any]:
        turns, log = Turns(FakeClock(), limits=limits), []
        tasks = [take(turns, log, name, 900, 1) for name in names]
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(crowd())
    assert answers[:2] == [None, None]
    assert isinstance(answers[2], QueueFullError)


def test_undated_may_not_fill_the_room() -> None:
    async def crowd() -> list[Any]:
        turns, log = Turns(FakeClock(), limits=Limits(undated=1)), []
        tasks = [take(turns, log, n, NEVER, 1) for n in "abc"]
        tasks.append(take(turns, log, "dated", 900, 1))
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(crowd())
    assert isinstance(answers[2], QueueFullError)
    assert [a for i, a in enumerate(answers) if i != 2] == [None, None, None]


def test_who_is_cancelled_leaves_no_trace() -> None:
    async def crowd() -> tuple[list[str], int]:
        turns, log = Turns(FakeClock(), limits=Limits(of_tenant=1)), []
        first = take(turns, log, "a", 900, 1)
        await asyncio.sleep(0)
        second = take(turns, log, "b", 900, 1)
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        third = take(turns, log, "b", 900, 1)
        await asyncio.gather(first, third)
        fourth = take(turns, log, "c", 900, 1)
        await asyncio.sleep(0)
        fourth.cancel()  # while it runs
        await asyncio.gather(fourth, return_exceptions=True)
        await asyncio.wait_for(take(turns, log, "d", 900, 1), 1.0)
        return log, turns.waiting

    log, waiting = asyncio.run(crowd())
    assert log[:2] == ["a", "b"]
    assert log[-1] == "d"
    assert waiting == 0


def test_closing_waits_for_who_is_in_and_takes_nobody_more() -> None:
    async def crowd() -> list[Any]:
        turns, log = Turns(FakeClock()), []
        tasks = [take(turns, log, n, 900, 1) for n in "abc"]
        await asyncio.sleep(0)
        closing = asyncio.create_task(turns.close(5.0))
        await asyncio.sleep(0)
        late = take(turns, log, "late", 900, 1)
        answers = await asyncio.gather(*tasks, late, return_exceptions=True)
        await closing
        return [answers, log]

    answers, log = asyncio.run(crowd())
    assert answers[:3] == [None, None, None]
    assert isinstance(answers[3], StoppingError)
    assert log == ["a", "b", "c"]


def test_several_run_side_by_side_where_the_site_has_room() -> None:
    async def crowd() -> int:
        turns, most = Turns(FakeClock(), at_once=3), 0
        inside = 0

        async def run() -> None:
            nonlocal inside, most
            async with turns.turn("t", 900 * MS, 1_000):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.001)
                inside -= 1

        await asyncio.gather(*(run() for _ in range(7)))
        return most

    assert asyncio.run(crowd()) == 3
