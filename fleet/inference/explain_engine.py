"""Many answers at once: continuous batching over slots that keep each answer's keys and values.

Between two words of everybody's answers those whose answer has ended leave and those who waited
join, so nobody waits for a batch to fill or to end. Who waits is taken by whose tenant has been
served least.

Source: Yu et al., "Orca: A Distributed Serving System for Transformer-Based Generative Models"
    (OSDI 2022), iteration-level scheduling; Sheng et al., "Fairness in Serving Large Language
    Models" (OSDI 2024), virtual token counter.
"""

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from fleet.inference.explain_model import ExplainModel, Past
from fleet.inference.refusals import (
    DroppedError,
    LateAnswerError,
    ModelFailedError,
    QueueFullError,
    StoppingError,
    WontFinishError,
)
from vehicle.clock import Clock
from vehicle.contracts.decision import DecisionRecord
from vehicle.contracts.explanation import MAX_ANSWER, Positions, Speaker, read, slot_of

NEVER: Final = math.inf
_JOIN_AT_ONCE: Final = 4
"""Scenes read between two words: more would keep everybody else's next word waiting."""
_USUAL_WORDS: Final = 8.0
_LEARN: Final = 0.1


@dataclass(frozen=True, slots=True)
class Said:
    """A word of an answer: what is heard of it, and why it is the last ("" while it is not)."""

    text: str
    token: int
    finish: str = ""


@dataclass(slots=True, eq=False)
class _Job:
    """One answer: waiting, or under way once `past` is there."""

    record: DecisionRecord
    tenant: str
    deadline_ns: float
    most: int
    scene: Positions
    speaker: Speaker
    came_ns: int
    said: "asyncio.Queue[Said | Exception]" = field(default_factory=asyncio.Queue)
    past: Past | None = None
    tokens: list[int] = field(default_factory=list)
    gone: bool = False


@dataclass(slots=True)
class Work:
    """What the engine has done: words said, rounds, answers at once at most, and who left."""

    words: int = 0
    rounds: int = 0
    answers: int = 0
    most_at_once: int = 0
    gone: int = 0


