import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_parts import CAR, TRUCK, box, make_dataset, small

from training.batches import (
    AsymmetricRigError,
    Batches,
    draw_weights,
    mirror_boxes,
    mirror_order,
)
from training.frames import DatasetRigError, load_frames
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.sample import DatasetError, read_shard
from vehicle.geometry import box_corners, project


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "noise", frames=5)


@pytest.fixture(scope="module")
def frames(folder):
    return load_frames(folder)


def test_frames_keep_their_own_pictures_boxes_and_order(frames):
    assert len(frames) == 5
    assert frames.front.shape == (5, 2, 128, 256, 3)
    assert frames.side.shape == (5, 6, 96, 192, 3)
    assert [round(float(b[0, 1] - 12.3)) for b in frames.boxes] == [0, 1, 2, 3, 4]


def test_the_same_seed_and_step_give_the_same_batch(frames):
    config = small(flip_ratio=0.5, brightness=0.2, noise_levels=4.0, batch=3)
    one, two = Batches([frames], config).batch(7), Batches([frames], config).batch(7)
    assert all(torch.equal(one[k], two[k]) for k in one)
    other = Batches([frames], config).batch(8)
    assert not torch.equal(one["front"], other["front"])
    reseeded = Batches([frames], replace(config, seed=1)).batch(7)
    assert not torch.equal(one["front"], reseeded["front"])


def test_workers_share_the_batch_of_one_worker(frames):
    config = small(batch=4, flip_ratio=0.5, noise_levels=3.0)
    whole = Batches([frames], config).batch(3)["side"]
    halves = [Batches([frames], config, rank=r, world=2).batch(3)["side"] for r in (0, 1)]
    assert torch.equal(whole[0::2], halves[0])
    assert torch.equal(whole[1::2], halves[1])


def test_each_dataset_gets_its_share(frames):
    batches = Batches([frames, frames], small(batch=10, mix=(0.3, 0.7)))
    chosen = [which for step in range(50) for which, _ in batches.chosen(step)]
    assert np.mean(np.array(chosen) == 0) == pytest.approx(0.3, abs=0.01)


def test_a_dataset_of_another_rig_is_refused_by_name(tmp_path):
    other = replace(RIG_R, name="X")
    with pytest.raises(DatasetRigError, match=r"rig .X.+expected rig .R"):
        load_frames(make_dataset(tmp_path / "x", rig=other, frames=1))


def test_a_folder_without_manifest_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"no dataset\.json"):
        load_frames(tmp_path)


def test_a_cut_shard_is_refused_and_named(tmp_path):
    folder = make_dataset(tmp_path / "d", frames=2)
    shard = folder / "shard-0.npz"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"shard-0\.npz is missing or cut"):
        load_frames(folder)


def test_a_shard_of_garbage_is_refused_and_named(tmp_path):
    folder = make_dataset(tmp_path / "d", frames=2)
    shard = folder / "shard-0.npz"
    shard.write_bytes(b"x" * shard.stat().st_size)
    with pytest.raises(DatasetError, match=r"shard-0\.npz cannot be read"):
        load_frames(folder)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("bev", lambda a: a[:, :50], r"bev is \(2, 50, 64\), expected \(2, 100, 64\)"),
        ("images_left_rear", lambda a: a[:, ::2], "images_left_rear is"),
        ("box_start", lambda a: a[::-1], "box_start does not cut"),
        ("boxes", lambda a: a * np.nan, "no finite place"),
        ("boxes", lambda a: a * 0, "a box has no size"),
    ],
)
def test_a_shard_with_wrong_arrays_is_refused_by_what_is_wrong(tmp_path, name, change, reason):
    folder = make_dataset(tmp_path / "d", frames=2)
    shard = folder / "shard-0.npz"
    arrays = read_shard(shard)
    np.savez(shard, **{**arrays, name: change(arrays[name])})
    manifest = json.loads((folder / "dataset.json").read_text())
    manifest["files"][0]["size_bytes"] = shard.stat().st_size
    (folder / "dataset.json").write_bytes(wire.canonical(manifest))
    with pytest.raises(DatasetError, match=reason):
        load_frames(folder)


def test_rig_r_is_its_own_mirror_image():
    names = [c.name for c in RIG_R.cameras]
    mirrored = [names[i] for i in mirror_order(RIG_R.cameras)]
    swap = {"left": "right", "right": "left"}
    expected = ["_".join(swap.get(w, w) for w in n.split("_")) for n in names]
    assert mirrored == expected


def test_a_rig_with_a_camera_on_one_side_only_cannot_be_mirrored():
    with pytest.raises(AsymmetricRigError, match="left_front"):
        mirror_order(RIG_R.cameras[:3])


