"""The verb for CommonRoad: `roadloop sim commonroad`."""

import json
from pathlib import Path
from typing import Annotated

import typer


def commonroad(
    path: Annotated[Path, typer.Argument(help="A CommonRoad scenario or a folder of them.")],
    solutions: Annotated[
        Path | None, typer.Option(help="Write solution files here; default: keep none.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Solve CommonRoad planning problems with the car's planner, told who will go where.

    Where `make peers` has run the official judge says what is valid; else our own checks do.
    """
    from tempfile import TemporaryDirectory

    import numpy as np

    from sim.problems.commonroad_judge import OFFICIAL, OWN, ask, peers_python, problems_in, solve

    files = problems_in(path)
    with TemporaryDirectory() as scratch:
        folder = solutions or Path(scratch)
        solve(files[0], Path(scratch))  # loads what is compiled
        drove = [solve(file, folder) for file in files]
        made = [d.path for d in drove if not d.verdict.startswith("refused")]
        python, said = peers_python(), {d.path.stem: d.verdict for d in drove}
        if python is not None and made:
            found = ask(python, "judge", made, folder, lambda share: None)
            said |= {name: row["verdict"] for name, row in found.items()}
    rows = [
        {
            "scenario": d.path.stem,
            "verdict": said[d.path.stem],
            "judge": OWN if python is None else OFFICIAL,
            "cycles": len(d.wall_ms),
            "cycle_p50_ms": round(float(np.median(d.wall_ms)), 3) if len(d.wall_ms) else None,
            "cycle_max_ms": round(float(d.wall_ms.max()), 3) if len(d.wall_ms) else None,
        }
        for d in drove
    ]
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        print("  ".join(f"{k} {v}" for k, v in row.items() if v is not None and k != "judge"))
    valid = sum(row["verdict"] == "valid" for row in rows)
    print(f"{valid} of {len(rows)} valid ({rows[0]['judge']})")
