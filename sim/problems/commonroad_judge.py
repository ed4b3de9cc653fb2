"""Solve CommonRoad scenarios, and ask the judge and the peers in their own environment."""

import json
import os
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from sim.problems.commonroad import read_problem
from sim.problems.commonroad_drive import drive
from sim.problems.commonroad_solution import own_verdict, write_solution
from sim.recorded.logged_scene import LoggedSceneError
from vehicle.contracts.wire import RefusedError

OFFICIAL: Final = "commonroad_dc valid_solution"
OWN: Final = "own checks, the judge is not installed (make peers)"
_ROOT: Final = Path(__file__).resolve().parents[2]
_SCRIPT: Final = Path(__file__).with_name("commonroad_peers.py")


class PeersFailedError(RefusedError):
    """The environment of the peers is there and does not work; the message holds what it said."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drove:
    """One problem as the car drove it: what came of it, and the wall and CPU ms of each cycle."""

    path: Path
    verdict: str
    wall_ms: np.ndarray
    cpu_ms: np.ndarray
    proposals: tuple[str, ...] = ()


def peers_python() -> Path | None:
    """Return the Python in which the judge and the peers are installed; None when it is not."""
    place = Path(os.environ.get("ROADLOOP_PEERS") or _ROOT / ".venv-peers")
    stamp, python = place / ".stamp", place / "bin" / "python"
    return python if stamp.exists() and python.exists() else None


def ask(
    python: Path,
    what: str,
    files: Iterable[Path],
    solutions: Path,
    progress: Callable[[float], None],
) -> dict[str, dict[str, Any]]:
    """Return what the judge says of solutions, or what a peer drove, by the name of the scenario.

    Args:
        what: "judge", or the name of a peer.
        solutions: the folder in which solutions lie, or shall.
    Raises:
        PeersFailedError: it ended without a word on every file.
    """
    paths = [str(p.resolve()) for p in files]
    words = [str(python), "-P", str(_SCRIPT), what, "--solutions", str(solutions), *paths]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    found: dict[str, dict[str, Any]] = {}
    with (
        TemporaryDirectory() as scratch,
        (Path(scratch) / "said").open("w+") as said,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=said, text=True, env=quiet) as child,
    ):
        for line in child.stdout or ():
            if line.startswith('{"scenario"'):
                row = json.loads(line)
                found[row["scenario"]] = row
                progress(len(found) / len(paths))
        child.wait()
        said.seek(0)
        if len(found) != len(paths):
            raise PeersFailedError(
                f"{what} in {python} spoke of {len(found)} of {len(paths)} scenarios:"
                f" {said.read()[-400:]}"
            )
    return found


def solve(path: Path, solutions: Path) -> Drove:
    """Drive one problem and write its solution; a file that is refused is not solved."""
    try:
        problem = read_problem(path)
    except LoggedSceneError as error:
        none = np.zeros(0)
        said = f"refused: {type(error).__name__}: {error}"
        return Drove(path=path, verdict=said, wall_ms=none, cpu_ms=none)
    run = drive(problem)
    write_solution(problem, run, solutions / f"{path.stem}.xml")
    return Drove(
        path=path, verdict=own_verdict(problem, run), wall_ms=run.wall_ms, cpu_ms=run.cpu_ms,
        proposals=run.proposals,
    )  # fmt: skip


def problems_in(path: Path) -> list[Path]:
    """Return the scenario files at or under a path.

    Raises:
        LoggedSceneError: there is none.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.xml"))
    if not files:
        raise LoggedSceneError(f"{path} holds no CommonRoad scenario (*.xml)")
    return files
