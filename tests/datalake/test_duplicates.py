import json
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lake_parts import FRAMES, land, write_truth
from typer.testing import CliRunner

from datalake import dataset, duplicates, vectors
from datalake.choice import DatasetQueryError, choose
from datalake.cli import app
from datalake.duplicates import ThresholdError, clip_duplicates, greedy, thin
from datalake.ingest import ingest
from datalake.lake import Lake
from vehicle.contracts.home import Home
from vehicle.contracts.sample import iter_samples, read_manifest

ALL = "SELECT clip_id, frame_id FROM ticks"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Return three clips of other drives whose frames look the same, and one that goes on where
    the first ends; the same embedding belongs to the same frame_id in all of them."""
    home = Home(tmp_path_factory.mktemp("home"))
    for seed in range(3):
        land(home, seed=seed)
        write_truth(home, seed=seed)
    land(home, seed=0, first=4)
    ingest(home)
    with Lake(home) as lake:
        yield lake


def by_hand(units: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for row in range(len(units)):
        cosine = (units[kept].astype(np.float64) * units[row]).sum(axis=1)
        if not (cosine >= threshold - 1e-7).any():
            kept.append(row)
    return kept


@given(
    seed=st.integers(0, 1000),
    block=st.integers(1, 60),
    kept=st.integers(1, 60),
    threshold=st.sampled_from([0.5, 0.9, 0.99, 1.0]),
)
def test_what_stays_is_near_to_nothing_that_stayed_before(
    seed: int, block: int, kept: int, threshold: float
) -> None:
    units = vectors.unit(np.random.default_rng(seed).normal(size=(120, 3)).round(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "BLOCK_ROWS", block)
        patch.setattr(duplicates, "KEPT_ROWS", kept)
        stays = greedy(units, threshold)
    assert np.flatnonzero(stays).tolist() == by_hand(units, threshold)


def test_a_tick_in_two_clips_is_one_frame(lake: Lake) -> None:
    chosen = choose(lake, ALL)
    thinned = thin(lake, chosen, 1.0)
    assert thinned.same_tick == FRAMES - 4
    assert thinned.alike == 2 * FRAMES
    assert thinned.unjudged == 0
    assert sum(map(len, thinned.kept.values())) == FRAMES + 4


def test_the_lower_the_threshold_the_less_stays(lake: Lake) -> None:
    chosen = choose(lake, ALL)
    counts = [
        sum(map(len, thin(lake, chosen, t).kept.values())) for t in (1.0, 0.999, 0.99, 0.9, 0.1)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == 1
    assert thin(lake, chosen, 0.99) == thin(lake, chosen, 0.99)
    for threshold in (0.0, -1.0, 1.01, float("nan")):
        with pytest.raises(ThresholdError):
            thin(lake, chosen, threshold)


def test_frames_that_no_network_saw_stay(home: Home) -> None:
    land(home, driven=False)
    ingest(home)
    with Lake(home) as lake:
        thinned = thin(lake, choose(lake, ALL), 0.9)
    assert (thinned.unjudged, sum(map(len, thinned.kept.values()))) == (FRAMES, FRAMES)


def test_clips_that_earlier_ones_cover_are_named(lake: Lake) -> None:
    clips = lake.sql("SELECT clip_id, route_id, frame_first FROM clips ORDER BY 1").to_pylist()
    whole = [c["clip_id"] for c in clips if c["frame_first"] == 0]
    found = clip_duplicates(lake, [c["clip_id"] for c in clips], 1.0).to_pylist()
    gone = {row["clip_id"] for row in found}
    assert len(gone & set(whole)) == 2
    assert {row["duplicate_of"] for row in found if row["clip_id"] in whole} <= set(whole)
    assert all(row["covered_ratio"] >= 0.9 for row in found)
    lone = clip_duplicates(lake, whole[:1], 0.5)
    assert lone.num_rows == 0


def test_a_dataset_without_duplicates_can_be_chosen_again(lake: Lake) -> None:
    home = lake.home
    words = ["label", ALL, "--no-duplicates", "0.999", "--json"]
    run = CliRunner(env={"ROADLOOP_HOME": str(home.root)})
    clips = "SELECT clip_id, frame_id FROM ticks WHERE frame_id < 4 OR route_id = 'drive-1'"
    words[1] = clips
    bought = json.loads(run.invoke(app, words).stdout)
    words = ["dataset", "create", "thin", "--sql", clips, "--no-duplicates", "0.999"]
    shown = run.invoke(app, words)
    assert "duplicates were left out" in shown.stdout, shown.output
    manifest = read_manifest(home.datasets / "thin")
    assert manifest.frames == bought["frames"]
    assert manifest.tags["no_duplicates"] == "0.999"
    with pytest.raises(DatasetQueryError, match="no_duplicates"):
        dataset.create(home, "tagged", clips, tags={"no_duplicates": "x"})
    again = dataset.create(home, "again", clips, snapshot=manifest.snapshot, no_duplicates=0.999)
    assert [s.frame_id for s in iter_samples(home.datasets / "thin")] == [
        s.frame_id for s in iter_samples(home.datasets / "again")
    ]
    assert again.files[0].sha256 == manifest.files[0].sha256


def test_the_verb_counts_and_hands_on(lake: Lake) -> None:
    run = CliRunner(env={"ROADLOOP_HOME": str(lake.home.root)})
    facts = json.loads(run.invoke(app, ["duplicates", "--threshold", "1.0", "--json"]).stdout)
    assert facts["frames"] == facts["kept"] + facts["same_tick"] + facts["alike"]
    assert f"{facts['kept']} of" in run.invoke(app, ["duplicates", "--threshold", "1.0"]).stdout
    query = run.invoke(app, ["duplicates", "--threshold", "1.0", "--sql"]).stdout
    assert len(json.loads(run.invoke(app, ["sql", query, "--json"]).stdout)) == facts["kept"]
    clips = run.invoke(app, ["duplicates", "--clips", "--threshold", "1.0", "--sql"]).stdout
    assert 1 <= len(json.loads(run.invoke(app, ["sql", clips, "--json"]).stdout)) <= 2
