"""The folders other people's logs come in: what must be there, said by name when it is not."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vehicle.contracts.wire import RefusedError


class LogLayoutError(RefusedError, FileNotFoundError):
    """The folder is not laid out as this kind of log; the message lists what is missing."""


class LogDamagedError(RefusedError, ValueError):
    """A file of the log does not hold what it should."""


def require_folder(path: Path, kind: str, expected: str) -> None:
    """Raise LogLayoutError unless `path` is a folder."""
    if not path.is_dir():
        found = "is a file" if path.is_file() else "does not exist"
        raise LogLayoutError(f"{path} {found}; `import {kind}` takes {expected}")


def require_files(folder: Path, names: Iterable[str], kind: str, expected: str) -> None:
    """Raise LogLayoutError listing every one of `names` that `folder` lacks."""
    require_folder(folder, kind, expected)
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise LogLayoutError(
            f"{folder} lacks {', '.join(missing)}; `import {kind}` takes {expected}"
        )


def find_folder(path: Path, has: str, kind: str, expected: str, depth: int = 4) -> Path:
    """Return the one folder at or under `path` that holds `has`.

    Raises:
        LogLayoutError: none, or several (they are listed, to choose from).
    """
    require_folder(path, kind, expected)
    found = [path] if (path / has).exists() else []
    for level in range(1, depth + 1):
        if not found:
            found = sorted(p for p in path.glob("*/" * level) if (p / has).exists())
    if not found:
        raise LogLayoutError(f"{path} lacks {has}; `import {kind}` takes {expected}")
    if len(found) > 1:
        names = ", ".join(str(p.relative_to(path)) for p in found[:8])
        raise LogLayoutError(f"{path} holds {len(found)} logs ({names}); name one of them")
    return found[0]


def table(values: object, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Return `values` as finite float64 of `shape` (-1: any count).

    Raises:
        LogDamagedError: another shape, or numbers that are not finite.
    """
    try:
        data = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise LogDamagedError(f"{where} does not hold numbers: {error}") from error
    fits = data.ndim == len(shape) and all(
        want in (-1, have) for want, have in zip(shape, data.shape, strict=True)
    )
    if not fits:
        raise LogDamagedError(f"{where} has shape {data.shape}, expected {shape}")
    if not np.isfinite(data).all():
        raise LogDamagedError(f"{where} holds numbers that are not finite")
    return data
