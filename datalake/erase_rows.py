"""Rows of a car taken out of every snapshot of the lake, pinned ones too.

DuckLake's DELETE hides rows from new snapshots and leaves them in the Parquet files of old ones,
and a pinned snapshot may not be expired. So the files themselves are written again without the
rows, and the catalog's entries for them (tables of DuckLake 1.0's public specification) are changed
in one transaction: paths, sizes, counts, and the least and greatest values, which would otherwise
still say where the car was. Every snapshot keeps its number and its other rows.
"""

import math
import os
import struct
import uuid
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datalake.catalog import Catalog
from datalake.duck import LakeError
from vehicle.contracts.wire import sync_folder

_META: Final = "__ducklake_metadata_lake"
_KEYS: Final = ("car_id", "clip_id")


class ErasureBlockedError(LakeError):
    """Rows cannot be taken out of a file without hurting others; says what to do."""


@dataclass(frozen=True, slots=True)
class _File:
    """A Parquet file as the catalog knows it."""

    file_id: int
    table_id: int
    table: str
    path: Path


def clips_of(folder: Path, car_id: str) -> set[str]:
    """Return the clips that any Parquet file under the lake's data/ says are of a car."""
    found: set[str] = set()
    for path in sorted((folder / "data").rglob("*.parquet")):
        if set(_KEYS) <= set(pq.read_schema(path).names):
            rows = pq.read_table(path, columns=list(_KEYS))
            mine = rows.filter(pc.equal(rows["car_id"], car_id))
            found |= set(pc.unique(mine["clip_id"]).to_pylist())
    return found - {None}


def count_rows(folder: Path, car_id: str, clip_ids: Collection[str]) -> dict[str, int]:
    """Return how many rows of the car each table holds in its files, all snapshots together."""
    counts: Counter[str] = Counter()
    for path in sorted((folder / "data").rglob("*.parquet")):
        mask = _mine(path, car_id, clip_ids)
        if mask is not None:
            counts[path.parent.name] += pc.sum(mask).as_py() or 0
    return {table: n for table, n in sorted(counts.items()) if n}


def forget_rows(catalog: Catalog, car_id: str, clip_ids: Collection[str]) -> None:
    """Take a car's rows out of every file; call it while holding `catalog.alone()`.

    Killed at any instant it leaves a whole lake: files are written beside the old ones, the catalog
    changes in one transaction, and what nothing refers to is removed after it.

    Raises:
        ErasureBlockedError: a file has deleted rows of others, or small inlined rows exist.
    """
    connection = catalog.connect()
    try:
        catalog.attach(connection, read_only=False)
        _require_plain(connection)
        changed = [
            (file, mask)
            for file in _files(connection, catalog.folder / "data")
            if (mask := _mine(file.path, car_id, clip_ids)) is not None
        ]
        _require_undeleted(connection, [file for file, _ in changed])
        new = {file: _without(file, mask) for file, mask in changed}
        for folder in {file.path.parent for file in new}:
            sync_folder(folder)
        connection.execute("BEGIN")
        for file, (path, table) in new.items():
            _change_entry(connection, file, path, table)
        for table_id in sorted({file.table_id for file in new}):
            _sum_up(connection, table_id)
        connection.execute("COMMIT")
        for file in new:
            file.path.unlink(missing_ok=True)
        for sweep in ("ducklake_cleanup_old_files", "ducklake_delete_orphaned_files"):
            connection.execute(f"CALL {sweep}('lake', cleanup_all => true)")
    finally:
        connection.close()


def _mine(path: Path, car_id: str, clip_ids: Collection[str]) -> pa.ChunkedArray | None:
    """Return which rows of a file are the car's, None when none is."""
    keys = [name for name in _KEYS if name in pq.read_schema(path).names]
    if not keys:
        return None
    rows = pq.read_table(path, columns=keys)
    wanted = {"car_id": [car_id], "clip_id": sorted(clip_ids)}
    masks = [pc.is_in(rows[key], pa.array(wanted[key], pa.string())) for key in keys]
    mask = masks[0] if len(masks) == 1 else pc.or_(*masks)
    return mask if pc.any(mask).as_py() else None


def _require_plain(connection: duckdb.DuckDBPyConnection) -> None:
    inlined = connection.execute(f"SELECT count(*) FROM {_META}.ducklake_inlined_data_tables")
    if (row := inlined.fetchone()) and row[0]:
        raise ErasureBlockedError(
            "the lake keeps small inserts inside its catalog (written by another program than "
            "roadloop); flush them first: CALL ducklake_flush_inlined_data('lake')"
        )


def _files(connection: duckdb.DuckDBPyConnection, data: Path) -> Iterator[_File]:
    """Yield every data file that any snapshot refers to."""
    rows = connection.execute(
        "SELECT f.data_file_id, f.table_id, t.table_name, f.path, f.path_is_relative, t.path, "
        "t.path_is_relative, s.path, s.path_is_relative "
        f"FROM {_META}.ducklake_data_file f JOIN {_META}.ducklake_table t USING (table_id) "
        f"JOIN {_META}.ducklake_schema s USING (schema_id) ORDER BY f.data_file_id"
    ).fetchall()
    seen: set[int] = set()
    for file_id, table_id, table, *parts in rows:
        if file_id in seen:  # a table has a row for each of its past forms
            continue
        seen.add(file_id)
        path = Path()
        for part, relative in reversed(list(zip(parts[::2], parts[1::2], strict=True))):
            path = path / part if relative else Path(part)
        yield _File(file_id, table_id, table, data / path)


