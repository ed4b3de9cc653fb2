"""One question to the lake that can be called off: by a time limit or by Ctrl-C."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitedError
from typing import Final

import pyarrow as pa

from datalake.duck import LakeError
from datalake.lake import Lake

NAP_S: Final = 0.05


class QueryStoppedError(LakeError):
    """The question was called off; the lake is as it was, and can be asked again."""


class QueryTooSlowError(QueryStoppedError):
    """The question took longer than its time limit."""


def ask(lake: Lake, query: str, limit_s: float | None = None) -> pa.Table:
    """Answer one question, in a thread of its own so that somebody is left who can stop it.

    Args:
        lake: asked by nobody else meanwhile.
        query: as of Lake.sql.
        limit_s: seconds it may take; None: any time.
    Raises:
        QueryTooSlowError: it took longer.
        QueryStoppedError: Ctrl-C was pressed while it ran.
        QueryError, ReadOnlyQueryError: as of Lake.sql.
    """
    with ThreadPoolExecutor(1, "question") as pool:
        running = pool.submit(lake.sql, query)
        try:
            return _answer(running, None if limit_s is None else time.monotonic() + limit_s)
        except WaitedError:
            _stop(lake, running)
            raise QueryTooSlowError(
                f"no answer after {limit_s:g} s; ask of fewer clips, or raise --time-limit"
            ) from None
        except KeyboardInterrupt:
            _stop(lake, running)
            raise QueryStoppedError("stopped by Ctrl-C") from None


def _answer(running: "Future[pa.Table]", until_s: float | None) -> pa.Table:
    """Wait in short naps: a thread that waits for a lock does not always hear of Ctrl-C."""
    while True:
        left_s = NAP_S if until_s is None else min(NAP_S, until_s - time.monotonic())
        try:
            return running.result(max(left_s, 0.0))
        except WaitedError:
            if until_s is not None and time.monotonic() >= until_s:
                raise


def _stop(lake: Lake, running: "Future[pa.Table]") -> None:
    """Interrupt until it has ended; one interrupt may come before the question has begun."""
    while not running.done():
        lake.interrupt()
        try:
            running.exception(NAP_S)
        except WaitedError:
            continue
