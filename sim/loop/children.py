"""The processes of the demo: the gateway and the cars, started, watched and ended by name."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from vehicle.clock import SystemClock
from vehicle.contracts.home import Home
from vehicle.contracts.wire import RefusedError

CAR_TIMEOUT_S = 1_800

Children = Mapping[str, "subprocess.Popen[bytes]"]


class ChildFailedError(RefusedError):
    """A process of the demo ended badly; its last words are in the message."""


class GatewayStartError(RefusedError):
    """The gateway did not come up."""


def command(*words: object) -> list[str]:
    """Return the roadloop command line of this installation."""
    return [sys.executable, "-m", "roadloop", *map(str, words)]


def environment(home: Home) -> dict[str, str]:
    """Return the environment of a child: this home, one thread per process."""
    return {**os.environ, "ROADLOOP_HOME": str(home.root), "OMP_NUM_THREADS": "1"}


@contextmanager
def gateway(home: Home) -> Iterator[str]:
    """Run `roadloop fleet serve` and yield its address."""
    clock, note = SystemClock(), home.root / "demo" / "gateway.url"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)
    with (home.root / "demo" / "gateway.log").open("ab") as log:
        child = subprocess.Popen(
            command("fleet", "serve", "--port", 0, "--url-file", note),
            env=environment(home),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            until_ns = clock.mono_ns() + 30_000_000_000
            while not note.is_file():
                if child.poll() is not None or clock.mono_ns() > until_ns:
                    raise GatewayStartError(f"no gateway after 30 s; see {log.name}")
                clock.sleep_until(clock.mono_ns() + 50_000_000)
            yield note.read_text().strip()
        finally:
            child.terminate()
            child.wait(timeout=10)


def watch(console: Console, notes: Path, children: Children, ticks: int) -> None:
    """Show how far every car is, until all are done; a car that fails ends the stage by name."""
    clock = SystemClock()
    until_ns = clock.mono_ns() + CAR_TIMEOUT_S * 10**9
    with progress_bar(console) as bar:
        rows = {car: bar.add_task(car, total=ticks) for car in children}
        while any(child.poll() is None for child in children.values()):
            for car, row in rows.items():
                bar.update(row, completed=_read_number(notes / f"{car}.progress"))
            if clock.mono_ns() > until_ns:
                raise ChildFailedError(f"the cars did not arrive within {CAR_TIMEOUT_S} s")
            clock.sleep_until(clock.mono_ns() + 200_000_000)
        for car, row in rows.items():
            bar.update(row, completed=ticks)
            if children[car].returncode:
                lines = (notes / f"{car}.log").read_text(errors="replace").splitlines()
                last = lines[-1] if lines else "nothing"
                raise ChildFailedError(f"{car} ended with {children[car].returncode}: {last}")


def _read_number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def progress_bar(console: Console) -> Progress:
    """Return the progress bar every long stage shows."""
    columns = (TextColumn("      {task.description:<14}"), BarColumn(30))
    counts = TextColumn("{task.completed:>6.0f}/{task.total:.0f}")
    return Progress(*columns, counts, TimeElapsedColumn(), console=console, transient=True)
