import shutil

import numpy as np
import pytest
from lake_parts import FRAMES, RIG, land, observation, road_arrays, rows, write_truth

from datalake import dataset, label
from datalake.dataset import (
    DatasetExistsError,
    DatasetQueryError,
    EmptyDatasetError,
    MixedRigsError,
    UnlabelledFramesError,
)
from datalake.ingest import ingest
from datalake.label import BadTruthError, MissingTruthError, UnknownClipError
from datalake.lake import Lake
from datalake.mine import mine
from datalake.queries import UnknownQueryError, all_queries
from vehicle.contracts.frame import Rig
from vehicle.contracts.home import Home
from vehicle.contracts.sample import DatasetError, iter_samples, motion_between, read_manifest

EVEN = "SELECT clip_id, frame_id FROM ticks WHERE frame_id % 2 = 0"


def buy(home: Home, clips: list[str], **how: object) -> label.LabelReport:
    with Lake(home) as lake:
        return label.label(home, lake, clips, **how)  # type: ignore[arg-type]


@pytest.fixture
def clip(home: Home) -> str:
    """One ingested clip with truth, nothing bought."""
    clip_id = land(home)
    write_truth(home)
    ingest(home)
    return clip_id


def test_labels_cost_only_the_boxes_of_the_frames_bought(home: Home, clip: str) -> None:
    report = buy(home, [clip], frames={clip: {0, 2, 4}})
    assert (report.clips, report.frames, report.already, report.boxes) == (1, 3, 0, 2)
    assert rows(home, "SELECT frame_id, boxes FROM labelled ORDER BY ALL") == [
        {"frame_id": 0, "boxes": 1},
        {"frame_id": 2, "boxes": 0},
        {"frame_id": 4, "boxes": 1},
    ]
    assert len(rows(home, "FROM labels")) == 4
    assert sorted(label.rasters(home, clip)) == [0, 2, 4]


def test_a_frame_is_never_paid_for_twice(home: Home, clip: str) -> None:
    buy(home, [clip], frames={clip: {0, 2}})
    rest = buy(home, [clip])
    assert (rest.frames, rest.already) == (FRAMES - 2, 2)
    again = buy(home, [clip])
    assert (again.frames, again.already, again.boxes) == (0, FRAMES, 0)
    assert len(rows(home, "FROM labelled")) == FRAMES


def test_every_nth_frame_can_be_bought(home: Home, clip: str) -> None:
    assert buy(home, [clip], every=5).frames == 3


def test_what_cannot_be_labelled_is_named(home: Home, clip: str) -> None:
    with pytest.raises(UnknownClipError, match="not in the lake"):
        buy(home, ["0" * 64])
    with pytest.raises(UnknownClipError, match="no frame 99"):
        buy(home, [clip], frames={clip: {99}})
    truth = write_truth(home, frames=4)
    with pytest.raises(MissingTruthError, match="no truth for frame 4"):
        buy(home, [clip])
    assert rows(home, "FROM labelled") == []
    truth.write_bytes(b"PK" + truth.read_bytes()[:200])
    with pytest.raises(BadTruthError):
        buy(home, [clip])
    truth.unlink()
    with pytest.raises(MissingTruthError, match="only simulated drives"):
        buy(home, [clip])


def test_a_dataset_holds_the_pictures_and_labels_of_the_frames_chosen(
    home: Home, clip: str
) -> None:
    buy(home, [clip])
    made = dataset.create(home, "even", EVEN, tags={"light": "day"})
    assert (made.frames, made.boxes, made.sources) == (6, {"car": 5}, (clip,))
    assert made.rig == RIG
    samples = list(iter_samples(home.datasets / "even"))
    assert [s.frame_id for s in samples] == [0, 2, 4, 6, 8, 10]
    truth = np.load(write_truth(home))
    for sample in samples:
        start, end = truth["box_start"][sample.frame_id : sample.frame_id + 2]
        np.testing.assert_array_equal(sample.boxes, truth["boxes"][start:end])
        np.testing.assert_array_equal(sample.bev, truth["bev"][sample.frame_id])
        sent = observation(sample.frame_id, 0, 100, RIG).frame.images
        assert list(sample.images) == ["front", "rear"]
        for name, image in sample.images.items():
            assert image.shape == sent[name].shape
            assert abs(float(image.mean()) - float(sent[name].mean())) < 4


