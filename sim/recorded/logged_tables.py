"""Parquet and Feather of recorded scenes as arrays; pyarrow is imported here and only when asked.

docs/decisions/0004-logged-readers-use-pyarrow.md
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from sim.recorded.logged_scene import LoggedSceneError, SceneDamagedError, read_bytes


class MissingPyarrowError(LoggedSceneError):
    """The tables are Parquet or Feather, and pyarrow is not installed."""


def read_columns(path: Path, columns: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return columns of a Parquet or Feather file; lists stay lists (object arrays).

    Raises:
        MissingPyarrowError: pyarrow is not installed.
        SceneDamagedError: unreadable, too large, or a column is missing.
    """
    try:
        import pyarrow as pa
        import pyarrow.feather as feather
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingPyarrowError(
            f"reading {path.name} needs pyarrow: pip install 'roadloop[datalake]'"
        ) from error
    data = pa.BufferReader(read_bytes(path))
    try:
        read = feather.read_table if path.suffix == ".feather" else parquet.read_table
        table = read(data)
        table.validate(full=True)  # offsets of a damaged file may point anywhere
        missing = [name for name in columns if name not in table.column_names]
        if missing:
            raise SceneDamagedError(f"{path} lacks the columns {', '.join(missing)}")
        return {name: _plain(table.column(name)) for name in columns}
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, SceneDamagedError):
            raise
        raise SceneDamagedError(f"{path} does not read as a table: {error!s:.200}") from error


def _plain(column: Any) -> np.ndarray:
    if column.null_count or str(column.type).startswith(("list", "large_list")):
        values = np.empty(len(column), dtype=object)
        values[:] = column.to_pylist()
        return values
    return column.to_numpy()


def numbers(columns: dict[str, np.ndarray], names: tuple[str, ...], where: str) -> np.ndarray:
    """Return the named columns as float64 [N, len(names)]; a missing value is NaN."""
    try:
        return np.stack([np.asarray(columns[n], np.float64) for n in names], axis=1)
    except (TypeError, ValueError) as error:
        raise SceneDamagedError(f"{where} does not hold numbers: {error}") from error


def stamps(columns: dict[str, np.ndarray], name: str, where: str) -> np.ndarray:
    """Return a column of whole numbers as int64."""
    try:
        return columns[name].astype(np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise SceneDamagedError(f"{where}: {name} is no column of whole numbers") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        SceneDamagedError: not JSON, or not an object.
    """
    try:
        value = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise SceneDamagedError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise SceneDamagedError(f"{path} holds {type(value).__name__}, expected an object")
    return value
