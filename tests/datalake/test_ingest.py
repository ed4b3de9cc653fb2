import json
import multiprocessing
import os
import shutil
from pathlib import Path

import lake_parts
import numpy as np
import pytest
from lake_parts import FRAMES, land, rows

from datalake.ingest import ingest
from datalake.lake import Lake, LakeWriteError, Writer
from datalake.land import land as land_route
from datalake.rows import time_to_collision_s
from datalake.tables import TABLES
from vehicle.contracts import wire
from vehicle.contracts.clip import ClipManifest, FileEntry
from vehicle.contracts.home import Home
from vehicle.contracts.scene import TRACK

ALL_COUNTS = (
    "SELECT (SELECT count(*) FROM clips) AS clips, (SELECT count(*) FROM ticks) AS ticks, "
    "(SELECT count(*) FROM tracks) AS tracks, (SELECT count(*) FROM events) AS events"
)


def counts(home: Home) -> tuple[object, ...]:
    return tuple(rows(home, ALL_COUNTS)[0].values())


def quarantine_reason(home: Home, clip_id: str) -> str:
    note = home.lake / "quarantine" / clip_id / "reason.json"
    return str(json.loads(note.read_bytes())["reason"])


def landed_names(home: Home, clip_id: str) -> set[str]:
    return {p.name for p in (home.landing / clip_id).iterdir()}


def rewrite_manifest(home: Home, clip_id: str, **changes: object) -> None:
    path = home.landing / clip_id / "manifest.json"
    path.write_bytes(wire.canonical({**json.loads(path.read_bytes()), **changes}))


def test_a_clip_becomes_rows_with_what_the_car_recorded(home: Home) -> None:
    clip_id = land(home, light=100)
    report = ingest(home)
    assert (report.ingested, report.already, report.quarantined) == (1, 0, [])
    assert counts(home) == (1, FRAMES, FRAMES, 1)
    assert report.rows == 1 + 3 * FRAMES + 1
    [clip] = rows(home, "SELECT * FROM clips")
    assert clip["clip_id"] == clip_id
    assert (clip["car_id"], clip["source"], clip["cameras"]) == ("car-1", "simulator", 2)
    assert (clip["frames"], clip["rate_hz"], clip["triggers"]) == (FRAMES, 10.0, "ttc")
    assert clip["duration_s"] == pytest.approx(1.1)
    assert clip["luma"] == pytest.approx(110, abs=4)
    assert (home.lake / str(clip["object"])).stat().st_size == clip["size_bytes"]
    third = rows(home, "SELECT * FROM ticks ORDER BY frame_id")[3]
    assert (third["speed_mps"], third["accel_mps2"], third["rung"]) == (10.0, -1.5, "full")
    assert (third["n_tracks"], third["total_us"], third["inference_us"]) == (1, 7_000, 5_000)
    [seen] = rows(home, "SELECT * FROM embeddings WHERE frame_id = 3")
    assert (seen["clip_id"], seen["model"]) == (clip_id, "base@1")
    assert seen["embedding"] == [3.0, 4.0, 5.0, 6.0]
    assert third["ttc_s"] == pytest.approx(0.8)
    assert (third["limited_by"], third["track_us"], third["latitude_deg"]) == ("rss", None, None)
    [track] = rows(home, "SELECT * FROM tracks WHERE frame_id = 3")
    assert (track["kind"], track["track_id"], track["range_m"]) == ("car", 7, pytest.approx(13.7))
    assert rows(home, "SELECT json_extract_string(tags, '$.town') AS t FROM clips") == [{"t": "0"}]


def test_luma_is_measured_at_each_keyframe_of_the_first_camera(home: Home) -> None:
    land(home)
    ingest(home)
    decoded = rows(home, "SELECT frame_id FROM ticks WHERE luma IS NOT NULL ORDER BY frame_id")
    assert [r["frame_id"] for r in decoded] == [0, 10]


