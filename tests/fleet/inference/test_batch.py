"""The batch tier: clips of a lake looked at by a network, and what it says taken into the lake."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lake_parts import FRAMES, land, rows, write_truth
from tiny_bundle import CAR_X_M, CAR_Y_M, make
from typer.testing import CliRunner

from datalake import dataset, label
from datalake.cli import app as lake_app
from datalake.ingest import ingest
from datalake.lake import Lake
from datalake.take import JudgedFolderError, TakeReport, take
from fleet.cli import app as fleet_app
from fleet.inference.batch import ListingError, What, read_listing, run
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.judged import JUDGED, Judged
from vehicle.contracts.sample import iter_samples


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    make(folder, name="teacher", version=2, rich=True)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A lake with one clip of twelve frames, its truth not bought."""
    home = Home(tmp_path / "home")
    land(home, rig=RIG_R)
    write_truth(home)
    ingest(home)
    return home


def listing(home: Home, path: Path, columns: str = "clip_id, object") -> Path:
    with Lake(home) as lake:
        table = lake.sql(f"SELECT {columns} FROM clips JOIN ticks USING (clip_id) GROUP BY ALL")
    pq.write_table(table, path)
    return path


def judge(home: Home, teacher: Path, tmp_path: Path, what: What = "labels") -> Judged:
    clips = read_listing(listing(home, tmp_path / "clips.parquet"), home.lake)
    return run(what, clips, teacher, tmp_path / what)


def taken(home: Home, folder: Path) -> TakeReport:
    with Lake(home) as lake:
        return take(home, lake, folder)


def test_teachers_labels_land_in_the_lake_under_its_name(
    home: Home, teacher: Path, tmp_path: Path
) -> None:
    made = judge(home, teacher, tmp_path)
    assert (made.model, made.frames, len(made.files)) == ("teacher@2", FRAMES, 1)
    report = taken(home, tmp_path / "labels")
    assert (report.frames, report.already, report.boxes) == (FRAMES, 0, 2 * FRAMES)
    assert rows(home, "SELECT DISTINCT source FROM labelled") == [{"source": "teacher:teacher@2"}]
    (car,) = rows(home, "SELECT * FROM labels WHERE frame_id = 5 AND kind = 'car'")
    assert car["source"] == "teacher:teacher@2"
    assert (car["x_m"], car["y_m"]) == pytest.approx((CAR_X_M, CAR_Y_M), abs=0.01)
    assert car["visible_px"] > 50


def test_taking_a_folder_twice_changes_nothing(home: Home, teacher: Path, tmp_path: Path) -> None:
    judge(home, teacher, tmp_path)
    taken(home, tmp_path / "labels")
    again = taken(home, tmp_path / "labels")
    assert (again.frames, again.already) == (0, FRAMES)
    assert len(rows(home, "FROM labels")) == 2 * FRAMES


def test_truth_stands_beside_a_teachers_labels_and_goes_before_them(
    home: Home, teacher: Path, tmp_path: Path
) -> None:
    judge(home, teacher, tmp_path)
    taken(home, tmp_path / "labels")
    (clip,) = (str(r["clip_id"]) for r in rows(home, "SELECT clip_id FROM clips"))
    with Lake(home) as lake:
        snapshot = lake.snapshot()
        bought = label.label(home, lake, [clip], frames={clip: {0}})
    assert (bought.frames, bought.already) == (1, 0)  # a teacher's label is none that was bought
    taken(home, tmp_path / "labels")
    assert rows(home, "SELECT source FROM labelled WHERE frame_id = 0 ORDER BY ALL") == [
        {"source": "simulator"},
        {"source": "teacher:teacher@2"},
    ]
    query = "SELECT clip_id, frame_id FROM ticks WHERE frame_id < 2"
    dataset.create(home, "now", query)
    truth, auto = iter_samples(home.datasets / "now")
    assert truth.boxes[0, 8] == 5.0  # the actor's id: only the truth knows it
    assert auto.boxes[0, 1] == pytest.approx(CAR_X_M, abs=0.01)
    dataset.create(home, "then", query, snapshot=snapshot)  # as it was before anybody bought
    assert next(iter(iter_samples(home.datasets / "then"))).boxes[0, 8] == 0.0


def test_new_networks_embeddings_stand_beside_the_old_ones(
    home: Home, teacher: Path, tmp_path: Path
) -> None:
    judge(home, teacher, tmp_path, "embeddings")
    assert taken(home, tmp_path / "embeddings").frames == FRAMES
    assert taken(home, tmp_path / "embeddings").already == FRAMES
    found = rows(
        home,
        "SELECT model, count(*) AS n, len(embedding[:99]) AS size FROM embeddings "
        "GROUP BY ALL ORDER BY ALL",
    )
    assert found[-1] == {"model": "teacher@2", "n": FRAMES, "size": 64}


