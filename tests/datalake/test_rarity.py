import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lake_parts import FRAMES, land, observation, tick
from typer.testing import CliRunner

from datalake import rarity, vectors
from datalake.choice import choose
from datalake.cli import app
from datalake.ingest import ingest
from datalake.known import KnownError, centres, into_campaign, know, novelty
from datalake.lake import Lake
from datalake.rarity import distances
from fleet.campaign_example import EXAMPLE
from vehicle.contracts.campaign_file import CampaignFileError, read
from vehicle.contracts.home import Home
from vehicle.signals import Signals


def drives(count: int = 6, frames: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return frames of drives through the same few places, and the drive of each."""
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(5, 12))
    which = rng.integers(0, 5, size=(count, frames))
    units = vectors.unit((places[which] + rng.normal(scale=0.1, size=(count, frames, 12)))
                         .reshape(-1, 12))  # fmt: skip
    return units, np.repeat(np.arange(count), frames)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    home = Home(tmp_path_factory.mktemp("home"))
    for seed in range(3):
        land(home, seed=seed)
    ingest(home)
    with Lake(home) as lake:
        yield lake


def test_a_place_that_only_one_drive_saw_lies_far_from_all_others() -> None:
    units, drive = drives()
    strange = vectors.unit(np.random.default_rng(9).normal(size=(1, 12)) + np.zeros((30, 12)))
    units = np.concatenate([units, strange])
    drive = np.concatenate([drive, np.full(30, 99)])
    distance = distances(units, drive)
    assert distance[-30:].min() > distance[:-30].max()
    assert np.ptp(distance[-30:]) == 0.0


def test_distances_are_those_of_a_full_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    units, drive = drives(count=4, frames=20)
    monkeypatch.setattr(rarity, "BLOCK_ROWS", 7)
    found = distances(units, drive, k=3)
    for row in range(len(units)):
        cosine = np.sort(units[drive != drive[row]] @ units[row])[::-1]
        assert abs(found[row] - (1.0 - cosine[2])) < 2e-6


def test_without_another_drive_nobody_knows_how_unlike_a_frame_is() -> None:
    units, drive = drives(count=1)
    assert np.isnan(distances(units, drive)).all()
    few = distances(units[:4], np.array([0, 0, 0, 1]), k=5)
    assert np.isfinite(few).all()


def test_bits_add_up_and_the_rarest_come_first(lake: Lake) -> None:
    found = rarity.rarity(lake, "base@1").to_pylist()
    assert len(found) == 3 * FRAMES
    bits = [row["rarity_bits"] for row in found]
    assert bits == sorted(bits, reverse=True)
    for row in found:
        parts = row["unlike_bits"] + row["condition_bits"] + row["kind_bits"]
        assert row["rarity_bits"] == pytest.approx(parts)
        assert (row["condition"], row["kind"]) == ("unknown unknown", "car")
        assert row["kind_bits"] == row["condition_bits"] == 0.0
    assert rarity.rarity(lake, "base@1").to_pylist() == found
    some = rarity.rarity(lake, "base@1", where="frame_id = 3")
    assert some.num_rows == 3
    assert {r["rarity_bits"] for r in some.to_pylist()} <= set(bits)


def test_the_verb_names_the_rarest_and_hands_them_on(lake: Lake) -> None:
    run = CliRunner(env={"ROADLOOP_HOME": str(lake.home.root)})
    rows = json.loads(run.invoke(app, ["rare", "--json"]).stdout)
    assert len(rows) == 3 * FRAMES
    query = run.invoke(app, ["rare", "--limit", "2", "--sql"]).stdout
    asked = json.loads(run.invoke(app, ["sql", query, "--json"]).stdout)
    assert [r["frame_id"] for r in asked] == [r["frame_id"] for r in rows[:2]]


def test_centres_lie_where_frames_are_and_are_the_same_on_every_run() -> None:
    units, _ = drives()
    found = centres(units, 5)
    nearest = np.linalg.norm(units[:, None] - found, axis=2).min(axis=1)
    assert nearest.max() < 0.3
    np.testing.assert_array_equal(found, centres(units, 5))
    np.testing.assert_allclose(centres(units, 1)[0], units.mean(axis=0), atol=1e-4)


def test_novelty_is_measured_on_drives_that_made_no_centre() -> None:
    units, drive = drives()
    told = know(units, drive, 64)
    assert told.held_out
    assert told.threshold > np.quantile(novelty(units, told.centre_KE), 0.99)
    strange = np.random.default_rng(9).normal(size=(50, 12)).astype(np.float32)
    assert (novelty(strange, told.centre_KE) > told.threshold).mean() > 0.9
    alone = know(units[:60], drive[:60], 8)
    assert not alone.held_out


def test_what_cannot_be_known_is_named(tmp_path: Path) -> None:
    units, _ = drives(count=1, frames=4)
    for k in (0, 257):
        with pytest.raises(KnownError, match=r"1\.\.256"):
            centres(units, k)
    with pytest.raises(KnownError, match="4 different frames cannot have 5"):
        centres(np.concatenate([units, units]), 5)
    path, made = tmp_path / "c.toml", know(units, np.zeros(4, int), 2)
    for text in ("{}", 'campaign_id = "c"', "known = []\ntriggers = []"):
        path.write_text(text)
        with pytest.raises(CampaignFileError, match="is no campaign"):
            into_campaign(path, made)
        assert path.read_text() == text
    with pytest.raises(KnownError, match=r"\*\.toml"):
        into_campaign(tmp_path / "c.json", made)


def test_only_what_is_known_changes_in_a_campaigns_file(tmp_path: Path) -> None:
    units, drive = drives()
    path = tmp_path / "c.toml"
    path.write_text(EXAMPLE)
    for k in (8, 3):
        made = into_campaign(path, know(units, drive, k))
        assert len(made.known) == k
        assert read(path) == made
    assert re.sub(r"known = \[\n(  .*\n)*\]\n\n", "", path.read_text()) == EXAMPLE


def test_the_car_measures_novelty_as_home_does(lake: Lake, tmp_path: Path) -> None:
    run = CliRunner(env={"ROADLOOP_HOME": str(lake.home.root)})
    path = tmp_path / "campaigns" / "novel.toml"
    words = ["known", "SELECT clip_id, frame_id FROM ticks", "--campaign", str(path), "--k", "3"]
    facts = json.loads(run.invoke(app, [*words, "--json"]).stdout)
    campaign = read(path)
    assert (campaign.campaign_id, campaign.version, len(campaign.known)) == ("novel", 1, 3)
    assert campaign.triggers[0].expression.startswith("novelty >= ")
    assert facts["model"] == "base@1"
    home_frames = choose(lake, words[1])
    frames, raw = vectors.raw_of(lake, "base@1", home_frames)
    at_home = novelty(raw, np.array(campaign.known))
    car = Signals(car_id="c", route_id="r", rate_hz=10.0, known=campaign.known)
    for row in (0, 7, 11):
        obs = observation(frames.key(row)[1], 0, 100, None)
        made = tick(obs)
        values = car.of(obs, made.scene, None, None, made.timing)
        assert values["novelty"] == pytest.approx(at_home[row], abs=1e-5)
    again = run.invoke(app, words)
    assert "3 known vectors of base@1" in again.stdout, again.output
