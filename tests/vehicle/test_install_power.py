"""Power lost at every write of an update: the car starts, and the next update succeeds.

The cut is made at the system calls (Python's audit events), so that it also hits python-tuf and the
archive code; files that were never fsynced then lose half of their bytes.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes_fleet import URL, Fleet

from vehicle import bundles

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.truncate", "os.link"}


class PowerCut(BaseException):
    """Not an Exception: no handler of the program may outlive it."""


class Power:
    """Counts what changes the disk under `folder` and fails for good at the `cut_at`-th change."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.hooked = False

    @contextmanager
    def until(self, cut_at: int | None, folder: Path) -> Iterator["Power"]:
        if not self.hooked:
            sys.addaudithook(self._see)
            self.hooked = True
        self.folder, self.cut_at, self.count = str(folder), cut_at, 0
        self.synced: dict[str, bool] = {}
        whole = os.fsync
        os.fsync = self._fsync(whole)  # type: ignore[assignment]
        try:
            yield self
        finally:
            os.fsync = whole  # type: ignore[assignment]
            self.folder = None

    def lose_unsynced(self) -> None:
        """Halve every file that was written and not fsynced."""
        for path, synced in self.synced.items():
            if not synced and os.path.isfile(path):
                os.truncate(path, os.path.getsize(path) // 2)

    def _fsync(self, whole: Any) -> Any:
        def fsync(handle: int) -> None:
            whole(handle)
            self.synced[os.readlink(f"/proc/self/fd/{handle}")] = True

        return fsync

    def _see(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is None or not (event in CHANGES or event in ("open", "os.rename")):
            return
        path = os.fspath(args[0]) if isinstance(args[0], str | os.PathLike) else ""
        relative = not path.startswith("/") and event in ("os.remove", "os.rmdir")
        if not (str(path).startswith(self.folder) or relative):
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & WRITES):
            return
        if self.cut_at is not None and self.count >= self.cut_at:
            raise PowerCut
        self.count += 1
        if event == "open":
            self.synced[path] = False
        if event == "os.rename":
            self._renamed(path, os.fspath(args[1]))

    def _renamed(self, source: str, target: str) -> None:
        for path in list(self.synced):
            if path == source or path.startswith(source + "/"):
                self.synced[target + path[len(source) :]] = self.synced.pop(path)


def test_power_cut_at_every_write_leaves_a_car_that_starts_and_updates(tmp_path: Path) -> None:
    power, fleet = Power(), Fleet(tmp_path)
    first = fleet.publish(1)
    fleet.installer().update(URL)
    second = fleet.publish(2)
    known = {first.bundle_digest, second.bundle_digest}
    before = tmp_path / "before"
    shutil.copytree(fleet.car_folder, before, symlinks=True)

    with power.until(None, fleet.car_folder) as seen:
        fleet.installer().update(URL)
    total, outcomes = seen.count, []
    assert total > 40
    for cut_at in range(total):
        shutil.rmtree(fleet.car_folder)
        shutil.copytree(before, fleet.car_folder, symlinks=True)
        with power.until(cut_at, fleet.car_folder), pytest.raises(PowerCut):
            fleet.installer().update(URL)
        power.lose_unsynced()

        started = fleet.installer()
        active = started.status()
        assert active.release is not None, f"cut at {cut_at}: {active.reason}"
        assert active.reason == ""
        assert bundles.digest_of(active.folder) in known
        bundles.load(active.folder)
        outcomes.append(active.release.release_counter)

        assert started.update(URL).release == second
        assert bundles.digest_of(started.active()) == second.bundle_digest
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {1, 2}


def test_power_cut_during_the_first_install_leaves_the_base_bundle(tmp_path: Path) -> None:
    power, fleet = Power(), Fleet(tmp_path)
    release = fleet.publish(1)
    with power.until(None, fleet.car_folder) as seen:
        fleet.installer().update(URL)
    for cut_at in range(0, seen.count, 5):
        shutil.rmtree(fleet.car_folder)
        with power.until(cut_at, fleet.car_folder), pytest.raises(PowerCut):
            fleet.installer().update(URL)
        power.lose_unsynced()
        active = fleet.installer().status()
        assert active.reason == ""
        assert active.folder == fleet.base or active.release == release
        assert fleet.installer().update(URL).release == release
