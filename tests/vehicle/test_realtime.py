"""Punctuality is asked for, reported as it was granted, and handed back."""

import gc
import os

import pytest

from vehicle.realtime import punctual


def test_a_punctual_tick_hands_class_and_collector_back() -> None:
    before = os.sched_getscheduler(0)
    with punctual():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert os.sched_getscheduler(0) == before


def test_a_tick_that_fails_hands_them_back_too() -> None:
    before = os.sched_getscheduler(0)
    with pytest.raises(ZeroDivisionError), punctual():
        _ = 1 / 0
    assert gc.isenabled()
    assert os.sched_getscheduler(0) == before


def test_without_the_right_the_tick_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("not allowed")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    ran = []
    with punctual():
        ran.append(True)
    assert ran
