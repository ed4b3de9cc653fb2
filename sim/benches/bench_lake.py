"""The lake beside plain DuckDB over the same Parquet files, and its search beside numpy.

Made-up drives, 600 ticks a clip and as many values as a car writes; the tables are filled and
compacted as ingest and maintenance do it, then each question is asked of both in turn.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa

from datalake import reader
from datalake.commit import Ready, commit
from datalake.lake import Lake
from datalake.maintain import compact
from datalake.tables import CLIPS, EMBEDDINGS, TICKS
from datalake.vectors import load
from vehicle.contracts import wire
from vehicle.contracts.bench import Bench, Must, percentiles
from vehicle.contracts.home import Home

ROWS: Final = 10_000_000
CLIP_TICKS: Final = 600
CARS: Final = 100
WRITE_ROWS: Final = 800 * CLIP_TICKS
VECTORS: Final = (1_000_000, 128)
NEAREST: Final = 10
WRITERS, COMMITS, COMMIT_ROWS = 4, 20, 2_000
SMALL_FILES: Final = 80
MODEL: Final = "base@1"
SECONDS: Final = 4.0
"""How long a question is asked of both in turn, about."""

QUESTIONS: Final = {
    "count": "SELECT count(*) AS n FROM ticks",
    "count where": "SELECT count(*) AS n FROM ticks WHERE accel_mps2 <= -3.5",
    "one clip": "SELECT * FROM ticks WHERE clip_id = '{clip}' ORDER BY frame_id",
    "group + quantile": (
        "SELECT car_id, count(*) AS n, avg(speed_mps) AS mean_mps, "
        "quantile_cont(total_us, 0.99) AS p99_us FROM ticks GROUP BY car_id ORDER BY car_id"
    ),
    "window pattern": (
        "SELECT clip_id, frame_id FROM (SELECT clip_id, frame_id, accel_mps2, max(CASE WHEN "
        "ttc_s < 2 THEN 1 ELSE 0 END) OVER (PARTITION BY clip_id ORDER BY mono_ns RANGE BETWEEN "
        "2000000000 PRECEDING AND CURRENT ROW) AS near FROM ticks WHERE car_id < 'car-010') "
        "WHERE near = 1 AND accel_mps2 <= -3 ORDER BY clip_id, frame_id"
    ),
}
"""Of research/datalake.md section 2; the window looks at a tenth of the cars."""

LIMIT, NUMPY_LIMIT = 1.2, 1.3

Told = Callable[[float], None]


def lake_bench(*, frames: int, progress: Told, bundle: Path | None) -> Bench:
    """Measure the lake.

    Args:
        frames: rows of `ticks`; embeddings are a tenth of them.
        progress: told the share that is done.
        bundle: plays no part.
    """
    bench = Bench(name="lake")
    with TemporaryDirectory(prefix="roadloop-lake-") as folder:
        home = Home(Path(folder) / "ticks")
        _fill(bench, home, frames, lambda share: progress(0.3 * share))
        _ask(bench, home, frames, lambda share: progress(0.3 + 0.4 * share))
    with TemporaryDirectory(prefix="roadloop-lake-") as folder:
        vectors = (max(frames * VECTORS[0] // ROWS, 1_000), VECTORS[1])
        _search(bench, Home(Path(folder)), vectors)
        progress(0.9)
    with TemporaryDirectory(prefix="roadloop-lake-") as folder:
        _commits(bench, Home(Path(folder) / "commits"))
        _compaction(bench, Home(Path(folder) / "small"))
        progress(1.0)
    return bench


def _fill(bench: Bench, home: Home, rows: int, progress: Told) -> None:
    rng = np.random.default_rng(1)
    begin = time.perf_counter()
    with Lake(home) as lake:
        for first in range(0, rows, WRITE_ROWS):
            count = min(WRITE_ROWS, rows - first)
            lake.append("ticks", drives(rng, first // CLIP_TICKS, count))
            progress((first + count) / rows)
    wrote = time.perf_counter() - begin
    begin = time.perf_counter()
    report = compact(home, keep=1)
    bench.rows.append(
        {
            "row": "ticks written and compacted",
            "n": rows,
            "write_s": round(wrote, 2),
            "compact_s": round(time.perf_counter() - begin, 2),
            "files": f"{report.files_before} -> {report.files_after}",
            "megabytes": round(sum(p.stat().st_size for p in _parquet(home)) / 1e6),
        }
    )


def drives(rng: np.random.Generator, first_clip: int, count: int) -> pa.Table:
    """Return rows of `ticks`: smooth drives with now and then a hard brake behind somebody."""
    tick = np.arange(count) % CLIP_TICKS
    clip = first_clip + np.arange(count) // CLIP_TICKS
    ids = pa.array([clip_id(c) for c in range(first_clip, int(clip[-1]) + 1)])
    cars = pa.array([f"car-{c % CARS:03d}" for c in range(first_clip, int(clip[-1]) + 1)])
    where = pa.array(clip - first_clip)
    noise = rng.normal(size=count)
    brakes = (rng.random(count) < 2e-4) * rng.uniform(3.0, 8.0, count)
    speed = np.round(12.0 + 6.0 * np.sin(clip * 1.7 + tick * 0.01) + 0.1 * noise, 3)
    ttc = np.where(rng.random(count) < 0.01, rng.uniform(0.5, 3.0, count), np.nan)
    known: dict[str, Any] = {
        "clip_id": ids.take(where),
        "car_id": cars.take(where),
        "route_id": cars.take(where),
        "frame_id": tick,
        "mono_ns": tick * 50_000_000,
        "x_m": np.round(np.cumsum(speed) * 0.05, 2),
        "y_m": np.round(noise, 2),
        "speed_mps": speed,
        "accel_mps2": np.round(0.4 * noise - brakes, 3),
        "curvature_1pm": np.round(0.01 * np.sin(tick * 0.02), 5),
        "n_tracks": rng.integers(0, 12, count),
        "fresh": np.ones(count, np.int64),
        "uncertainty_ratio": np.round(rng.beta(2, 6, count), 4),
        "ttc_s": pa.array(np.round(ttc, 3), from_pandas=True),
        "total_us": 7_000 + (400 * np.abs(noise)).astype(np.int64),
        "rung": pa.array(np.where(rng.random(count) < 0.999, "full", "coast")),
    }
    columns = [known.get(c.name, pa.nulls(count, c.kind)) for c in TICKS.columns]
    return pa.table(
        [pa.array(c) if isinstance(c, np.ndarray) else c for c in columns], TICKS.schema
    )


def clip_id(number: int) -> str:
    """Return the name of a made-up clip: a sha256, as all are."""
    return wire.digest(str(number).encode())


def _ask(bench: Bench, home: Home, rows: int, progress: Told) -> None:
    files = reader.files(home)["ticks"].files
    paths = ", ".join(f"'{f.path}'" for f in files)
    clip = clip_id(rows // CLIP_TICKS // 2)
    with Lake(home) as lake, duckdb.connect() as plain:
        threads = lake.sql("SELECT current_setting('threads') AS n")["n"][0].as_py()
        plain.execute(f"SET threads = {threads}")
        columns = ", ".join(c.name for c in TICKS.columns)
        plain.execute(f"CREATE VIEW ticks AS SELECT {columns} FROM read_parquet([{paths}])")
        for done, (name, text) in enumerate(QUESTIONS.items()):
            query = text.format(clip=clip)
            ours, theirs, answer = _in_turn(
                lambda q=query: lake.sql(q), lambda q=query: plain.execute(q).to_arrow_table()
            )
            ratio = round(min(ours) / min(theirs), 3)
            _row(bench, f"{name}: lake", ours, answer_rows=answer.num_rows)
            _row(bench, f"{name}: plain DuckDB", theirs, files=len(files), threads=threads)
            figure = f"{name}, lake over plain DuckDB, best of n"
            bench.must.append(
                Must(
                    figure=figure, value=ratio, op="<=", limit=LIMIT, unit="ratio", n=len(ours),
                    peer="plain DuckDB over the same Parquet",
                )
            )  # fmt: skip
            progress((done + 1) / len(QUESTIONS))


def _in_turn(
    ours: Callable[[], pa.Table], theirs: Callable[[], pa.Table]
) -> tuple[list[float], list[float], pa.Table]:
    """Ask both in turn, first one and then the other first, 8 to 60 times each; return times in
    milliseconds, and the answer, which must be the same."""
    times: tuple[list[float], list[float]] = ([], [])
    answers = [ours(), theirs()]
    same = answers[0].num_rows == answers[1].num_rows
    wire.require(same and answers[0].column_names == answers[1].column_names, "answers differ")
    end = time.perf_counter() + SECONDS
    while len(times[0]) < 60 and (len(times[0]) < 8 or time.perf_counter() < end):
        order = (0, 1) if len(times[0]) % 2 else (1, 0)
        for which in order:
            begin = time.perf_counter()
            (ours, theirs)[which]()
            times[which].append((time.perf_counter() - begin) * 1e3)
    return *times, answers[0]


def _search(bench: Bench, home: Home, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    begin = time.perf_counter()
    with Lake(home) as lake:
        for first in range(0, shape[0], 250_000):
            lake.append(
                "embeddings", _vectors(rng, first, min(250_000, shape[0] - first), shape[1])
            )
    wrote = time.perf_counter()
    with Lake(home) as lake:
        vectors = load(lake, MODEL)
    bench.rows.append(
        {
            "row": "embeddings written, then read as one matrix",
            "n": shape[0],
            "width": shape[1],
            "write_s": round(wrote - begin, 2),
            "read_s": round(time.perf_counter() - wrote, 2),
        }
    )
    matrix, query = vectors.unit_NE, vectors.unit_NE[shape[0] // 3].copy()

    def peer() -> pa.Table:
        cosine = matrix @ query
        best = np.argpartition(-cosine, NEAREST)[:NEAREST]
        best = best[np.argsort(-cosine[best], kind="stable")]
        return pa.table({"row": best})

    def ours() -> pa.Table:
        return pa.table({"row": vectors.nearest(query, NEAREST)[0]})

    wire.require(ours().equals(peer()), "the nearest rows differ")
    mine, theirs, _ = _in_turn(ours, peer)
    _row(bench, f"nearest {NEAREST}: lake", mine)
    _row(bench, f"nearest {NEAREST}: numpy", theirs)
    bench.must.append(
        Must(
            figure=f"nearest {NEAREST} of {shape[0]} x {shape[1]}, lake over numpy, best of n",
            value=round(min(mine) / min(theirs), 3),
            op="<=",
            limit=NUMPY_LIMIT,
            unit="ratio",
            n=len(mine),
            peer="numpy product and partition of the same matrix",
        )
    )


def _vectors(rng: np.random.Generator, first: int, count: int, width: int) -> pa.Table:
    flat = pa.array(rng.standard_normal(count * width, np.float32))
    ends = pa.array(np.arange(count + 1, dtype=np.int32) * width)
    clips = pa.array([clip_id(c) for c in range(first // 1000, (first + count - 1) // 1000 + 1)])
    number = np.arange(first, first + count)
    return pa.table(
        {
            "clip_id": clips.take(pa.array(number // 1000 - first // 1000)),
            "frame_id": pa.array(number % 1000),
            "model": pa.array([MODEL]).take(pa.array(np.zeros(count, np.int64))),
            "embedding": pa.ListArray.from_arrays(ends, flat),
        },
        schema=EMBEDDINGS.schema,
    )


def _commits(bench: Bench, home: Home) -> None:
    """Let several processes put clips into one lake, as research/datalake.md section 2 did."""
    with Lake(home) as lake:
        commit(lake, [_ready(-1, 1)])
    context = multiprocessing.get_context("spawn")
    with context.Pool(WRITERS) as pool:
        done = pool.starmap(_write, [(home, who, COMMITS) for who in range(WRITERS)], chunksize=1)
    span = max(end for _, end, _ in done) - min(begin for begin, _, _ in done)
    waits = [wait for _, _, each in done for wait in each]
    with Lake(home) as lake:
        found = lake.sql(
            "SELECT count(*) AS n, count(DISTINCT clip_id) AS d FROM clips"
        ).to_pylist()
        snapshots = lake.snapshot()
    wanted = WRITERS * COMMITS + 1
    whole = found == [{"n": wanted, "d": wanted}]
    bench.rows.append(
        {
            "row": "commits of several processes",
            "processes": WRITERS,
            "rows_each": COMMIT_ROWS,
            "batches_per_s": round(WRITERS * COMMITS / span, 1),
            "snapshots": snapshots,
            **{f"wait_ms_{k}": v for k, v in percentiles([w * 1e3 for w in waits]).items()},
        }
    )
    bench.must.append(
        Must(figure="batches lost or twice", value=0.0 if whole else 1.0, op="==", limit=0.0,
             unit="batches", n=wanted)
    )  # fmt: skip


def _write(home: Home, who: int, commits: int) -> tuple[float, float, list[float]]:
    """Commit batches; return begin and end on the machine's clock, and how long each took."""
    batches = [_ready(who * commits + i, COMMIT_ROWS) for i in range(commits)]
    waits = []
    with Lake(home) as lake:
        lake.sql("FROM clips")
        begin = time.monotonic()
        for batch in batches:
            start = time.monotonic()
            commit(lake, [batch])
            waits.append(time.monotonic() - start)
        return begin, time.monotonic(), waits


def _ready(number: int, rows: int) -> Ready:
    ticks = drives(np.random.default_rng(number % 1000), number % 1000, rows)
    clip = f"batch-{number}"
    return Ready(clip, {"clips": CLIPS.rows([{"clip_id": clip}]), "ticks": ticks})


def _compaction(bench: Bench, home: Home) -> None:
    rng = np.random.default_rng(3)
    with Lake(home) as lake:
        for number in range(SMALL_FILES):
            lake.append("ticks", drives(rng, number, COMMIT_ROWS))
    begin = time.perf_counter()
    report = compact(home, keep=1)
    bench.rows.append(
        {
            "row": "compaction",
            "files": f"{report.files_before} -> {report.files_after}",
            "rows": SMALL_FILES * COMMIT_ROWS,
            "seconds": round(time.perf_counter() - begin, 2),
        }
    )


def _row(bench: Bench, name: str, times_ms: list[float], **more: Any) -> None:
    facts = {"best_ms": round(min(times_ms), 3), "median_ms": round(float(np.median(times_ms)), 3)}
    bench.rows.append({"row": name, **facts, **percentiles(times_ms), **more})


def _parquet(home: Home) -> Iterator[Path]:
    return (home.lake / "data").rglob("*.parquet")