class Engine:
    """Answers scenes word by word; an async context manager.

    Args:
        model: the explainer.
        slots: answers under way at once.
        waiting: who may wait beside them; more are refused.
    """

    def __init__(
        self, model: ExplainModel, clock: Clock, *, slots: int = 8, waiting: int = 64
    ) -> None:
        self.model, self._clock = model, clock
        self._slots, self._most_waiting = slots, waiting
        self._waiting: list[_Job] = []
        self._active: list[_Job] = []
        self._served: Counter[str] = Counter()
        self._wake, self._open = asyncio.Event(), True
        self._thread = ThreadPoolExecutor(1, "explain")
        self._task: asyncio.Task[None] | None = None
        self._round_ns, self._words = 3e6, _USUAL_WORDS
        self.work = Work()

    async def __aenter__(self) -> "Engine":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open = False
        for job in (*self._waiting, *self._active):
            job.said.put_nowait(StoppingError("the site is closing; ask another"))
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown()

    @property
    def waiting(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    @property
    def active(self) -> int:
        """Return how many answers are under way."""
        return len(self._active)

    def expected_ns(self) -> float:
        """Return how long an answer would take that came now."""
        ahead = len(self._waiting) + max(0, len(self._active) + 1 - self._slots)
        return self._round_ns * self._words * (1.0 + ahead / self._slots)

    async def explain(
        self,
        record: DecisionRecord,
        *,
        tenant: str = "anonymous",
        deadline_ns: float = NEVER,
        most: int = MAX_ANSWER,
    ) -> AsyncGenerator[Said, None]:
        """Yield the words of an answer as they are said; who stops listening frees the slot.

        Args:
            deadline_ns: monotonic; an answer is not gone on with after it.
            most: words at most.
        Raises:
            QueueFullError, StoppingError: nobody is taken.
            WontFinishError: it could not be answered before its deadline.
            DroppedError, LateAnswerError: the deadline passed, before or after the first word.
            ModelFailedError: the graph broke.
        """
        job = self._admit(record, tenant, deadline_ns, most)
        try:
            while True:
                said = await job.said.get()
                if isinstance(said, Exception):
                    raise said
                yield said
                if said.finish:
                    return
        finally:
            if not job.gone:
                self.work.gone += 1
                job.gone = True
            self._wake.set()

    def _admit(self, record: DecisionRecord, tenant: str, deadline_ns: float, most: int) -> _Job:
        now_ns = self._clock.mono_ns()
        if not self._open:
            raise StoppingError("the site is closing; ask another")
        if len(self._waiting) >= self._most_waiting:
            raise QueueFullError(f"{len(self._waiting)} wait already")
        needed_ns = self.expected_ns()
        if now_ns + needed_ns > deadline_ns:
            raise WontFinishError(
                f"it takes about {needed_ns / 1e6:.0f} ms, the deadline is in "
                f"{(deadline_ns - now_ns) / 1e6:.0f} ms"
            )
        present = {job.tenant for job in (*self._waiting, *self._active)}
        if tenant not in present and present:  # who was away has no claim on what it did not ask
            least = min(self._served[t] for t in present)
            self._served[tenant] = max(self._served[tenant], least)
        # read here: a record that cannot be read fails by itself, not with those under way
        job = _Job(record, tenant, deadline_ns, most, read(record), Speaker(record), now_ns)
        self._waiting.append(job)
        self._wake.set()
        return job

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not (self._waiting or self._active):
                self._wake.clear()
                await self._wake.wait()
            self._sweep()
            joining = self._joining()
            if not (joining or self._active):
                continue
            began_ns = self._clock.mono_ns()
            try:
                logits = await loop.run_in_executor(
                    self._thread, self._think, joining, list(self._active)
                )
            except Exception as error:
                self._fail(joining, error)
                continue
            self._active += joining
            self.work.rounds += 1
            self.work.most_at_once = max(self.work.most_at_once, len(self._active))
            for job, row in zip(list(self._active), logits, strict=True):
                self._say(job, row)
            self._active = [job for job in self._active if not job.gone]
            took_ns = self._clock.mono_ns() - began_ns
            self._round_ns += _LEARN * (took_ns - self._round_ns)
            await asyncio.sleep(0)

    def _sweep(self) -> None:
        """Let go of who left and of who is too late."""
        now_ns = self._clock.mono_ns()
        for job in (*self._waiting, *self._active):
            if not job.gone and now_ns > job.deadline_ns:
                late = LateAnswerError if job.past is not None else DroppedError
                self._end(job, late(f"its deadline passed after {len(job.tokens)} words"))
        self._waiting = [job for job in self._waiting if not job.gone]
        self._active = [job for job in self._active if not job.gone]

    def _joining(self) -> list[_Job]:
        """Take who joins now: of the tenant served least, then who came first."""
        free = min(self._slots - len(self._active), _JOIN_AT_ONCE, len(self._waiting))
        joining = []
        for _ in range(free):
            job = min(self._waiting, key=lambda j: (self._served[j.tenant], j.came_ns))
            self._waiting.remove(job)
            self._served[job.tenant] += len(job.record.actors) + 3
            joining.append(job)
        return joining

    def _think(self, joining: list[_Job], active: list[_Job]) -> np.ndarray:
        """Return logits of the next word: of those under way, then of those that join."""
        rows = []
        if active:
            said = [job.tokens[-1] for job in active]
            logits, pasts = self.model.go_on(
                said,
                [slot_of(token) for token in said],
                [len(job.tokens) for job in active],
                [job.past for job in active if job.past is not None],
            )
            rows.append(logits)
            for job, past in zip(active, pasts, strict=True):
                job.past = past
        if joining:
            logits, pasts = self.model.read([job.scene for job in joining])
            rows.append(logits)
            for job, past in zip(joining, pasts, strict=True):
                job.past = past
        return np.concatenate(rows)

    def _say(self, job: _Job, logits: np.ndarray) -> None:
        if job.gone:
            return
        token = int(np.where(job.speaker.allowed(), logits, -np.inf).argmax())
        text = job.speaker.say(token)
        job.tokens.append(token)
        self._served[job.tenant] += 1
        self.work.words += 1
        finish = "stop" if job.speaker.ended else "length" if len(job.tokens) >= job.most else ""
        job.said.put_nowait(Said(text, token, finish))
        if finish:
            job.gone = True
            self.work.answers += 1
            self._words += _LEARN * (len(job.tokens) - self._words)

    def _end(self, job: _Job, error: Exception) -> None:
        job.gone = True
        job.said.put_nowait(error)

    def _fail(self, joining: list[_Job], error: Exception) -> None:
        for job in (*self._active, *joining):
            self._end(job, ModelFailedError(f"{type(error).__name__}: {error}"))
        self._active = []
