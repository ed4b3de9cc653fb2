"""Continuous batching: the same words as alone, fair, in time, and slots come free."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from explain_parts import records, tiny_explainer

from fleet.inference.explain_engine import Engine
from fleet.inference.explain_model import ExplainModel, NoExplainerError
from fleet.inference.refusals import (
    DroppedError,
    LateAnswerError,
    ModelFailedError,
    QueueFullError,
    StoppingError,
    WontFinishError,
)
from vehicle.clock import SystemClock
from vehicle.contracts.decision import DecisionRecord
from vehicle.contracts.explainer import GRAPH

CLOCK = SystemClock()


@pytest.fixture(scope="module")
def model() -> ExplainModel:
    return ExplainModel(tiny_explainer())


def with_engine(
    model: Any, use: Callable[[Engine], Coroutine[Any, Any, None]], **options: int
) -> Engine:
    async def live() -> Engine:
        async with Engine(model, CLOCK, **options) as engine:
            async with asyncio.timeout(20):
                await use(engine)
            return engine

    return asyncio.run(live())


async def answer(engine: Engine, record: DecisionRecord, **options: Any) -> str:
    return "".join([said.text async for said in engine.explain(record, **options)])


def test_answers_given_side_by_side_are_those_given_alone(model: ExplainModel) -> None:
    found = records(24, seed=5)

    async def use(engine: Engine) -> None:
        together = await asyncio.gather(*(answer(engine, r) for r in found))
        alone = [await answer(engine, r) for r in found]
        assert together == alone
        assert sum(text.startswith("because") for text in alone) >= 18

    engine = with_engine(model, use, slots=6)
    assert engine.work.most_at_once == 6
    assert engine.work.answers == 48


def test_who_comes_later_joins_while_others_are_answered(model: ExplainModel) -> None:
    async def use(engine: Engine) -> None:
        first = asyncio.create_task(answer(engine, records(1)[0]))
        while not engine.work.words:
            await asyncio.sleep(0)
        second = asyncio.create_task(answer(engine, records(1, seed=2)[0]))
        await asyncio.gather(first, second)

    assert with_engine(model, use).work.most_at_once == 2


def test_a_listener_that_leaves_frees_its_slot(model: ExplainModel) -> None:
    async def use(engine: Engine) -> None:
        said = engine.explain(records(1)[0])
        await anext(said)
        await said.aclose()
        await answer(engine, records(1)[0])
        assert engine.active == 0

    assert with_engine(model, use, slots=1).work.gone == 1


def test_a_tenant_that_floods_does_not_keep_another_waiting(model: ExplainModel) -> None:
    order: list[str] = []
    served: list[int] = []

    async def one(engine: Engine, tenant: str) -> None:
        await answer(engine, records(1)[0], tenant=tenant)
        order.append(tenant)

    async def use(engine: Engine) -> None:
        flood = [asyncio.create_task(one(engine, "flood")) for _ in range(30)]
        await asyncio.sleep(0.01)
        served.append(len(order))
        await asyncio.create_task(one(engine, "calm"))
        await asyncio.gather(*flood)

    with_engine(model, use, slots=2)
    assert order.index("calm") - served[0] <= 8


def test_what_cannot_be_answered_in_time_is_refused_by_name(model: ExplainModel) -> None:
    record = records(1)[0]

    async def use(engine: Engine) -> None:
        with pytest.raises(WontFinishError, match="the deadline is in"):
            await answer(engine, record, deadline_ns=CLOCK.mono_ns() + 1_000)
        engine._round_ns = 0.0  # it thinks it is fast
        with pytest.raises((DroppedError, LateAnswerError)):
            await answer(engine, record, deadline_ns=CLOCK.mono_ns() + 20_000)

    with_engine(model, use)


def test_more_than_may_wait_are_refused_and_the_others_answered(model: ExplainModel) -> None:
    async def use(engine: Engine) -> None:
        found = await asyncio.gather(
            *(answer(engine, r) for r in records(12)), return_exceptions=True
        )
        assert sum(isinstance(f, QueueFullError) for f in found) == 8
        assert sum(isinstance(f, str) for f in found) == 4

    with_engine(model, use, slots=1, waiting=4)


def test_a_graph_that_breaks_fails_those_under_way_and_not_the_next(model: ExplainModel) -> None:
    class Breaks:
        broken = True

        def read(self, scenes: Any) -> Any:
            if self.broken:
                self.broken = False
                raise RuntimeError("no memory")
            return model.read(scenes)

        go_on = model.go_on

    async def use(engine: Engine) -> None:
        with pytest.raises(ModelFailedError, match="no memory"):
            await answer(engine, records(1)[0])
        assert await answer(engine, records(1)[0])

    with_engine(Breaks(), use)


def test_who_waits_when_the_site_closes_is_told_so(model: ExplainModel) -> None:
    async def live() -> None:
        async with Engine(model, CLOCK) as engine:
            said = engine.explain(records(1)[0])
            waiting = asyncio.ensure_future(anext(said))
            await asyncio.sleep(0)
        with pytest.raises(StoppingError):
            await waiting

    asyncio.run(live())


def test_an_explainer_with_another_graph_than_named_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoExplainerError, match="holds no explainer"):
        ExplainModel(tmp_path)
    for path in tiny_explainer().iterdir():
        data = path.read_bytes()
        (tmp_path / path.name).write_bytes(data[:-1] + b"x" if path.name == GRAPH else data)
    with pytest.raises(NoExplainerError, match="is not the graph"):
        ExplainModel(tmp_path)
