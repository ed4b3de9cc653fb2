"""One committer at a time, for everybody: rows of prepared clips into the lake.

Whoever has clips ready hands them in as a file and then waits for the lake's lock; whoever gets the
lock commits all that was handed in until then, in one transaction. Ten ingests at once so make few
commits and few Parquet files, and never fight over the catalog. What a killed process handed in is
thrown away: its clips are still where they landed.
"""

import itertools
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from datalake.lake import Lake, LakeWriteError, Writer
from datalake.landed import is_alive
from vehicle.contracts import wire

MOST_ROWS: Final = 500_000
"""Rows of one commit, about; the rest waits for the next."""

_NUMBER = itertools.count()


@dataclass(frozen=True, slots=True)
class Ready:
    """A clip whose object is stored: its rows by table, ticks and all."""

    clip_id: str
    tables: Mapping[str, pa.Table]

    @property
    def rows(self) -> int:
        """Return the rows in all tables."""
        return sum(t.num_rows for t in self.tables.values())


def commit(lake: Lake, batch: list[Ready]) -> set[str]:
    """Append the rows of prepared clips, each exactly once; return those that were in before.

    Raises:
        LakeError: nothing of the batch was kept.
    """
    if not batch:
        return set()
    queue = lake.home.lake / "queue"
    handed = _hand_in(queue, batch)
    try:
        lake.write(lambda writer: _commit_all(writer, queue, handed), after=_answer)
        return set(json.loads(_answer_of(handed).read_bytes()))
    except OSError as error:
        raise LakeWriteError(f"cannot use {queue}: {error}; then ingest again") from error
    finally:
        handed.unlink(missing_ok=True)
        _answer_of(handed).unlink(missing_ok=True)


def sweep_queue(queue: Path) -> None:
    """Remove what killed processes of this machine handed in or were answered."""
    for path in queue.glob(f"{_host()}.*"):
        if not _is_alive(path):
            path.unlink(missing_ok=True)


def _hand_in(queue: Path, batch: list[Ready]) -> Path:
    """Write the batch as Arrow streams, one per table, under a name that says whose it is."""
    queue.mkdir(parents=True, exist_ok=True)
    path = queue / f"{_host()}.{os.getpid()}.{next(_NUMBER)}.batch"
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        for name in batch[0].tables:
            table = pa.concat_tables([ready.tables[name] for ready in batch])
            table = table.replace_schema_metadata({"table": name})
            with pa.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
    part.replace(path)  # no fsync: after a power loss its clips are prepared again
    return path


def _commit_all(writer: Writer, queue: Path, mine: Path) -> dict[Path, list[str]]:
    """Append what all have handed in; return what of each was in before."""
    if _answer_of(mine).exists():
        return {}
    taken: dict[Path, dict[str, pa.Table]] = {}
    rows = 0
    for path in (mine, *sorted(queue.glob(f"{_host()}.*.batch"))):
        if path in taken or _answer_of(path).exists() or not _is_alive(path) or rows > MOST_ROWS:
            continue
        try:
            taken[path] = dict(_tables(path))
        except FileNotFoundError:
            continue  # given up meanwhile
        rows += sum(t.num_rows for t in taken[path].values())
    ids = {path: tables["clips"]["clip_id"].to_pylist() for path, tables in taken.items()}
    known = writer.known("clips", "clip_id", {i for each in ids.values() for i in each})
    answers: dict[Path, list[str]] = {}
    fresh: list[dict[str, pa.Table]] = []
    for path, tables in taken.items():
        answers[path] = [i for i in ids[path] if i in known]
        fresh.append({name: _without(table, known) for name, table in tables.items()})
        known |= set(ids[path])
    for name in fresh[0]:
        writer.append(name, pa.concat_tables([tables[name] for tables in fresh]))
    return answers


def _answer(answers: Mapping[Path, list[str]]) -> None:
    """Tell each its answer, while the lock is still held."""
    for path, known in answers.items():
        part = path.with_suffix(".told")
        part.write_bytes(wire.canonical(known))
        part.replace(_answer_of(path))


def _tables(path: Path) -> Iterator[tuple[str, pa.Table]]:
    with pa.OSFile(str(path)) as file:
        while file.tell() < file.size():
            table = pa.ipc.open_stream(file).read_all()
            yield table.schema.metadata[b"table"].decode(), table.replace_schema_metadata(None)


def _without(table: pa.Table, known: set[str]) -> pa.Table:
    if not known:
        return table
    import pyarrow.compute as pc

    return table.filter(pc.invert(pc.is_in(table["clip_id"], pa.array(sorted(known), pa.string()))))


def _answer_of(path: Path) -> Path:
    return path.with_suffix(".answer")


def _is_alive(path: Path) -> bool:
    return is_alive(path.name.split(".")[-3])


def _host() -> str:
    return socket.gethostname().split(".")[0]