def test_a_log_without_cameras_and_without_a_drive_is_ingested(home: Home) -> None:
    land(home, rig=None, driven=False)
    assert ingest(home).ingested == 1
    [clip] = rows(home, "SELECT cameras, luma, rig_digest FROM clips")
    assert clip == {"cameras": 0, "luma": None, "rig_digest": ""}
    [tick] = rows(home, "SELECT speed_mps, rung, n_tracks FROM ticks WHERE frame_id = 1")
    assert tick == {"speed_mps": 10.0, "rung": None, "n_tracks": None}
    assert rows(home, "FROM embeddings") == []


def test_a_second_run_changes_nothing(home: Home) -> None:
    land(home, seed=1)
    land(home, seed=2)
    first = ingest(home)
    before = counts(home)
    again = ingest(home)
    assert (first.ingested, again.ingested, again.already) == (2, 0, 2)
    assert counts(home) == before
    assert again.snapshot == first.snapshot


KILLS = ("prepare._store", "prepare.read_clip", "ingest.commit", "commit._hand_in")


@pytest.mark.parametrize("where", KILLS)
def test_a_run_killed_anywhere_and_run_again_gives_the_same_rows(
    home: Home, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    land(home, seed=1)
    land(home, seed=2)

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"datalake.{where}", dies)
    with pytest.raises(KeyboardInterrupt):
        ingest(home)
    assert counts(home) == (0, 0, 0, 0)
    monkeypatch.undo()
    assert ingest(home).ingested == 2
    assert counts(home) == (2, 2 * FRAMES, 2 * FRAMES, 2)