def _require_undeleted(connection: duckdb.DuckDBPyConnection, files: list[_File]) -> None:
    """Refuse files of which single rows were deleted: their places in the file would shift."""
    ids = [file.file_id for file in files]
    blocked = connection.execute(
        f"SELECT DISTINCT data_file_id FROM {_META}.ducklake_delete_file "
        "WHERE list_contains($ids, data_file_id)",
        {"ids": ids},
    ).fetchall()
    if blocked:
        table = next(f.table for f in files if f.file_id == blocked[0][0])
        raise ErasureBlockedError(
            f"rows of table {table} were deleted one by one in a file that holds this car too; "
            "give up the datasets whose pins keep it, compact the lake, and erase again"
        )


def _without(file: _File, mask: pa.ChunkedArray) -> tuple[Path | None, pa.Table]:
    """Write a file again without the masked rows; None in place of a path when none is left."""
    kept = pq.read_table(file.path).filter(pc.invert(mask))
    if not kept.num_rows:
        return None, kept
    path = file.path.with_name(f"ducklake-{uuid.uuid4()}.parquet")
    packing = pq.ParquetFile(file.path).metadata.row_group(0).column(0).compression
    pq.write_table(kept, path, compression=packing.lower(), store_schema=False)
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
    return path, kept


def _change_entry(
    connection: duckdb.DuckDBPyConnection, file: _File, path: Path | None, table: pa.Table
) -> None:
    """Let the catalog know the file that took another's place."""
    if path is None:
        for name in ("ducklake_data_file", "ducklake_file_column_stats"):
            connection.execute(
                f"DELETE FROM {_META}.{name} WHERE data_file_id = $id", {"id": file.file_id}
            )
        return
    with path.open("rb") as handle:
        handle.seek(-8, os.SEEK_END)
        (footer,) = struct.unpack("<I", handle.read(4))
    connection.execute(
        f"UPDATE {_META}.ducklake_data_file SET path = $path, record_count = $rows, "
        "file_size_bytes = $size, footer_size = $footer WHERE data_file_id = $id",
        {
            "path": path.name,
            "rows": table.num_rows,
            "size": path.stat().st_size,
            "footer": footer,
            "id": file.file_id,
        },
    )
    for column_id, facts in _facts(table):
        connection.execute(
            f"UPDATE {_META}.ducklake_file_column_stats SET value_count = $values, "
            "null_count = $nulls, min_value = $least, max_value = $most, contains_nan = $nan "
            "WHERE data_file_id = $id AND column_id = $column",
            facts | {"id": file.file_id, "column": column_id},
        )


def _facts(table: pa.Table) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield what the catalog says of each column: counts, least and greatest value as text."""
    for field in table.schema:
        leaf, column = field, table[field.name]
        nulls = column.null_count
        if pa.types.is_list(field.type):
            leaf, column = field.type.value_field, pc.list_flatten(column)
            nulls += column.null_count
        if not leaf.metadata or b"PARQUET:field_id" not in leaf.metadata:
            continue
        nan = None
        if pa.types.is_floating(leaf.type):
            nan = int(bool(pc.any(pc.is_nan(column)).as_py()))
            column = pc.drop_null(column).filter(pc.invert(pc.is_nan(pc.drop_null(column))))
        span = pc.min_max(column)
        values = len(column) - (column.null_count if nan is None else 0)
        yield (
            int(leaf.metadata[b"PARQUET:field_id"]),
            {
                "values": values,
                "nulls": nulls,
                "least": _text(span["min"].as_py()),
                "most": _text(span["max"].as_py()),
                "nan": nan,
            },
        )


def _text(value: Any) -> str | None:
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    return None if value is None else str(value)


def _sum_up(connection: duckdb.DuckDBPyConnection, table_id: int) -> None:
    """Let the catalog's facts of a whole table follow from those of its files."""
    connection.execute(
        f"UPDATE {_META}.ducklake_table_stats SET "
        f"record_count = (SELECT coalesce(sum(record_count), 0) FROM {_META}.ducklake_data_file "
        "WHERE table_id = $id AND end_snapshot IS NULL), "
        "file_size_bytes = (SELECT coalesce(sum(file_size_bytes), 0) "
        f"FROM {_META}.ducklake_data_file WHERE table_id = $id AND end_snapshot IS NULL) "
        "WHERE table_id = $id",
        {"id": table_id},
    )
    columns = connection.execute(
        f"SELECT DISTINCT column_id, column_type FROM {_META}.ducklake_column WHERE table_id = $id",
        {"id": table_id},
    ).fetchall()
    for column_id, kind in columns:
        cast = {"int64": "BIGINT", "float64": "DOUBLE", "float32": "FLOAT"}.get(kind, "VARCHAR")
        row = connection.execute(
            f"SELECT min(min_value::{cast})::VARCHAR, max(max_value::{cast})::VARCHAR, "
            "coalesce(max((null_count > 0)::INT), 0), max(contains_nan::INT) "
            f"FROM {_META}.ducklake_file_column_stats "
            "WHERE table_id = $id AND column_id = $column",
            {"id": table_id, "column": column_id},
        ).fetchone()
        least, most, null, nan = row or (None, None, 0, None)
        connection.execute(
            f"UPDATE {_META}.ducklake_table_column_stats SET min_value = $least, "
            "max_value = $most, contains_null = $null, contains_nan = $nan "
            "WHERE table_id = $id AND column_id = $column",
            {
                "least": least,
                "most": most,
                "null": null,
                "nan": nan,
                "id": table_id,
                "column": column_id,
            },
        )
