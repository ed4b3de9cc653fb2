"""A car's data leaves every snapshot, every file and every folder, and nobody else's does."""

import json
import shutil
from pathlib import Path

import obstore
import pyarrow.parquet as pq
import pytest
from lake_parts import FRAMES, land, rows, write_truth
from typer.testing import CliRunner

from datalake import erase as erasure
from datalake import erase_rows
from datalake.cli import app
from datalake.dataset import create
from datalake.erase import BadCarNameError, Touched, erase, look
from datalake.ingest import ingest
from datalake.label import label
from datalake.lake import Lake
from datalake.landed import LandedStore
from datalake.tables import MODELS
from vehicle.contracts import wire
from vehicle.contracts.home import Home

EVERY = "SELECT clip_id, frame_id FROM ticks"


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Two cars with a clip each, labelled, in a dataset; a third clip that came later."""
    home = Home(tmp_path_factory.mktemp("erase") / "home")
    ids = [land(home, seed=k, car_id=f"car-{k}") for k in (1, 2)]
    for k in (1, 2):
        write_truth(home, seed=k, car_id=f"car-{k}")
    ingest(home)
    with Lake(home) as lake:
        label(home, lake, ids)
    both = create(home, "both", EVERY)
    create(home, "second", f"{EVERY} WHERE car_id = 'car-2'")
    with Lake(home) as lake:
        facts = {"version": 1, "recipe": "base", "dataset": "both", "seed": 0, "steps": 1}
        first = {"name": "mined", "digest": "a" * 64, "dataset_digest": both.digest, **facts}
        child = {"name": "child", "digest": "b" * 64, "parent_digest": "a" * 64, **facts}
        child["dataset_digest"] = "c" * 64
        lake.append("models", MODELS.rows([first, child]))
    land(home, seed=3, car_id="car-1")
    ingest(home)
    return home


@pytest.fixture
def two_cars(furnished: Home, home: Home) -> Home:
    """A copy of that home: a lake may be moved."""
    shutil.copytree(furnished.root, home.root)
    return home


def holds(folder: Path, words: list[str]) -> list[str]:
    """Return the files under a folder in whose bytes, or Parquet cells, a word occurs."""
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.suffix == ".parquet":
            data += str(pq.read_table(path).to_pylist()).encode()
        if any(word.encode() in data for word in words):
            found.append(str(path.relative_to(folder)))
    return found


def test_a_look_says_what_goes_and_changes_nothing(two_cars: Home) -> None:
    before = {p: p.stat().st_mtime_ns for p in two_cars.root.rglob("*") if p.is_file()}
    report = look(two_cars, "car-1")
    after = {p: p.stat().st_mtime_ns for p in two_cars.root.rglob("*") if p.is_file()}
    assert {p: t for p, t in after.items() if "catalog" not in p.name and "lock" not in p.name} == {
        p: t for p, t in before.items() if "catalog" not in p.name and "lock" not in p.name
    }
    assert (report.done, report.clips, report.rows["clips"]) == (False, 2, 2)
    assert report.rows["ticks"] == 2 * FRAMES
    assert report.files == {"clip objects": 2, "label rasters": 1, "landed": 2}


def test_nothing_of_the_car_is_left_in_any_file_of_the_lake(two_cars: Home) -> None:
    mine = rows(two_cars, "SELECT clip_id FROM clips WHERE car_id = 'car-1'")
    words = ["car-1", *(str(row["clip_id"]) for row in mine)]
    assert holds(two_cars.lake, words)
    report = erase(two_cars, "car-1", utc_ns=1)
    assert report.done
    assert holds(two_cars.lake, words) == []
    assert holds(two_cars.landing, words) == []


def test_pinned_snapshots_lose_the_car_and_keep_the_rest(two_cars: Home) -> None:
    [pin] = rows(two_cars, "SELECT snapshot FROM pins WHERE name = 'both'")
    erase(two_cars, "car-1", utc_ns=1)
    with Lake(two_cars) as lake, lake.at(int(str(pin["snapshot"]))) as then:
        cars = then.sql("SELECT car_id, count(*) AS n FROM ticks GROUP BY ALL").to_pylist()
        assert cars == [{"car_id": "car-2", "n": FRAMES}]
        where = "speed_mps >= 10 AND frame_id BETWEEN 3 AND 5"
        assert then.sql(f"SELECT count(*) AS n FROM ticks WHERE {where}")["n"][0].as_py() == 3
        assert then.sql("SELECT count(*) AS n FROM labelled")["n"][0].as_py() == FRAMES
    assert rows(two_cars, "SELECT DISTINCT car_id FROM clips") == [{"car_id": "car-2"}]


def test_a_dataset_without_the_car_is_made_again_with_the_same_bytes(two_cars: Home) -> None:
    folder = two_cars.datasets / "second"
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    snapshot = json.loads(before["dataset.json"])["snapshot"]
    erase(two_cars, "car-1", utc_ns=1)
    query = f"{EVERY} WHERE car_id = 'car-2'"
    create(two_cars, "second", query, snapshot=snapshot, replace=True)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_every_dataset_and_model_touched_is_listed(two_cars: Home) -> None:
    report = erase(two_cars, "car-1", utc_ns=1)
    [dataset] = report.datasets
    assert (dataset.name, dataset.clips) == ("both", 1)
    assert (
        dataset.digest == rows(two_cars, "SELECT digest FROM pins WHERE name = 'both'")[0]["digest"]
    )
    assert report.models == (
        Touched(name="mined@1", digest="a" * 64),
        Touched(name="child@1", digest="b" * 64),
    )


def test_a_dataset_whose_folder_is_gone_is_listed_by_its_pin(two_cars: Home) -> None:
    shutil.rmtree(two_cars.datasets / "both")
    assert [d.name for d in look(two_cars, "car-1").datasets] == ["both"]
    assert [d.name for d in look(two_cars, "car-2").datasets] == ["second", "both"]


@pytest.mark.parametrize("where", ["_change_entry", "_sum_up"])
def test_killed_in_the_rows_and_run_again_it_is_finished(
    two_cars: Home, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    _killed_and_run_again(two_cars, monkeypatch, erase_rows, where)


@pytest.mark.parametrize("where", ["forget_rows", "_tidy", "_remove", "_account"])
def test_killed_anywhere_and_run_again_it_is_finished(
    two_cars: Home, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    _killed_and_run_again(two_cars, monkeypatch, erasure, where)


def _killed_and_run_again(
    home: Home, monkeypatch: pytest.MonkeyPatch, module: object, where: str
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    planned = look(home, "car-1")
    with monkeypatch.context() as patch:
        patch.setattr(module, where, dies)
        with pytest.raises(KeyboardInterrupt):
            erase(home, "car-1", utc_ns=1)
    assert rows(home, "SELECT DISTINCT car_id FROM ticks WHERE car_id <> 'car-1'")
    report = erase(home, "car-1", utc_ns=2)
    assert (report.rows, report.files) == (planned.rows, planned.files)
    assert holds(home.lake, ["car-1"]) == []
    assert len(list((home.lake / "erasures").iterdir())) == 1


def test_a_second_erasure_finds_nothing_and_records_nothing(two_cars: Home) -> None:
    erase(two_cars, "car-1", utc_ns=1)
    assert look(two_cars, "car-1").empty
    assert erase(two_cars, "car-1", utc_ns=2).empty
    assert len(list((two_cars.lake / "erasures").iterdir())) == 1


def test_records_are_chained_and_name_nobody(two_cars: Home) -> None:
    first = two_cars.root / erase(two_cars, "car-1", utc_ns=1).record
    second = two_cars.root / erase(two_cars, "car-2", utc_ns=2).record
    before = json.loads(second.read_bytes())["before_sha256"]
    assert before == wire.digest_file(first)
    claim = wire.digest(f"{before}/car-2".encode())
    assert json.loads(second.read_bytes())["car_sha256"] == claim
    assert b"car-" not in first.read_bytes() + second.read_bytes()


def test_rows_of_merged_files_go_too(two_cars: Home) -> None:
    with Lake(two_cars) as lake:
        lake._writing().execute("CALL ducklake_merge_adjacent_files('lake')")
    erase(two_cars, "car-1", utc_ns=1)
    assert holds(two_cars.lake, ["car-1"]) == []
    assert rows(two_cars, "SELECT count(*) AS n FROM ticks") == [{"n": FRAMES}]


def test_quarantine_and_door_are_emptied_of_the_car_alone(two_cars: Home) -> None:
    bad = land(two_cars, seed=9, car_id="car-1")
    (two_cars.landing / bad / "clip.mcap").write_bytes(b"short")
    other = land(two_cars, seed=8, car_id="car-2")
    (two_cars.landing / other / "clip.mcap").write_bytes(b"short")
    ingest(two_cars)
    unclear = two_cars.lake / "quarantine" / ("f" * 64)
    unclear.mkdir()
    (unclear / "manifest.json").write_bytes(b"{")
    for kind in ("uploads", "summaries"):
        for car in ("car-1", "car-2"):
            folder = two_cars.fleet / kind / car
            folder.mkdir(parents=True)
            (folder / "x").write_bytes(b"x")
    report = erase(two_cars, "car-1", utc_ns=1)
    left = {p.name for p in (two_cars.lake / "quarantine").iterdir()}
    assert left == {other, unclear.name}
    assert report.unclear == (str(unclear.relative_to(two_cars.root)),)
    assert [p.name for p in (two_cars.fleet / "uploads").iterdir()] == ["car-2"]
    assert [p.name for p in (two_cars.fleet / "summaries").iterdir()] == ["car-2"]


def test_clips_that_landed_in_a_bucket_go_too(
    two_cars: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = obstore.store.MemoryStore()
    for folder in sorted(two_cars.landing.iterdir()):
        for path in folder.iterdir():
            obstore.put(bucket, f"clips/{folder.name}/{path.name}", path.read_bytes())
        obstore.put(bucket, f"objects/{folder.name}", b"x")
    zone = LandedStore(bucket, two_cars.lake / "work")
    monkeypatch.setattr(erasure, "landed", lambda home, store: zone)
    report = erase(two_cars, "car-1", utc_ns=1, store="s3://bucket")
    assert report.files["landed"] == 2
    left = {meta["path"] for batch in obstore.list(bucket) for meta in batch}
    [other] = {str(r["clip_id"]) for r in rows(two_cars, "SELECT clip_id FROM clips")}
    names = {f"clips/{other}/{name}" for name in ("manifest.json", "ingested.json")}
    assert left == {f"objects/{other}", *names}


def test_a_home_without_a_lake_holds_nothing(home: Home) -> None:
    assert look(home, "car-1").empty
    assert erase(home, "car-1", utc_ns=1).empty


@pytest.mark.parametrize("name", ["", "../car", ".hidden"])
def test_a_name_that_no_car_can_have_is_refused(home: Home, name: str) -> None:
    with pytest.raises(BadCarNameError):
        look(home, name)


def test_the_verb_looks_by_default_and_erases_when_told(two_cars: Home) -> None:
    runner = CliRunner()
    told = runner.invoke(app, ["erase", "--car", "car-1"])
    assert told.exit_code == 0, told.output
    assert "2 clips of car-1 would go" in told.output
    assert "stays: dataset both" in told.output
    done = runner.invoke(app, ["erase", "--car", "car-1", "--yes", "--json"])
    assert json.loads(done.output)["done"] is True
    assert "holds nothing of car-1" in runner.invoke(app, ["erase", "--car", "car-1"]).output
