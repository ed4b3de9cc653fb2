"""Punctuality is asked for, reported as it was granted, and handed back."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_bundle

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


PREPARED = """
import json, os, subprocess, sys, threading
from pathlib import Path
from vehicle.engine import Engine
from vehicle.realtime import in_words, prepare
engine = Engine(Path(sys.argv[1]), threads=2)
python = {t.native_id for t in threading.enumerate()}
words = in_words(prepare())
native = [int(t) for t in os.listdir("/proc/self/task") if int(t) not in python]
code = "import os; from vehicle.realtime import ordinary; ordinary(); " \\
    "print(os.sched_getscheduler(0), len(os.sched_getaffinity(0)))"
child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
classes = [[os.sched_getscheduler(t), os.sched_getparam(t).sched_priority] for t in native]
mine = [os.sched_getscheduler(0), os.sched_getparam(0).sched_priority]
print(json.dumps({"words": words, "native": classes, "loop": mine, "child": child.split()}))
"""


def test_runtimes_own_threads_come_along_below_the_loop_and_children_need_not(
    tmp_path: Path,
) -> None:
    tiny_bundle.make(tmp_path / "bundle")
    words = [sys.executable, "-c", PREPARED, str(tmp_path / "bundle" / "model.onnx")]
    found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    if "no SCHED_FIFO" in found["words"]:
        pytest.skip(f"this machine grants no real-time class: {found['words']}")
    assert found["loop"] == [os.SCHED_FIFO, 50]
    assert found["native"]
    assert all(each == [os.SCHED_FIFO, 49] for each in found["native"])
    assert found["child"] == [str(os.SCHED_OTHER), str(len(os.sched_getaffinity(0)))]