def test_lights_and_lanes_of_a_drive_are_bought_with_its_boxes(home: Home, clip: str) -> None:
    write_truth(home, road=True)
    buy(home, [clip])
    dataset.create(home, "even", EVEN)
    samples = list(iter_samples(home.datasets / "even"))
    wanted = road_arrays(FRAMES)
    for sample in samples:
        np.testing.assert_array_equal(sample.light, wanted["light"][sample.frame_id])
        np.testing.assert_array_equal(sample.lanes, wanted["lanes"][sample.frame_id])


def test_a_road_that_was_changed_after_it_was_bought_is_refused(home: Home, clip: str) -> None:
    write_truth(home, road=True)
    buy(home, [clip])
    path = label.labels_file(home, clip)
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["light"][:, 0] = 2
    np.savez(path, **arrays)
    with pytest.raises(DatasetError, match="road"):
        dataset.create(home, "even", EVEN)


def test_frames_without_a_known_road_leave_it_unlabelled(home: Home, clip: str) -> None:
    buy(home, [clip], frames={clip: {0}})
    write_truth(home, road=True)
    buy(home, [clip])
    dataset.create(home, "even", EVEN)
    first, *others = iter_samples(home.datasets / "even")
    assert first.light is not None
    assert first.light[0] == -1
    assert all(s.light is not None and s.light[0] > 0 for s in others)
    assert all(s.lanes is None for s in (first, *others))


def test_frames_that_follow_each_other_know_how_the_car_moved(home: Home, clip: str) -> None:
    buy(home, [clip])
    dataset.create(home, "some", "SELECT clip_id, frame_id FROM ticks WHERE frame_id NOT IN (3)")
    ticks = {r["frame_id"]: r for r in rows(home, "FROM ticks")}
    for sample in iter_samples(home.datasets / "some"):
        assert sample.motion is not None
        if sample.frame_id in (0, 4):
            assert (sample.motion == 0.0).all()
            continue
        then, now = (
            [ticks[k][n] for n in ("x_m", "y_m", "yaw_rad")]
            for k in (sample.frame_id - 1, sample.frame_id)
        )
        dt_s = (ticks[sample.frame_id]["mono_ns"] - ticks[sample.frame_id - 1]["mono_ns"]) * 1e-9
        wanted = motion_between(np.array(then), np.array(now), dt_s)
        np.testing.assert_allclose(sample.motion, wanted)
        assert sample.motion[3] > 0.0


def test_the_same_snapshot_and_query_give_the_same_digest_after_the_lake_has_grown(
    home: Home, clip: str
) -> None:
    buy(home, [clip])
    made = dataset.create(home, "even", EVEN)
    bytes_before = [(home.datasets / "even" / f.name).read_bytes() for f in made.files]
    land(home, seed=3)
    write_truth(home, seed=3)
    ingest(home)
    buy(home, [r["clip_id"] for r in rows(home, "FROM clips")])
    assert dataset.show(home, "even")["pinned"] is True
    shutil.rmtree(home.datasets / "even")
    again = dataset.create(home, "even", EVEN, snapshot=made.snapshot)
    assert again.digest == made.digest
    assert [(home.datasets / "even" / f.name).read_bytes() for f in again.files] == bytes_before
    assert dataset.create(home, "grown", EVEN).frames == 12


def test_a_random_choice_is_the_same_on_every_run(home: Home, clip: str) -> None:
    buy(home, [clip])
    query = "SELECT clip_id, frame_id FROM ticks ORDER BY random() LIMIT 5"
    first = dataset.create(home, "random", query)
    again = dataset.create(home, "random", query, snapshot=first.snapshot, replace=True)
    assert again.digest == first.digest


def test_order_and_repetition_in_the_query_do_not_matter(home: Home, clip: str) -> None:
    buy(home, [clip])
    made = dataset.create(home, "a", f"({EVEN} UNION ALL {EVEN}) ORDER BY frame_id DESC")
    assert made.frames == 6
    assert read_manifest(home.datasets / "a") == made


