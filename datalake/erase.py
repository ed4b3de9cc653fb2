"""Everything that home holds of one car, found, taken away, and accounted for.

What was trained on it cannot be untrained here: every dataset and model that its clips went into is
listed with its digest, so that somebody can decide. Killed at any instant, the same command run
again finishes the work.
"""

import json
import shutil
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from datalake.catalog import Catalog
from datalake.erase_rows import clips_of, count_rows, forget_rows
from datalake.lake import Lake
from datalake.landed import MANIFEST, BadClipError, Landed, landed
from vehicle.contracts import wire
from vehicle.contracts.bundle import ModelBundle
from vehicle.contracts.home import Home
from vehicle.contracts.sample import DatasetError, read_manifest
from vehicle.contracts.wire import RefusedError

_NOTHING: Final = "0" * 64


class BadCarNameError(RefusedError):
    """A car's name is not one that a folder can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """A dataset or model that the car's clips went into.

    Args:
        digest: of its manifest.
        clips: how many of the car's clips a dataset holds; 0 for a model, and where only the
            dataset's pin is left and its query no longer says.
    """

    name: str
    digest: str
    clips: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureReport:
    """What home held of a car, and what of that is left.

    Args:
        done: False for a look at what would go.
        clips: of the car, in the lake, its older snapshots or the landing zone.
        rows: table -> rows, over the files of all snapshots.
        files: kind -> clip objects, label rasters, landed clips and so on.
        bytes: of those files, Parquet not counted.
        unclear: folders in quarantine whose manifest does not say whose they are; they stay.
        datasets, models: not erased: decide about each.
        record: where the account lies; "" without one.
    """

    SCHEMA = "erasure/1"
    done: bool
    clips: int
    rows: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    unclear: tuple[str, ...] = ()
    datasets: tuple[Touched, ...] = ()
    models: tuple[Touched, ...] = ()
    record: str = ""

    @property
    def empty(self) -> bool:
        """Return whether home held nothing of the car."""
        return not (self.clips or self.rows or self.files)


def look(home: Home, car_id: str, *, store: str | None = None) -> ErasureReport:
    """Return what `erase` would take away; nothing is changed.

    Args:
        home: whose. car_id: the car.
        store: s3://bucket/prefix of a landing zone that is no folder here.
    Raises:
        BadCarNameError: no car can be called so. LakeError: the lake does not read.
    """
    zone = landed(home, store)
    there = _landed_clips(zone, _plain_name(car_id))
    return _report(home, car_id, _clips(home, car_id) | there, there)


def erase(home: Home, car_id: str, *, utc_ns: int, store: str | None = None) -> ErasureReport:
    """Take away everything that home holds of a car; see the module.

    Args:
        home: whose.
        car_id: the car; that it is enrolled does not matter (`roadloop fleet revoke` ends that).
        utc_ns: when, for the record.
        store: s3://bucket/prefix of a landing zone that is no folder here.
    Raises:
        BadCarNameError, LakeError, ErasureBlockedError: by name; run it again when put right.
    """
    zone = landed(home, store)
    there = _landed_clips(zone, _plain_name(car_id))
    clip_ids, plan = _clips(home, car_id) | there, _plan_file(home, car_id)
    found = _report(home, car_id, clip_ids, there)
    if found.empty and not plan.exists():
        return found
    first = _begun(plan) or _kept(home, found, clip_ids, plan)
    clip_ids |= set(first["clips"])
    catalog = Catalog.at(home.lake)
    with catalog.alone():
        if catalog.may_exist:
            forget_rows(catalog, car_id, clip_ids)
            _tidy(catalog)
        for _, path in _files(home, car_id, clip_ids):
            _remove(path)
        for clip_id in sorted(there):
            zone.forget(clip_id)
        shutil.rmtree(home.lake / "index", ignore_errors=True)  # embeddings; made again when asked
        record = _account(home, car_id, first["report"], utc_ns)
        plan.unlink()
    report = wire.from_plain(ErasureReport, first["report"])
    wire.sync_folder(plan.parent)
    return replace(report, done=True, record=str(record.relative_to(home.root)))


def _plain_name(car_id: str) -> str:
    if not car_id or "/" in car_id or car_id.startswith("."):
        raise BadCarNameError(f"car {car_id!r} is not a plain name")
    return car_id


def _clips(home: Home, car_id: str) -> set[str]:
    """Return the car's clips in the lake, and those that a killed run was about."""
    begun = _begun(_plan_file(home, car_id))
    return clips_of(home.lake, car_id) | set(begun["clips"] if begun else ())


