"""Labelled frames: a dataset that reads back, repeats, and refuses nonsense by name."""

from pathlib import Path

import numpy as np
import pytest

from sim.look.render import UnknownLightError
from sim.run.episode import Episode, TruthLog
from sim.sense.generate import BadRequestError, generate
from sim.sense.sheet import contact_sheet
from sim.story.scenarios import FAMILIES, UnknownFamilyError
from vehicle.config import RIG_R
from vehicle.contracts.sample import BOX_COLUMNS, iter_samples, read_manifest, read_shard
from vehicle.contracts.scenario import Scenario
from vehicle.contracts.scene import BEV, BEV_DRIVABLE, BEV_LANE, BEV_OCCUPIED


def test_dataset_reads_back_as_it_was_promised(tmp_path: Path) -> None:
    out = tmp_path / "day"
    manifest = generate(out, towns=[0, 1], frames=5, seed=3, tags={"split": "test"})
    assert read_manifest(out) == manifest
    samples = list(iter_samples(out))
    assert [s.frame_id for s in samples] == [0, 1, 2, 3, 4]
    assert manifest.frames == 5
    assert manifest.tags == {"light": "day", "split": "test"}
    assert sum(manifest.boxes.values()) == sum(int((s.boxes[:, 7] >= 6).sum()) for s in samples)
    for sample in samples:
        assert list(sample.images) == [c.name for c in RIG_R.cameras]
        assert sample.bev.shape == (BEV.nx, BEV.ny)


def test_same_arguments_give_the_same_dataset(tmp_path: Path) -> None:
    a = generate(tmp_path / "a" / "set", towns=[2], frames=3, seed=1, light="night")
    b = generate(tmp_path / "b" / "set", towns=[2], frames=3, seed=1, light="night")
    assert a.digest == b.digest


def test_labels_are_within_the_raster_and_above_ground(tmp_path: Path) -> None:
    generate(tmp_path / "set", towns=[1], frames=4, seed=2)
    rows = np.concatenate([s.boxes for s in iter_samples(tmp_path / "set")])
    box = {name: rows[:, i] for i, name in enumerate(BOX_COLUMNS)}
    assert len(rows) > 10
    assert ((box["x_m"] >= -20.0) & (box["x_m"] < 60.0)).all()
    assert (np.abs(box["y_m"]) <= 25.6).all()
    assert (np.abs(box["yaw_rad"]) <= np.pi + 1e-5).all()
    for size in ("length_m", "width_m", "height_m"):
        assert (box[size] > 0.3).all()
    assert set(box["kind"]) == {0.0, 1.0}


def test_bev_bits_are_true_where_the_ego_stands() -> None:
    episode = Episode(town=5, seed=6, light="day")
    boxes, bev = episode.truth()
    here = bev[25, 31:33]
    assert ((here & BEV_DRIVABLE) != 0).all()
    assert ((bev & BEV_LANE) != 0).sum() > 50
    for row in boxes:
        ix, iy = int((row[1] + 20.0) / 0.8), int((row[2] + 25.6) / 0.8)
        assert bev[ix, iy] & BEV_OCCUPIED


def test_truth_log_is_a_shard_without_pictures(tmp_path: Path) -> None:
    log = TruthLog(tmp_path / "truth" / "r1.npz")
    episode = Episode(town=1, seed=1, light="day")
    for _ in range(3):
        log.add(episode)
        episode.step(None)
    log.close()
    arrays = read_shard(log.path)
    assert arrays["frame_id"].tolist() == [0, 1, 2]
    assert arrays["bev"].shape == (3, BEV.nx, BEV.ny)
    assert arrays["box_start"][-1] == len(arrays["boxes"])


def test_observation_carries_ego_and_guidance() -> None:
    episode = Episode(town=1, seed=1, light="day")
    first = episode.observe()
    assert first.ego is not None
    assert first.guidance is not None
    assert (first.ego.x_m, first.ego.y_m) == (0.0, 0.0)
    assert np.abs(first.guidance.centreline_m[5]).max() < 1.5
    episode.step(None)
    second = episode.observe()
    assert second.frame.frame_id == 1
    assert second.frame.mono_ns - first.frame.mono_ns == 100_000_000


def test_contact_sheet_shows_all_cameras() -> None:
    sheet = contact_sheet(Episode(town=1, seed=1, light="night"))
    assert sheet.shape[0] == 4 * 320
    assert sheet.dtype == np.uint8


@pytest.mark.parametrize("frames", [0, -3])
def test_no_frames_are_refused_by_name(tmp_path: Path, frames: int) -> None:
    with pytest.raises(BadRequestError, match="at least 1"):
        generate(tmp_path / "set", towns=[0], frames=frames)
    assert list(tmp_path.iterdir()) == []


def test_unknown_light_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UnknownLightError):
        generate(tmp_path / "set", towns=[0], frames=1, light="noon")
    assert list(tmp_path.iterdir()) == []


def test_no_towns_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="town"):
        generate(tmp_path / "set", towns=[], frames=1)


def test_a_dataset_is_never_written_over(tmp_path: Path) -> None:
    generate(tmp_path / "set", towns=[0], frames=1)
    with pytest.raises(BadRequestError, match="already holds"):
        generate(tmp_path / "set", towns=[0], frames=1)


def test_unknown_family_and_parameter_are_refused_by_name() -> None:
    with pytest.raises(UnknownFamilyError, match="flying"):
        Episode(town=0, seed=0, light="day", family="flying")
    with pytest.raises(UnknownFamilyError, match="jump_hz"):
        Episode(town=0, seed=0, light="day", parameters={"jump_hz": 1.0})


def test_a_scenario_makes_its_episode_again() -> None:
    scenario = Scenario(
        town=2, seed=9, light="night", family="jaywalker", duration_s=3.0, rate_hz=20.0
    )
    episode = Episode.of(scenario)
    assert episode.scenario == scenario
    assert episode.ticks == 60
    again = Episode(town=2, seed=9, light="night", family="jaywalker", duration_s=3.0, rate_hz=20.0)
    for name, image in episode.observe().frame.images.items():
        assert np.array_equal(image, again.observe().frame.images[name])


def test_family_shares_add_up() -> None:
    assert sum(f.share_ratio for f in FAMILIES.values()) == pytest.approx(1.0)
