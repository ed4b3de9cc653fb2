"""The landing zone in a bucket, by the client that talks to real ones; and what is salvaged."""

import json
import shutil
from pathlib import Path

import obstore
import pytest
from lake_parts import FRAMES, land, rows
from obstore.store import LocalStore, MemoryStore

from datalake.ingest import IngestReport, ingest
from datalake.landed import LandedStore, StoreError, landed
from datalake.quarantine import NotInQuarantineError, salvage
from datalake.scrub import ScrubReport
from vehicle.contracts import wire
from vehicle.contracts.home import Home


def bucket_of(home: Home, store: MemoryStore) -> None:
    """Move the folder's clips into a bucket, as the gateway lays them out."""
    for folder in sorted(home.landing.iterdir()):
        data = (folder / "clip.mcap").read_bytes()
        obstore.put(store, f"objects/{wire.digest(data)}", data)
        manifest = (folder / "manifest.json").read_bytes()
        obstore.put(store, f"clips/{folder.name}/manifest.json", manifest)
    shutil.rmtree(home.landing)


def keys(store: MemoryStore) -> set[str]:
    return {meta["path"] for batch in obstore.list(store) for meta in batch}


def ingest_from(home: Home, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> IngestReport:
    zone = LandedStore(store, home.lake / "work")
    monkeypatch.setattr("datalake.ingest.landed", lambda *_: zone)
    return ingest(home)


def test_clips_of_a_bucket_are_taken_in_once_and_settled(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = land(home, seed=1), land(home, seed=2)
    store = MemoryStore()
    bucket_of(home, store)
    obstore.put(store, f"objects/{'a' * 64}", b"on its way: no manifest yet")
    assert ingest_from(home, store, monkeypatch).ingested == 2
    again = ingest_from(home, store, monkeypatch)
    assert (again.ingested, again.already) == (0, 2)
    assert rows(home, "SELECT count(*) AS n FROM ticks") == [{"n": 2 * FRAMES}]
    settled = {
        f"clips/{c}/{n}" for c in (first, second) for n in ("manifest.json", "ingested.json")
    }
    assert keys(store) == settled | {f"objects/{'a' * 64}"}
    assert not list((home.lake / "work").iterdir())


def test_a_bad_clip_of_a_bucket_is_set_aside_with_its_bytes(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = land(home, seed=1), land(home, seed=2)
    store = MemoryStore()
    bucket_of(home, store)
    obstore.put(store, f"objects/{bad}", b"something else")
    report = ingest_from(home, store, monkeypatch)
    assert report.clip_ids == [good]
    [quarantined] = report.quarantined
    assert quarantined.error == "TruncatedClipError"
    folder = home.root / quarantined.folder
    assert (folder / "clip.mcap").read_bytes() == b"something else"
    assert json.loads((folder / "reason.json").read_bytes())["clip_id"] == bad
    assert not [key for key in keys(store) if bad in key]


def test_a_file_that_never_ends_is_not_downloaded_further_than_it_should_be(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = land(home)
    store = MemoryStore()
    bucket_of(home, store)
    size = len(obstore.get(store, f"objects/{bad}").bytes())
    obstore.put(store, f"objects/{bad}", bytes(50 << 20))
    [quarantined] = ingest_from(home, store, monkeypatch).quarantined
    assert quarantined.reason.endswith(f"{size + 1} bytes, its manifest says {size}")


def test_a_bucket_in_a_folder_works_alike(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(home)
    store = LocalStore(tmp_path / "bucket", mkdir=True)
    bucket_of(home, store)  # type: ignore[arg-type]
    assert ingest_from(home, store, monkeypatch).ingested == 1  # type: ignore[arg-type]


def test_an_address_that_is_no_bucket_is_refused(home: Home) -> None:
    with pytest.raises(StoreError, match="expected s3://bucket/prefix"):
        landed(home, "ftp://somewhere")


def test_what_is_whole_of_a_cut_clip_is_recovered_on_purpose_and_marked(home: Home) -> None:
    cut = land(home)
    path = home.landing / cut / "clip.mcap"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    [quarantined] = ingest(home).quarantined
    assert quarantined.error == "TruncatedClipError"
    recovered = salvage(home, cut)
    assert recovered != cut
    assert salvage(home, cut) == recovered
    assert ingest(home).clip_ids == [recovered]
    [clip] = rows(home, "SELECT whole, car_id, jurisdiction, model, tags, frames FROM clips")
    assert (clip["whole"], clip["car_id"], clip["model"]) == (0, "car-1", "base@1")
    assert json.loads(str(clip["tags"]))["recovered_from"] == cut
    assert clip["frames"] == FRAMES, "the cut is behind the last tick"
    assert (home.lake / "quarantine" / cut).is_dir()


@pytest.mark.parametrize("name", ["0" * 64, "../clips", ""])
def test_only_what_is_in_quarantine_can_be_salvaged(home: Home, name: str) -> None:
    with pytest.raises(NotInQuarantineError):
        salvage(home, name)


def test_the_object_is_the_scrubbed_file_and_the_raw_one_goes(home: Home) -> None:
    class Blurs:
        def name(self, jurisdiction: str) -> str:
            return f"mine@1 for {jurisdiction}"

        def scrub(self, path: Path, out: Path, jurisdiction: str) -> ScrubReport:
            out.write_bytes(path.read_bytes() + b"blurred")
            return ScrubReport(regions=3, frames=1, detector=self.name(jurisdiction))

    clip_id = land(home)
    assert ingest(home, scrubber=Blurs()).ingested == 1
    [clip] = rows(home, "SELECT clip_id, object, object_sha256, scrub, scrubbed FROM clips")
    data = (home.lake / str(clip["object"])).read_bytes()
    assert data.endswith(b"blurred")
    assert clip["object_sha256"] == wire.digest(data) != clip["clip_id"] == clip_id
    assert (clip["scrub"], clip["scrubbed"]) == ("mine@1 for ZZ", 3)
    assert not list(home.root.rglob(f"landing/{clip_id}/clip.mcap"))
