"""Labelled frames on disk: what is not known stays unknown, and older shards stay readable."""

from pathlib import Path

import numpy as np
import pytest

from vehicle.contracts import wire
from vehicle.contracts.sample import (
    BOX_COLUMNS,
    DatasetError,
    Sample,
    all_columns,
    boxes_from_tracks,
    read_shard,
    write_shard,
)
from vehicle.contracts.scene import TRACK

IMAGE = np.zeros((2, 3, 3), np.uint8)
BEV = np.zeros((100, 64), np.uint8)
LANES = np.full((4, 50), np.nan, np.float32)


def sample(**fields: object) -> Sample:
    kept = {"frame_id": 0, "images": {"front": IMAGE}, "boxes": np.ones((1, 11)), "bev": BEV}
    return Sample(**(kept | fields))  # type: ignore[arg-type]


def test_shard_of_before_is_read_with_unknown_velocities(tmp_path: Path) -> None:
    np.savez(tmp_path / "old.npz", boxes=np.ones((3, 9), np.float32))
    boxes = read_shard(tmp_path / "old.npz")["boxes"]
    assert boxes.shape == (3, 11)
    assert np.isnan(boxes[:, 9:]).all()
    assert (boxes[:, :9] == 1).all()


def test_boxes_of_any_other_width_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"\[3, 10\]"):
        all_columns(np.ones((3, 10)))


def test_no_boxes_are_no_boxes_whatever_their_columns() -> None:
    assert all_columns(np.zeros((0, 9))).shape == (0, 11)


def test_what_nobody_labelled_is_absent_from_the_shard(tmp_path: Path) -> None:
    write_shard(tmp_path / "s.npz", [sample(), sample()])
    assert not {"motion", "light", "lanes"} & set(read_shard(tmp_path / "s.npz"))


def test_motion_of_the_first_sample_is_unknown_and_a_missing_light_is_unlabelled(
    tmp_path: Path,
) -> None:
    moved = np.array([1.0, 0.1, 0.02, 0.1], np.float32)
    lit = np.array([1.0, 30.0], np.float32)
    write_shard(
        tmp_path / "s.npz",
        [
            sample(motion=moved, lanes=LANES),
            sample(motion=moved, light=lit, lanes=LANES),
            sample(lanes=LANES),
        ],
    )
    arrays = read_shard(tmp_path / "s.npz")
    assert arrays["motion"].tolist() == [[0.0] * 4, moved.tolist(), [0.0] * 4]
    assert arrays["light"][:, 0].tolist() == [-1.0, 1.0, -1.0]
    assert arrays["lanes"].shape == (3, 4, 50)
    assert arrays["lanes"].dtype == np.float32


def test_lanes_are_labelled_in_all_samples_of_a_shard_or_in_none(tmp_path: Path) -> None:
    with pytest.raises(wire.ContractError, match="some do not"):
        write_shard(tmp_path / "s.npz", [sample(lanes=LANES), sample()])
    assert not list(tmp_path.iterdir())


def test_boxes_of_tracks_carry_their_velocity_over_ground() -> None:
    tracks = np.zeros(1, TRACK)
    tracks["vx_mps"], tracks["vy_mps"], tracks["track_id"] = 3.0, -1.0, 7
    row = dict(zip(BOX_COLUMNS, boxes_from_tracks(tracks, np.array([12]))[0], strict=True))
    assert (row["vx_mps"], row["vy_mps"]) == (3.0, -1.0)
    assert (row["visible_px"], row["actor_id"]) == (12.0, 7.0)
