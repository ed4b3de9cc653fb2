"""Which model learned from which dataset: bundles' own words, kept where clips and pins are."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from datalake.lake import Lake, Writer
from datalake.tables import MODELS
from vehicle.contracts import wire
from vehicle.contracts.bundle import ModelBundle

MANIFEST: Final = "bundle.json"

LINEAGE: Final = (
    "SELECT m.name, m.version, m.digest, m.recipe, coalesce(m.dataset, p.name) AS dataset, "
    "m.dataset_digest, p.snapshot, p.clips, p.frames, m.parent_digest FROM models m "
    "LEFT JOIN (SELECT DISTINCT ON (digest) * FROM pins) p ON p.digest = m.dataset_digest "
    "ORDER BY m.name, m.version"
)
"""Every model with the dataset it was trained on, where the lake pins one."""


class UnknownBundleError(wire.RefusedError):
    """There is no bundle's manifest at a path."""


def add(lake: Lake, bundles: Iterable[Path]) -> int:
    """Add bundles to `models`, each once; return how many are new.

    Args:
        bundles: folders of bundles, or their bundle.json.
    Raises:
        UnknownBundleError: a path has no manifest.
        ContractError: a manifest is not one.
    """
    read = [_read(path) for path in bundles]
    names = lake.sql("SELECT digest, name FROM pins").to_pylist()
    pins = {row["digest"]: row["name"] for row in names}

    def change(writer: Writer) -> int:
        known = writer.known("models", "digest", [digest for digest, _ in read])
        fresh = {digest: bundle for digest, bundle in read if digest not in known}
        rows = (row_of(digest, bundle, pins) for digest, bundle in fresh.items())
        return writer.append("models", MODELS.rows(rows))

    return lake.write(change)


def lineage(lake: Lake) -> pa.Table:
    """Return every model with its dataset's snapshot, clips and frames."""
    return lake.sql(LINEAGE)


def row_of(digest: str, bundle: ModelBundle, pins: dict[str, str]) -> dict[str, Any]:
    """Return the row of a bundle; `pins` names the datasets by digest."""
    made = bundle.lineage
    return {
        "name": bundle.name,
        "version": bundle.version,
        "digest": digest,
        "recipe": made.recipe,
        "dataset": pins.get(made.dataset_digest),
        "dataset_digest": made.dataset_digest,
        "parent_digest": made.parent_digest or None,
        "odd": json.dumps(bundle.odd, sort_keys=True),
        "seed": made.seed,
        "steps": made.steps,
    }


def _read(path: Path) -> tuple[str, ModelBundle]:
    manifest = path / MANIFEST if path.is_dir() else path
    if not manifest.is_file():
        raise UnknownBundleError(f"{path} is no bundle: there is no {MANIFEST}")
    data = manifest.read_bytes()
    return wire.digest(data), wire.from_bytes(ModelBundle, data, strict=False)