def test_a_mirrored_box_is_seen_at_the_mirrored_pixel():
    seen = np.array([box(CAR, 14.0, 3.0, yaw_rad=0.4)], np.float32)
    mirrored = mirror_boxes(seen)
    order = mirror_order(RIG_R.cameras)
    for camera, index in zip(RIG_R.cameras, order, strict=True):
        uv, depth = project(camera, corners(seen[0]))
        uv_mirrored, depth_mirrored = project(RIG_R.cameras[index], corners(mirrored[0]))
        if not (depth > 0.5).all():
            continue
        uv_mirrored[:, 0] = camera.width_px - 1 - uv_mirrored[:, 0]
        assert np.allclose(sorted(uv.tolist()), sorted(uv_mirrored.tolist()), atol=1e-3)
        assert np.allclose(sorted(depth), sorted(depth_mirrored), atol=1e-5)


def corners(row: np.ndarray) -> np.ndarray:
    return box_corners(*(float(v) for v in row[1:7]))


def test_a_mirrored_frame_has_mirrored_pictures_and_targets(frames):
    plain = Batches([frames], small(batch=2, flip_ratio=0.0))
    flipped = Batches([frames], small(batch=2, flip_ratio=1.0))
    one, two = plain.batch(0), flipped.batch(0)
    order = [i - 2 for i in mirror_order(RIG_R.cameras)[2:]]
    assert torch.equal(two["front"], one["front"].flip(3))
    assert torch.equal(two["side"], one["side"][:, order].flip(3))
    assert torch.equal(two["heat"], one["heat"].flip(3))
    assert torch.equal(two["dense"], one["dense"].flip(3))
    sign = torch.tensor([1, -1, 1, 1, -1, 1, 1.0]).view(1, 7, 1, 1)
    assert torch.allclose(two["box"], one["box"].flip(3) * sign, atol=1e-5)


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return load_frames(make_dataset(tmp_path_factory.mktemp("drive") / "run", frames=6, runs=True))


def test_the_first_frame_of_a_run_has_no_frame_before_it(drive):
    assert [drive.before(i) for i in range(6)] == [None, 0, 1, None, 3, 4]


def test_a_memory_is_made_from_the_frame_before_and_the_way_between(drive):
    config = small(batch=8, forget_ratio=0.0, odometry_error=0.0)
    batch = Batches([drive], config).batch(1)
    chosen = [index for _, index in Batches([drive], config).chosen(1)]
    told = batch["before_index"].tolist()
    assert told == [k for k, index in enumerate(chosen) if drive.before(index) is not None]
    assert torch.allclose(batch["before_motion"][0], torch.tensor([0.5, 0.0, 0.01]))
    first = drive.before(chosen[told[0]])
    assert torch.equal(batch["before_front"][0], torch.from_numpy(drive.front[first]))
    assert torch.allclose(batch["ego_motion"][told[0]], torch.tensor([0.5, 0.1, 1.0]))


def test_a_memory_that_is_forgotten_asks_for_no_own_motion(drive):
    batch = Batches([drive], small(batch=4, forget_ratio=1.0)).batch(0)
    assert batch["before_index"].numel() == 0
    assert batch["ego_motion"].abs().max() == 0


def test_the_told_motion_is_wrong_for_half_of_the_memories_and_the_label_never(drive):
    config = small(batch=64, forget_ratio=0.0, odometry_error=0.2)
    batch = Batches([drive], config).batch(0)
    wrong = (batch["before_motion"][:, 0] - 0.5).abs() > 1e-6
    assert 0.3 < wrong.float().mean() < 0.7
    asked = batch["ego_motion"][:, 2] > 0
    assert torch.allclose(batch["ego_motion"][asked, 0], torch.tensor(0.5))


def test_a_mirrored_run_turns_the_other_way_and_its_lanes_change_sides(drive):
    flipped = Batches([drive], small(batch=8, flip_ratio=1.0, forget_ratio=0.0, odometry_error=0.0))
    batch = flipped.batch(1)
    assert batch["before_motion"][0, 2] == pytest.approx(-0.01)
    assert batch["lanes"][0, 0, 1, 0] == pytest.approx(1.75)
    assert batch["velocity"][0, 1].min() == pytest.approx(-0.025)


def test_frames_that_show_something_rare_are_drawn_more_often(drive):
    counts = {"car": 6, "pedestrian": 6, "light 1": 6}
    alike = draw_weights(drive, counts, 6, 0.5)
    assert alike[1] == pytest.approx(5 * alike[0])  # a first frame is seen as memory already
    drive.boxes[4][0, 0] = TRUCK
    counts = {**counts, "truck": 1}
    rare = draw_weights(drive, counts, 6, 0.5)
    drive.boxes[4][0, 0] = CAR
    assert rare[4] == pytest.approx(rare[1] * 6**0.5)
