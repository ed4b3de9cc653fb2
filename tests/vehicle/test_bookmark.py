"""A press on board reaches the next tick, and never a process that is not the loop."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest
from tick_parts import tick_of

from vehicle.bookmark import NoDriveError, listening, press
from vehicle.clock import SystemClock
from vehicle.contracts.ego import DriverInput


def health_of(folder: Path, pid: int, age_s: float = 0.0) -> None:
    facts = {
        "utc_ns": SystemClock().utc_ns() - round(age_s * 1e9),
        "parts": {"drive": {"counters": {"pid": pid}}},
    }
    (folder / "health.json").write_text(json.dumps(facts))


def test_a_press_is_heard_by_one_tick() -> None:
    obs, _ = tick_of(1)
    with listening() as bell:
        assert bell.heard_by(obs) is obs
        os.kill(os.getpid(), signal.SIGUSR1)
        assert bell.heard_by(obs).driver == DriverInput(engaged=True, bookmark=True)
        assert bell.heard_by(obs) is obs


def test_a_loop_in_another_thread_drives_without_a_bell() -> None:
    heard = []

    def loop() -> None:
        with listening() as bell:
            heard.append(bell.heard_by(tick_of(1)[0]).driver)

    thread = threading.Thread(target=loop)
    thread.start()
    thread.join()
    assert heard == [None]


def test_without_a_drive_there_is_nothing_to_press(tmp_path: Path) -> None:
    with pytest.raises(NoDriveError, match="no drive of"):
        press(tmp_path, SystemClock())
    (tmp_path / "health.json").write_text('{"parts": []}')
    with pytest.raises(NoDriveError, match="no drive of"):
        press(tmp_path, SystemClock())


@pytest.mark.parametrize("age_s", [0.0, 60.0])
def test_a_process_that_is_not_the_loop_is_never_signalled(tmp_path: Path, age_s: float) -> None:
    health_of(tmp_path, os.getpid(), age_s)  # SIGUSR1 would end this test run
    with pytest.raises(NoDriveError, match="is over"):
        press(tmp_path, SystemClock())
