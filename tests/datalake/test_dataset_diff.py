import dataclasses
import json

import pytest
from lake_parts import land, write_truth
from typer.testing import CliRunner, Result

from datalake import dataset, label
from datalake.cli import app
from datalake.dataset_diff import Change, DatasetDiff, diff, markdown, text
from datalake.ingest import ingest
from datalake.lake import Lake
from datalake.tables import MODELS
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.sample import DatasetError, DatasetManifest, read_manifest

FIRST = "SELECT clip_id, frame_id FROM ticks WHERE route_id = 'drive-0' AND frame_id < 6"
MORE = "SELECT clip_id, frame_id FROM ticks\nWHERE frame_id BETWEEN 2 AND 6"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Return a home with datasets `old` (one drive) and `new` (two drives), nobody writes to it."""
    home = Home(tmp_path_factory.mktemp("home"))
    for seed in range(2):
        land(home, seed=seed, car_id=f"car-{seed}")
        write_truth(home, seed=seed, car_id=f"car-{seed}")
    ingest(home)
    with Lake(home) as lake:
        label.label(home, lake, lake.sql("SELECT clip_id FROM clips")["clip_id"].to_pylist())
    dataset.create(home, "old", FIRST)
    dataset.create(home, "new", MORE, tags={"why": "a|b `c` <script>"})
    return home


@pytest.fixture(scope="module")
def found(home: Home) -> DatasetDiff:
    return diff(home, "old", "new")


def change(found: DatasetDiff, what: str) -> Change:
    return next(c for c in found.changes if c.what == what)


def run(home: Home, *words: str) -> Result:
    return CliRunner(env={"ROADLOOP_HOME": str(home.root)}).invoke(app, list(words))


def test_frames_are_compared_one_by_one(found: DatasetDiff) -> None:
    assert change(found, "frames") == Change(what="frames", before=6, after=10, added=6, removed=2)
    clips = change(found, "clips")
    assert (clips.before, clips.after, clips.added, clips.removed) == (1, 2, 1, 0)
    assert len(found.clips_added) == 1
    assert found.clips_removed == ()


def test_conditions_cars_and_boxes_are_counted(home: Home, found: DatasetDiff) -> None:
    assert (change(found, "town 1").before, change(found, "town 1").after) == (0, 5)
    assert (change(found, "car car-0").before, change(found, "car car-0").after) == (6, 5)
    assert (change(found, "source simulator").before, change(found, "source simulator").after) == (
        6, 10,
    )  # fmt: skip
    boxes = change(found, "boxes car")
    assert boxes.before == read_manifest(home.datasets / "old").boxes["car"]


def test_what_the_old_dataset_shows_already_is_counted(home: Home, found: DatasetDiff) -> None:
    assert found.alike == 6  # two clips hold the same embeddings
    assert diff(home, "old", "old").alike == 0


def test_the_question_is_shown_as_a_change(found: DatasetDiff) -> None:
    assert f"-{FIRST}" in found.query
    assert "+WHERE frame_id BETWEEN 2 AND 6" in found.query
    assert found.settings == {"tag why": ("", "a|b `c` <script>")}


def test_a_page_for_a_pull_request_keeps_words_in_their_cells(found: DatasetDiff) -> None:
    page = markdown(found)
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert "| frames | 6 | 10 | +6 -2 |" in rows
    assert all(row.replace("\\|", "").count("|") in (4, 5) for row in rows)
    assert "<script>" not in page
    assert "```diff" in page
    evil = Change(what="light ```\n| x", before=0, after=1)
    fenced = markdown(dataclasses.replace(found, changes=(evil,)))
    assert "light ''' \\| x" in fenced


def test_the_same_dataset_has_not_changed(home: Home) -> None:
    found = diff(home, "old", "old")
    assert found.same
    assert "same dataset" in text(found)[0]


def test_the_verb_prints_for_people_programs_and_reviews(home: Home) -> None:
    shown = run(home, "dataset", "diff", "old", "new")
    assert "6 frames become 10: 6 added, 2 removed; 6 of the added look like" in shown.stdout
    facts = json.loads(run(home, "dataset", "diff", "old", "new", "--json").stdout)
    assert (facts["schema"], facts["same"]) == ("datasetdiff/1", False)
    assert "### Dataset" in run(home, "dataset", "diff", "old", "new", "--markdown").stdout
    gone = run(home, "dataset", "diff", "old", "../new")
    assert isinstance(gone.exception, DatasetError)
    assert "there are: new, old" in str(gone.exception)


def test_datasets_of_the_simulator_are_compared_by_their_counts(home: Home) -> None:
    made = read_manifest(home.datasets / "old")
    for name, frames, town in (("sim-a", 10, 3), ("sim-b", 25, 4)):
        manifest = DatasetManifest(
            name=name, snapshot=0, query="generate(...)", rig=made.rig, frames=frames,
            boxes={"car": frames}, sources=(f"sim:town={town},seed=1",), files=(),
        )  # fmt: skip
        (home.datasets / name).mkdir()
        wire.atomic_write(home.datasets / name / "dataset.json", wire.to_bytes(manifest))
    found = diff(home, "sim-a", "sim-b")
    assert found.changes[0] == Change(what="frames", before=10, after=25)
    assert found.changes[1].added == found.changes[1].removed == 1
    assert found.alike is None
    assert "10 frames become 25" in text(found)[0]
    assert diff(home, "old", "sim-a").changes[0].after == 10


def test_a_dataset_names_the_models_trained_on_it(home: Home) -> None:
    digest = read_manifest(home.datasets / "old").digest
    row = {"name": "base", "version": 7, "digest": "d" * 64, "dataset_digest": digest}
    with Lake(home) as lake:
        lake.append("models", MODELS.rows([row]))
    assert dataset.show(home, "old")["models"] == ["base@7"]
    assert "base@7" in run(home, "dataset", "show", "old").stdout
    assert dataset.show(home, "new")["models"] == []