def _landed_clips(zone: Landed, car_id: str) -> set[str]:
    """Return the car's clips in the landing zone, by their manifests."""
    found = set()
    for clip_id, _ in zone.clips():
        try:
            if _car_of(zone.read(clip_id, MANIFEST)) == car_id:
                found.add(clip_id)
        except BadClipError:
            continue  # it goes to quarantine with the next ingest
    return found


def _report(home: Home, car_id: str, clip_ids: set[str], there: set[str]) -> ErasureReport:
    files, size = ({"landed": len(there)} if there else dict[str, int]()), 0
    for kind, path in _files(home, car_id, clip_ids):
        files[kind] = files.get(kind, 0) + 1
        inside = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        size += sum(p.stat().st_size for p in inside)
    datasets = _datasets(home, clip_ids)
    return ErasureReport(
        done=False,
        clips=len(clip_ids),
        rows=count_rows(home.lake, car_id, clip_ids),
        files=files,
        bytes=size,
        unclear=tuple(
            str(folder.relative_to(home.root))
            for folder in _folders(home.lake / "quarantine")
            if _owner(folder) is None and folder.name.split(".")[0] not in clip_ids
        ),
        datasets=datasets,
        models=_models(home, {d.digest for d in datasets}),
    )


def _files(home: Home, car_id: str, clip_ids: Collection[str]) -> Iterable[tuple[str, Path]]:
    """Yield the files and folders that go, with their kind."""
    for clip_id in sorted(clip_ids):
        clip = home.lake / "clips" / clip_id[:2] / f"{clip_id}.mcap"
        if clip.exists():
            yield "clip objects", clip
        rasters = sorted((home.lake / "labels").glob(f"{clip_id}.*npz"))
        yield from (("label rasters", path) for path in rasters)
    for folder in _folders(home.lake / "quarantine"):
        if folder.name.split(".")[0] in clip_ids or _owner(folder) == car_id:
            yield "quarantined", folder
    for kind in ("uploads", "summaries", "wanted"):
        if (folder := home.fleet / kind / car_id).exists():
            yield kind, folder


def _folders(zone: Path) -> list[Path]:
    return sorted(p for p in zone.iterdir() if p.is_dir()) if zone.is_dir() else []


def _owner(folder: Path) -> str | None:
    """Return the car that a quarantined folder is of; None when nothing in it says."""
    for path in sorted(folder.glob("*.json")):
        if (car := _car_of(path.read_bytes())) is not None:
            return car
    return None


def _car_of(data: bytes) -> str | None:
    """Return the car that a manifest or summary names, however little else of it is right."""
    try:
        plain = json.loads(data)
    except (ValueError, RecursionError):
        return None
    about = plain.get("manifest", plain) if isinstance(plain, dict) else {}
    car = about.get("car_id") if isinstance(about, dict) else None
    return car if isinstance(car, str) else None


def _datasets(home: Home, clip_ids: set[str]) -> tuple[Touched, ...]:
    """Return the datasets that hold frames of the clips, by their manifests and by their pins."""
    found: dict[str, Touched] = {}
    for path in sorted(home.datasets.glob("[!.]*/dataset.json")):
        try:
            manifest = read_manifest(path.parent)
        except (DatasetError, wire.ContractError):
            found[str(path)] = Touched(name=path.parent.name, digest=wire.digest_file(path))
            continue
        if mine := clip_ids & set(manifest.sources):
            touched = Touched(name=manifest.name, digest=manifest.digest, clips=len(mine))
            found[manifest.digest] = touched
        else:
            found[manifest.digest] = Touched(name="", digest="")
    with Lake(home) as lake:
        for pin in lake.sql("SELECT name, digest, query, snapshot FROM pins").to_pylist():
            if pin["digest"] not in found:
                found[pin["digest"]] = _of_pin(lake, pin, clip_ids)
    return tuple(touched for touched in found.values() if touched.name)