def test_single_frames_are_judged_with_a_memory_and_nothing_else_is_told(
    home: Home, teacher: Path, tmp_path: Path
) -> None:
    path = listing(home, tmp_path / "all.parquet", "clip_id, object, frame_id")
    table = pq.read_table(path)
    pq.write_table(table.filter(pa.compute.is_in(table["frame_id"], pa.array([7, 9]))), path)
    made = run("labels", read_listing(path, home.lake), teacher, tmp_path / "few")
    assert made.frames == 2
    with np.load(tmp_path / "few" / made.files[0].name) as arrays:
        assert arrays["frame_id"].tolist() == [7, 9]


def test_run_that_was_killed_goes_on_where_it_stopped(
    home: Home, teacher: Path, tmp_path: Path
) -> None:
    made = judge(home, teacher, tmp_path)
    file = tmp_path / "labels" / made.files[0].name
    (tmp_path / "labels" / JUDGED).unlink()
    before = file.stat().st_mtime_ns
    assert judge(home, teacher, tmp_path) == made
    assert file.stat().st_mtime_ns == before


def test_doubtful_boxes_are_neither_wanted_nor_punished(
    home: Home, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.inference.seer.SURE_PROB", 0.7)
    judge(home, teacher, tmp_path)
    report = taken(home, tmp_path / "labels")
    assert report.boxes == FRAMES  # the car's; the pedestrian's score is 0.6
    found = rows(home, "SELECT DISTINCT kind FROM labels WHERE visible_px = 0")
    assert found == [{"kind": "pedestrian"}]


def test_tampered_judgements_are_refused(home: Home, teacher: Path, tmp_path: Path) -> None:
    made = judge(home, teacher, tmp_path)
    with (tmp_path / "labels" / made.files[0].name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(JudgedFolderError, match="is not the file"):
        taken(home, tmp_path / "labels")
    assert rows(home, "FROM labelled") == []


def test_judgements_of_a_clip_that_the_lake_has_not_are_refused(
    home: Home, teacher: Path, tmp_path: Path
) -> None:
    made = judge(home, teacher, tmp_path)
    folder = tmp_path / "labels"
    (folder / made.files[0].name).rename(folder / f"{'0' * 64}.npz")
    plain = json.loads((folder / JUDGED).read_text())
    plain["files"][0]["name"] = f"{'0' * 64}.npz"
    (folder / JUDGED).write_bytes(wire.canonical(plain))
    with pytest.raises(label.UnknownClipError, match="not in the lake"):
        taken(home, folder)


def test_listing_without_paths_says_how_to_make_one(home: Home, tmp_path: Path) -> None:
    with pytest.raises(ListingError, match=r"lacks \['object'\]: roadloop datalake sql"):
        read_listing(listing(home, tmp_path / "x.parquet", "clip_id"), home.lake)


def test_listing_that_leads_out_of_the_lake_is_refused(home: Home, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "bad.csv").write_text("clip_id,object\nabc,../../secret\n")
    with pytest.raises(ListingError, match="has no file at"):
        read_listing(tmp_path / "bad.csv", home.lake)


def test_commands_hand_on_what_each_other_writes(
    home: Home, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROADLOOP_HOME", str(home.root))
    unsure, out = str(tmp_path / "unsure.parquet"), str(tmp_path / "judged")
    query = (
        "SELECT clip_id, object, frame_id FROM ticks JOIN clips USING (clip_id) "
        "WHERE uncertainty_ratio > 0.75"
    )
    said = []
    for app, words in (
        (lake_app, ["sql", query, "-o", unsure]),
        (fleet_app, ["infer", "label", unsure, "--bundle", str(teacher), "--out", out, "--json"]),
        (lake_app, ["take", out, "--json"]),
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        said.append(done.stdout)
    assert json.loads(said[1])["frames"] == json.loads(said[2])["frames"] == 2  # ticks 8 and 9


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_ray_workers_say_what_one_process_says(home: Home, teacher: Path, tmp_path: Path) -> None:
    import ray

    clips = read_listing(listing(home, tmp_path / "clips.parquet"), home.lake)
    alone = run("labels", clips, teacher, tmp_path / "alone")
    try:
        spread = run("labels", clips, teacher, tmp_path / "spread", workers=1)
    finally:
        ray.shutdown()
    assert spread == alone
