"""The kinds of log roadloop takes, and the one way a log becomes a route file."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vehicle.contracts import wire
from vehicle.contracts.wire import RefusedError
from vehicle.importers.layout import LogLayoutError
from vehicle.route import RouteWriter
from vehicle.sources import LogSource

KINDS: Final = ("comma2k19", "boreas", "kitti", "nuscenes", "video")
"""Each is a module of this package with `LAYOUT` and `open_log(path)`."""


class UnknownKindError(RefusedError, ValueError):
    """There is no importer of this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What came of one import.

    Args:
        route: the route file written.
        cameras: names of its cameras, none for a log without pictures.
        sha256, size_bytes: of the file.
    """

    SCHEMA = "import/1"
    kind: str
    route: str
    ticks: int
    seconds: float
    rate_hz: float
    cameras: tuple[str, ...]
    metadata: dict[str, str]
    sha256: str
    size_bytes: int


def layout(kind: str) -> str:
    """Return, in words, what folder or file `kind` is imported from."""
    return str(_module(kind).LAYOUT)


def open_log(kind: str, path: Path, *, hfov_deg: float | None = None) -> LogSource:
    """Return a log opened as a source.

    Raises:
        UnknownKindError: no such kind.
        LogLayoutError, LogDamagedError, MissingCalibrationError: see vehicle/importers/.
    """
    module = _module(kind)
    source: LogSource
    if kind == "video":
        source = module.open_log(path, hfov_deg=hfov_deg)
    else:
        source = module.open_log(path)
    return source


def import_log(
    kind: str,
    path: Path,
    out: Path,
    *,
    hfov_deg: float | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> ImportReport:
    """Write the log at `path` as route file `out`; nothing is left behind when it fails.

    Args:
        kind: one of KINDS.
        path: the log's folder or file.
        out: the route file, *.mcap.
        hfov_deg: horizontal field of view, for video only.
        progress: called with ticks done and ticks in all (None: not known).
    """
    source = open_log(kind, path, hfov_deg=hfov_deg)
    last_ns = 0
    with RouteWriter(out, source.rig, rate_hz=source.rate_hz, metadata=source.metadata) as writer:
        for obs in source:
            writer.write(obs)
            last_ns = obs.frame.mono_ns
            progress(writer.ticks, source.ticks)
        if writer.ticks == 0:
            raise LogLayoutError(f"{path} holds no frames; `import {kind}` takes {layout(kind)}")
    return ImportReport(
        kind=kind,
        route=str(out),
        ticks=writer.ticks,
        seconds=round(last_ns * 1e-9, 3),
        rate_hz=source.rate_hz,
        cameras=tuple(c.name for c in source.rig.cameras) if source.rig else (),
        metadata=dict(source.metadata),
        sha256=wire.digest_file(out),
        size_bytes=out.stat().st_size,
    )


def find_logs(folder: Path) -> list[tuple[str, Path]]:
    """Return (kind, path) of every log laid out under `folder` that imports without options.

    It looks four folders deep, by the files that mark each kind, in a fixed order.
    """
    found: list[tuple[str, Path]] = []
    for kind, mark, up in _MARKS:
        hits = (hit for depth in range(5) for hit in folder.glob("*/" * depth + mark))
        logs = sorted({hit.parents[up] for hit in hits})
        found += [(kind, p) for p in logs if (kind, p) not in found and _complete(kind, p)]
    return found


_MARKS: Final = (
    ("comma2k19", "global_pose/frame_times", 1),
    ("boreas", "camera_poses.csv", 0),
    ("boreas", "lidar_poses.csv", 0),
    ("kitti", "calib.txt", 0),
    ("nuscenes", "tracks.parquet", 0),
)
"""Kind, a file that marks it, and how far above the file the log's folder is."""


def _complete(kind: str, path: Path) -> bool:
    if kind == "nuscenes":
        return (path / "map.parquet").is_file() and (path / "meta.json").is_file()
    if kind == "kitti":
        return any((path / name).is_dir() for name in ("image_l", "image_2", "image_0"))
    return True


def _module(kind: str) -> Any:
    if kind not in KINDS:
        raise UnknownKindError(f"no importer for {kind!r}; there are: {', '.join(KINDS)}")
    return importlib.import_module(f"vehicle.importers.{kind}")