def test_a_run_killed_after_its_commit_is_settled_by_the_next(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip_id = land(home)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("datalake.landed.LandedFolder.settle", dies)
    with pytest.raises(KeyboardInterrupt):
        ingest(home)
    monkeypatch.undo()
    assert counts(home) == (1, FRAMES, FRAMES, 1)
    assert ingest(home).already == 1
    assert landed_names(home, clip_id) == {"manifest.json", "ingested.json"}


def test_what_stays_of_a_landed_clip_is_its_manifest_and_a_receipt(home: Home) -> None:
    clip_id = land(home)
    ingest(home)
    assert landed_names(home, clip_id) == {"manifest.json", "ingested.json"}
    [clip] = rows(home, "SELECT object, object_sha256, scrub, whole FROM clips")
    stored = home.lake / str(clip["object"])
    assert wire.digest_file(stored) == clip["object_sha256"]
    receipt = json.loads((home.landing / clip_id / "ingested.json").read_bytes())
    assert receipt["sha256"] == clip["object_sha256"]
    assert (receipt["scrub"], clip["whole"]) == (clip["scrub"], 1)


def test_a_lost_catalog_is_built_again_from_receipts_and_objects(home: Home) -> None:
    land(home, seed=1)
    erased = land(home, seed=2)
    ingest(home)
    before = rows(home, "SELECT * FROM clips ORDER BY clip_id")
    (home.lake / "catalog.sqlite").unlink()
    shutil.rmtree(home.lake / "data")
    (home.lake / "clips" / erased[:2] / f"{erased}.mcap").unlink()
    report = ingest(home)
    assert (report.ingested, report.gone, report.quarantined) == (1, 1, [])
    assert rows(home, "FROM clips") == [r for r in before if r["clip_id"] != erased]


def test_a_change_that_fails_half_way_leaves_no_row(home: Home) -> None:
    clip = TABLES["clips"].rows([{"clip_id": "c"}])

    def breaks(writer: Writer) -> None:
        writer.append("clips", clip)
        raise KeyboardInterrupt

    with Lake(home) as lake:
        with pytest.raises(KeyboardInterrupt):
            lake.write(breaks)
        assert lake.sql("SELECT count(*) AS n FROM clips").to_pylist() == [{"n": 0}]


def test_two_ingests_at_once_append_every_clip_once(home: Home) -> None:
    for seed in range(6):
        land(home, seed=seed)
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        reports = pool.map(ingest, [home, home], chunksize=1)
    assert sum(r.ingested for r in reports) == 6
    assert counts(home) == (6, 6 * FRAMES, 6 * FRAMES, 6)


def test_a_truncated_clip_is_named_and_disturbs_no_other(home: Home) -> None:
    bad, good = land(home, seed=1), land(home, seed=2)
    path = home.landing / bad / "clip.mcap"
    path.write_bytes(path.read_bytes()[:-100])
    report = ingest(home)
    assert (report.ingested, report.clip_ids) == (1, [good])
    assert "clip.mcap is truncated" in report.quarantined[0].reason
    assert quarantine_reason(home, bad) == report.quarantined[0].reason
    assert not (home.landing / bad).exists()
    assert list((home.lake / "clips").rglob("*.mcap")) == [
        home.lake / "clips" / good[:2] / f"{good}.mcap"
    ]


def test_a_flipped_bit_is_found(home: Home) -> None:
    clip_id = land(home)
    path = home.landing / clip_id / "clip.mcap"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    ingest(home)
    assert "clip.mcap is damaged" in quarantine_reason(home, clip_id)
    assert counts(home) == (0, 0, 0, 0)


def test_a_car_that_hashes_a_broken_file_correctly_gets_its_clip_back_with_the_reason(
    home: Home,
) -> None:
    clip_id = land(home)
    whole = (home.landing / clip_id / "clip.mcap").read_bytes()
    cut = whole[: len(whole) // 2]
    manifest = wire.from_bytes(
        ClipManifest, (home.landing / clip_id / "manifest.json").read_bytes()
    )
    shutil.rmtree(home.landing / clip_id)
    cut_id = wire.digest(cut)
    folder = home.landing / cut_id
    folder.mkdir()
    (folder / "clip.mcap").write_bytes(cut)
    entry = FileEntry(name="clip.mcap", sha256=cut_id, size_bytes=len(cut))
    plain = {**wire.to_plain(manifest), "clip_id": cut_id, "files": [wire.to_plain(entry)]}
    (folder / "manifest.json").write_bytes(wire.canonical(plain))
    ingest(home)
    assert "RouteCorruptError" in quarantine_reason(home, cut_id)
    assert not list((home.lake / "clips").rglob("*.mcap"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema": "clip/9"}, "SchemaError"),
        ({"car_id": 5}, "ContractError"),
        ({"frames": [0, 3]}, "its manifest says 0..3"),
        ({"rig_digest": "f" * 64}, "rig_digest"),
    ],
)
def test_a_manifest_that_does_not_fit_is_quarantined(
    home: Home, changes: dict[str, object], reason: str
) -> None:
    clip_id = land(home)
    rewrite_manifest(home, clip_id, **changes)
    assert ingest(home).ingested == 0
    assert reason in quarantine_reason(home, clip_id)


def test_a_missing_file_is_named(home: Home) -> None:
    clip_id = land(home)
    (home.landing / clip_id / "clip.mcap").unlink()
    ingest(home)
    assert quarantine_reason(home, clip_id) == "clip.mcap is missing"


def test_a_clip_sent_again_after_quarantine_is_taken(home: Home, tmp_path: Path) -> None:
    clip_id = land(home)
    copy = tmp_path / "copy"
    shutil.copytree(home.landing / clip_id, copy)
    (home.landing / clip_id / "clip.mcap").write_bytes(b"")
    ingest(home)
    shutil.copytree(copy, home.landing / clip_id)
    assert ingest(home).ingested == 1


def test_a_clip_on_its_way_is_left_alone(home: Home) -> None:
    clip_id = land(home)
    manifest = home.landing / clip_id / "manifest.json"
    data = manifest.read_bytes()
    manifest.unlink()
    report = ingest(home)
    assert (report.ingested, report.quarantined) == (0, [])
    manifest.write_bytes(data)
    assert ingest(home).ingested == 1


def test_a_full_disk_is_not_blamed_on_the_clip(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    land(home)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("datalake.prepare.os.link", full)
    monkeypatch.setattr("datalake.prepare.shutil.copyfile", full)
    with pytest.raises(LakeWriteError, match="No space left"):
        ingest(home)
    monkeypatch.undo()
    assert ingest(home).ingested == 1


def test_a_whole_route_is_taken_in_by_its_own_metadata(home: Home, tmp_path: Path) -> None:
    clip_id = land(home)
    route = tmp_path / "route.mcap"
    shutil.copyfile(home.landing / clip_id / "clip.mcap", route)
    shutil.rmtree(home.landing)
    assert land_route(home, route) == clip_id
    assert land_route(home, route) == clip_id
    assert ingest(home).ingested == 1
    [clip] = rows(home, "SELECT car_id, route_id, source, model, triggers FROM clips")
    assert clip == {
        "car_id": "car-1",
        "route_id": "drive-0",
        "source": "simulator",
        "model": "",
        "triggers": "",
    }


@pytest.mark.slow
def test_ingest_killed_by_the_system_again_and_again_ends_with_the_same_rows(home: Home) -> None:
    for seed in range(8):
        land(home, seed=seed)
    context = multiprocessing.get_context("spawn")
    for delay_s in (0.4, 0.7, 0.9, 1.0, 1.1, 1.3):
        process = context.Process(target=ingest, args=(home,))
        process.start()
        process.join(delay_s)
        process.kill()
        process.join()
    ingest(home)
    assert counts(home) == (8, 8 * FRAMES, 8 * FRAMES, 8)
    assert len(list((home.lake / "clips").rglob("*.mcap"))) == 8


def test_what_a_killed_ingest_left_half_copied_is_removed(home: Home) -> None:
    folder = home.lake / "work"
    (folder / "x.99999999.part").mkdir(parents=True)
    (folder / "x.99999999.part" / "clip.mcap").write_bytes(b"half")
    (folder / f"y.{os.getpid()}.part").write_bytes(b"half")
    ingest(home)
    assert [p.name for p in folder.iterdir()] == [f"y.{os.getpid()}.part"]


def test_nothing_landed_is_no_error(home: Home) -> None:
    report = ingest(home)
    assert (report.ingested, report.snapshot) == (0, 0)
    assert not home.root.exists()


def test_a_larger_lake_moves_with_its_home(home: Home, tmp_path: Path) -> None:
    land(home)
    ingest(home)
    moved = Home(tmp_path / "elsewhere")
    home.root.rename(moved.root)
    assert counts(moved) == (1, FRAMES, FRAMES, 1)
    land(moved, seed=9)
    assert ingest(moved).ingested == 1
    assert counts(moved) == (2, 2 * FRAMES, 2 * FRAMES, 2)


def test_time_to_collision_counts_only_what_is_in_the_way() -> None:
    tracks = np.zeros(4, dtype=TRACK)
    tracks["length_m"], tracks["width_m"] = 4.0, 2.0
    tracks["x_m"] = [25.7, 25.7, -10.0, 45.7]
    tracks["y_m"] = [0.0, 5.0, 0.0, 0.0]
    tracks["vx_mps"] = [5.0, 0.0, 0.0, 0.0]
    assert time_to_collision_s(tracks, 10.0, 0.0) == pytest.approx(4.0)
    assert time_to_collision_s(tracks[:1], 5.0, 0.0) is None
    assert time_to_collision_s(tracks[1:2], 10.0, 0.0) is None
    assert time_to_collision_s(tracks[1:2], 10.0, 2 * 5.0 / 25.7**2) == pytest.approx(2.0)


def test_helpers_write_what_the_landing_zone_holds(home: Home) -> None:
    clip_id = lake_parts.land(home)
    assert {p.name for p in (home.landing / clip_id).iterdir()} == {"clip.mcap", "manifest.json"}
