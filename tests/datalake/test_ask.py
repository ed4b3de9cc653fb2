"""Questions that are called off, and errors that say what was meant."""

import _thread
import signal
import threading
import time

import pytest

from datalake.ask import QueryStoppedError, QueryTooSlowError, ask
from datalake.hints import hint
from datalake.lake import Lake, QueryError
from vehicle.contracts.home import Home

ENDLESS = "SELECT count(*) FROM range(100000000) a, range(100000) b WHERE a.range % 7 = b.range % 3"


def test_a_question_in_time_is_answered(home: Home) -> None:
    with Lake(home) as lake:
        assert ask(lake, "SELECT 1 AS one", 10.0).to_pylist() == [{"one": 1}]
        assert ask(lake, "SELECT 1 AS one").num_rows == 1


def test_a_question_over_its_time_is_stopped_and_the_lake_can_be_asked_again(home: Home) -> None:
    with Lake(home) as lake:
        began = time.monotonic()
        with pytest.raises(QueryTooSlowError, match=r"after 0\.2 s"):
            ask(lake, ENDLESS, 0.2)
        assert time.monotonic() - began < 5.0
        assert ask(lake, "SELECT 1 AS one").num_rows == 1


def test_ctrl_c_stops_the_question_and_not_the_program(home: Home) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    with Lake(home) as lake:
        ask(lake, "SELECT 1")
        threading.Timer(0.2, _thread.interrupt_main).start()
        with pytest.raises(QueryStoppedError, match="Ctrl-C"):
            ask(lake, ENDLESS)
        assert ask(lake, "SELECT 1 AS one").num_rows == 1
    signal.signal(signal.SIGINT, before)


def test_a_refusal_comes_through_as_itself(home: Home) -> None:
    with Lake(home) as lake, pytest.raises(QueryError, match="syntax"):
        ask(lake, "SELEC 1", 5.0)


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ("SELECT luma FROM tracks", "luma is in clips, ticks: mean"),
        ("SELECT t.uncertainty FROM ticks t", "uncertainty_ratio is in ticks"),
        ("SELECT speed FROM tracks", "speed_mps is in ticks"),
        ("FROM tick", "ticks: a row is one pass of the in-car loop"),
        ("FROM lables", "labels: a row is"),
    ],
)
def test_an_unknown_name_is_answered_with_what_was_meant(
    home: Home, query: str, meant: str
) -> None:
    with Lake(home) as lake, pytest.raises(QueryError, match=meant):
        lake.sql(query)


def test_what_nobody_could_have_meant_gets_no_hint() -> None:
    assert hint('Referenced column "zzzzzz" not found') == ""
    assert hint("Out of memory") == ""