def _of_pin(lake: Lake, pin: dict[str, Any], clip_ids: set[str]) -> Touched:
    """Return what a dataset whose folder is gone held; when that cannot be told, that it may."""
    mine: set[str] = set()
    try:
        with lake.at(pin["snapshot"]) as then:
            mine = clip_ids & set(then.sql(pin["query"])["clip_id"].to_pylist())
        if not mine:
            return Touched(name="", digest="")
    except (RefusedError, KeyError):
        pass
    return Touched(name=pin["name"], digest=pin["digest"], clips=len(mine))


def _models(home: Home, datasets: set[str]) -> tuple[Touched, ...]:
    """Return the models trained on the datasets, and those fine-tuned from such models."""
    with Lake(home) as lake:
        rows = lake.sql("SELECT name, version, digest, dataset_digest, parent_digest FROM models")
        known = {r["digest"]: r for r in rows.to_pylist()}
    for path in sorted(home.models.glob("*/bundle.json")):
        try:
            bundle = wire.from_bytes(ModelBundle, path.read_bytes(), strict=False)
        except (OSError, wire.ContractError):
            continue
        known[wire.digest_file(path)] = {
            "name": bundle.name,
            "version": bundle.version,
            "dataset_digest": bundle.lineage.dataset_digest,
            "parent_digest": bundle.lineage.parent_digest,
        }
    touched: set[str] = set()
    while True:
        more = {
            digest
            for digest, row in known.items()
            if row["dataset_digest"] in datasets or row["parent_digest"] in touched
        }
        if more == touched:
            break
        touched = more
    return tuple(
        Touched(name=f"{known[d]['name']}@{known[d]['version']}", digest=d) for d in sorted(touched)
    )


def _plan_file(home: Home, car_id: str) -> Path:
    return home.lake / "erasures" / f".{wire.digest(car_id.encode())}.json"


def _begun(plan: Path) -> dict[str, Any] | None:
    """Return what a run that was killed had found."""
    if not plan.is_file():
        return None
    plain: dict[str, Any] = json.loads(plan.read_bytes())
    return plain


def _kept(home: Home, found: ErasureReport, clip_ids: set[str], plan: Path) -> dict[str, Any]:
    """Write down what will go before anything goes."""
    plain = {
        "schema": "erasureplan/1",
        "clips": sorted(clip_ids),
        "report": wire.to_plain(found),
    }
    wire.atomic_write(plan, wire.canonical(plain))
    return plain


def _tidy(catalog: Catalog) -> None:
    """Leave no erased value in the free pages of a SQLite catalog."""
    if catalog.address:
        return  # Postgres reuses its pages by itself: VACUUM FULL is its owner's to run
    connection = sqlite3.connect(catalog.file, timeout=30.0)
    try:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    wire.sync_folder(path.parent)


def _account(home: Home, car_id: str, report: dict[str, Any], utc_ns: int) -> Path:
    """Write the record: counts and digests, no name; each holds the digest of the one before."""
    folder = home.lake / "erasures"
    earlier = sorted(folder.glob("[0-9]*.json"))
    before = wire.digest_file(earlier[-1]) if earlier else _NOTHING
    kept = ("clips", "rows", "files", "bytes", "datasets", "models")
    record = {
        "schema": "erasurerecord/1",
        "number": len(earlier) + 1,
        "before_sha256": before,
        "car_sha256": wire.digest(f"{before}/{car_id}".encode()),
        "erased_utc_ns": utc_ns,
        **{name: report[name] for name in kept},
    }
    path = folder / f"{len(earlier) + 1:06d}.json"
    wire.atomic_write(path, wire.canonical(record))
    return path
