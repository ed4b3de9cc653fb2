"""The batch tier: a network looks at many clips of the lake, on as many workers as there are.

Clips come as a listing and go as files (vehicle/contracts/judged.py): home's lake takes them in by
`roadloop datalake take`. A clip that is done has its file, so a run that was killed goes on where
it stopped. Ray Data spreads the clips over workers, here or on a cluster.
"""

import io
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from fleet.inference.seer import Seer
from vehicle import bundles
from vehicle.contracts import wire
from vehicle.contracts.clip import FileEntry
from vehicle.contracts.judged import JUDGED, Judged
from vehicle.contracts.wire import RefusedError

What = Literal["labels", "embeddings"]
Progress = Callable[[int, int], None]

OBJECT_STORE_BYTES: Final = 100_000_000
"""Clips are read from disk by the workers; Ray's store carries their names."""


class ListingError(RefusedError):
    """A listing does not say which clips to look at, or they are not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A clip to look at.

    Args:
        clip_id: as the lake calls it.
        path: of its MCAP file.
        frames: frame_ids; None: all.
    """

    clip_id: str
    path: Path
    frames: tuple[int, ...] | None = None


def read_listing(path: Path, root: Path) -> list[Wanted]:
    """Return the clips of a listing, in its order.

    Args:
        path: *.parquet or *.csv with the columns clip_id and object, as the lake's `clips` has
            them, and frame_id where single frames are wanted.
        root: the lake's folder; `object` counts from there.
    Raises:
        ListingError: other columns, unreadable, or a clip's file is not there.
    """
    try:
        table = pq.read_table(path) if path.suffix == ".parquet" else pa.csv.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ListingError(f"{path} does not read: {error}") from error
    lacking = {"clip_id", "object"} - set(table.column_names)
    if lacking:
        raise ListingError(
            f"{path} has the columns {table.column_names}, it lacks {sorted(lacking)}: "
            'roadloop datalake sql "SELECT clip_id, object FROM clips" -o listing.parquet'
        )
    paths: dict[str, Path] = {}
    frames: dict[str, set[int]] = {}
    for row in table.to_pylist():
        clip_id, file = row["clip_id"], root / row["object"]
        if not file.resolve().is_relative_to(root.resolve()) or not file.is_file():
            raise ListingError(f"{path}: clip {clip_id[:12]} has no file at {file}")
        paths[clip_id] = file
        if "frame_id" in row:
            frames.setdefault(clip_id, set()).add(row["frame_id"])
    return [
        Wanted(clip_id=c, path=p, frames=tuple(sorted(frames[c])) if c in frames else None)
        for c, p in paths.items()
    ]


def run(
    what: What,
    clips: Sequence[Wanted],
    bundle: Path,
    out: Path,
    *,
    workers: int = 0,
    progress: Progress = lambda done, total: None,
) -> Judged:
    """Have a network judge clips; return the manifest of what lies in `out` then.

    Args:
        bundle: folder of the network.
        out: a file per clip, the manifest last; a run that was killed goes on.
        workers: Ray workers, one thread each; 0: this process alone, without Ray.
    Raises:
        RefusedError: a clip cannot be looked at, by the name of why; what is done stays.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / JUDGED).unlink(missing_ok=True)
    rows = [
        {
            "clip_id": c.clip_id,
            "path": str(c.path),
            "frames": None if c.frames is None else list(c.frames),
        }
        for c in clips
    ]
    job = {"what": what, "bundle": str(bundle.absolute()), "out": str(out.absolute())}
    frames = _over_ray(rows, job, workers, progress) if workers else _here(rows, job, progress)
    manifest = Judged(
        what=what,
        model=bundles.load(bundle).tag,
        model_digest=bundles.digest_of(bundle),
        frames=sum(frames.values()),
        files=tuple(_entry(out / f"{clip_id}.npz") for clip_id in sorted(frames)),
    )
    wire.atomic_write(out / JUDGED, wire.to_bytes(manifest))
    return manifest


class Worker:
    """Judges one clip after the other; Ray keeps one in each process."""

    def __init__(self, what: What, bundle: str, out: str) -> None:
        self._seer, self._out = Seer(Path(bundle)), Path(out)
        self._judge = self._seer.labels if what == "labels" else self._seer.embeddings

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Judge a clip unless its file is there; return how many frames it has."""
        path = self._out / f"{row['clip_id']}.npz"
        if not path.is_file():
            arrays = self._judge(Path(row["path"]), row["frames"])
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
            wire.atomic_write(path, buffer.getvalue())
        with np.load(path, allow_pickle=False) as done:
            return {"clip_id": row["clip_id"], "frames": len(done["frame_id"])}


def _here(
    rows: Sequence[Mapping[str, Any]], job: Mapping[str, Any], progress: Progress
) -> dict[str, int]:
    worker, done = Worker(**job), {}
    for row in rows:
        found = worker(row)
        done[found["clip_id"]] = int(found["frames"])
        progress(len(done), len(rows))
    return done


def _over_ray(
    rows: Sequence[Mapping[str, Any]], job: Mapping[str, Any], workers: int, progress: Progress
) -> dict[str, int]:
    import ray
    import ray.data

    _start_ray(workers)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    worker: Any = Worker
    judged = ray.data.from_items(list(rows), override_num_blocks=max(len(rows), 1)).map(
        worker,
        fn_constructor_kwargs=dict(job),
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
    )
    done: dict[str, int] = {}
    try:
        for row in judged.iter_rows():
            done[row["clip_id"]] = int(row["frames"])
            progress(len(done), len(rows))
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        raise cause if isinstance(cause, RefusedError) else error from error
    return done


def _start_ray(workers: int) -> None:
    """Start Ray on this machine, quietly; joins the cluster named by RAY_ADDRESS if set."""
    import ray

    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    local: dict[str, Any] = {}
    if not os.environ.get("RAY_ADDRESS"):
        local = {"num_cpus": workers, "object_store_memory": OBJECT_STORE_BYTES}
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **local)


def _entry(path: Path) -> FileEntry:
    return FileEntry(name=path.name, sha256=wire.digest_file(path), size_bytes=path.stat().st_size)