def test_unlabelled_frames_are_refused_with_how_to_buy_them(home: Home, clip: str) -> None:
    buy(home, [clip], frames={clip: {0, 2}})
    with pytest.raises(UnlabelledFramesError, match=r"4 of 6 .* frame 4\); buy .* datalake label"):
        dataset.create(home, "even", EVEN)
    assert dataset.names(home) == []
    assert rows(home, "FROM pins") == []


def test_labels_bought_after_the_snapshot_do_not_count(home: Home, clip: str) -> None:
    with Lake(home) as lake:
        before = lake.snapshot()
    buy(home, [clip])
    with pytest.raises(UnlabelledFramesError):
        dataset.create(home, "even", EVEN, snapshot=before)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("SELECT clip_id FROM ticks", DatasetQueryError),
        ("SELECT frame_id AS clip_id, clip_id AS frame_id FROM ticks", DatasetQueryError),
        ("SELECT clip_id, NULL::BIGINT AS frame_id FROM ticks", DatasetQueryError),
        ("SELECT 'x' AS clip_id, frame_id FROM ticks", UnlabelledFramesError),
        ("SELECT clip_id, frame_id FROM ticks WHERE speed_mps > 99", EmptyDatasetError),
    ],
)
def test_a_query_that_chooses_nothing_usable_is_named(
    home: Home, clip: str, query: str, error: type[Exception]
) -> None:
    buy(home, [clip])
    with pytest.raises(error):
        dataset.create(home, "x", query)
    assert not list(home.datasets.glob("*")) if home.datasets.exists() else True


def test_a_name_that_is_taken_or_leads_elsewhere_is_refused(home: Home, clip: str) -> None:
    buy(home, [clip])
    dataset.create(home, "even", EVEN)
    with pytest.raises(DatasetExistsError, match="--replace"):
        dataset.create(home, "even", EVEN)
    assert dataset.create(home, "even", f"{EVEN} AND frame_id > 3", replace=True).frames == 4
    with pytest.raises(DatasetQueryError, match="dataset name"):
        dataset.create(home, "../even", EVEN)


def test_cars_with_other_cameras_do_not_share_a_dataset(home: Home, clip: str) -> None:
    other = Rig(name="other", cameras=RIG.cameras[:1])
    second = land(home, seed=4, rig=other)
    write_truth(home, seed=4)
    ingest(home)
    buy(home, [clip, second])
    with pytest.raises(MixedRigsError, match="1 clips of rig"):
        dataset.create(home, "both", EVEN)


def test_a_dataset_killed_half_way_does_not_exist(
    home: Home, clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    buy(home, [clip])

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "_pin", dies)
    with pytest.raises(KeyboardInterrupt):
        dataset.create(home, "even", EVEN)
    monkeypatch.undo()
    assert list(home.datasets.iterdir()) == []
    assert dataset.create(home, "even", EVEN).frames == 6


def test_a_damaged_shard_is_found(home: Home, clip: str) -> None:
    buy(home, [clip])
    made = dataset.create(home, "even", EVEN)
    shard = home.datasets / "even" / made.files[0].name
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DatasetError, match="damaged"):
        dataset.show(home, "even")
    with pytest.raises(DatasetError, match="there are: even"):
        dataset.show(home, "odd")


def test_every_named_question_runs_over_a_real_lake(home: Home) -> None:
    land(home, light=20)
    ingest(home)
    with Lake(home) as lake:
        for query in all_queries().values():
            lake.sql(query.sql())
        assert mine(lake, "hard_brakes", brake_mps2=5.0)["frame_id"].to_pylist() == [11, 10]
        assert mine(lake, "night_uncertain")["frame_id"].to_pylist() == [9, 8, 7, 6, 5]
        assert mine(lake, "low_ttc").num_rows == FRAMES
        assert mine(lake, "unlabelled_events")["frame_id"].to_pylist() == [3]
        with pytest.raises(UnknownQueryError, match="it has: brake_mps2"):
            mine(lake, "hard_brakes", brake=1.0)
        with pytest.raises(UnknownQueryError, match="there are: hard_brakes"):
            mine(lake, "soft_brakes")
