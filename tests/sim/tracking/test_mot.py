"""The evaluator of tracks counts as the published one does, on a street made by hand."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sim.tracking import mot, mot_baseline
from sim.tracking.mot_match import Told, pair, track_means
from sim.tracking.mot_run import CHOSEN, Clocked
from vehicle.importers import kitti_mot
from vehicle.importers.kitti_mot import Found, Labels, Sequence

FRAMES = 20
HIGH_PX = (100.0, 100.0, 160.0, 180.0)


def street(cars: int = 3, name: str = "Car") -> Sequence:
    """Return a level street with cars ahead that keep their distance, all seen, all labelled."""
    frame = np.repeat(np.arange(FRAMES), cars)
    track = np.tile(np.arange(cars), FRAMES)
    boxes = np.zeros((frame.size, 7))
    boxes[:, 0], boxes[:, 1] = 10.0 + 8.0 * track, 0.1 * frame
    boxes[:, 2], boxes[:, 4:] = -1.65, (4.0, 1.8, 1.5)
    image_px = np.tile(np.array(HIGH_PX), (frame.size, 1))
    labels = Labels(
        frame=frame,
        track=track,
        name=np.full(frame.size, name),
        truncation=np.zeros(frame.size, np.int64),
        occlusion=np.zeros(frame.size, np.int64),
        image_px=image_px,
        boxes=boxes,
    )
    found = Found(frame=frame, score=5.0 + track, image_px=image_px, boxes=boxes)
    poses = np.tile(np.eye(4), (FRAMES, 1, 1))
    return Sequence(name="0000", frames=FRAMES, labels=labels, found={"car": found}, poses=poses)


def told(sequence: Sequence, keep: np.ndarray | None = None) -> Told:
    """Return the labels themselves as a tracker's answer, all rows or those kept."""
    labels, score = sequence.labels, sequence.found["car"].score
    kept = np.ones(labels.frame.size, bool) if keep is None else keep
    return Told(
        frame=labels.frame[kept],
        track=labels.track[kept] + 50,
        score=score[kept],
        boxes=labels.boxes[kept],
        image_px=labels.image_px[kept],
    )


def counts(sequence: Sequence, answer: Told) -> mot.Clear:
    return mot.clear([pair(sequence, answer, "car")], -math.inf, 0.25)


def test_the_truth_itself_is_without_fault() -> None:
    sequence = street()
    report = mot.evaluate([pair(sequence, told(sequence), "car")], 0.5)
    assert report.best.mota == report.best.motp == 1.0
    assert report.samota == pytest.approx(1.0)
    assert 0.5 < report.amota < 1.0  # unscaled: what a recall leaves out counts as missed
    assert (report.best.hits, report.best.missed, report.best.alarms) == (60, 0, 0)


def test_a_miss_a_false_alarm_and_a_switch_each_count_once() -> None:
    sequence = street()
    answer = told(sequence)
    keep = np.ones(answer.frame.size, bool)
    keep[7] = False
    assert counts(sequence, told(sequence, keep)).missed == 1
    ghost = answer.boxes.copy()
    ghost[7, 1] += 50.0
    seen = counts(sequence, replace(answer, boxes=ghost))
    assert (seen.missed, seen.alarms) == (1, 1)
    numbers = answer.track.copy()
    late = (sequence.labels.frame >= 10) & (sequence.labels.track == 1)
    numbers[late] = 99
    seen = counts(sequence, replace(answer, track=numbers))
    assert (seen.switches, seen.fragments, seen.missed) == (1, 1, 0)


def test_a_gap_is_a_fragment_and_no_switch() -> None:
    sequence = street()
    gap = (sequence.labels.track == 2) & np.isin(sequence.labels.frame, (8, 9))
    seen = counts(sequence, told(sequence, ~gap))
    assert (seen.switches, seen.fragments, seen.missed) == (0, 1, 2)


@pytest.mark.parametrize("how", ["van", "hidden", "cut"])
def test_labels_that_do_not_count_are_neither_missed_nor_false(how: str) -> None:
    sequence = street()
    labels, first = sequence.labels, sequence.labels.track == 0
    if how == "van":
        labels = replace(labels, name=np.where(first, "Van", labels.name))
    elif how == "hidden":
        labels = replace(labels, occlusion=np.where(first, 3, 0))
    else:
        labels = replace(labels, truncation=np.where(first, 1, 0))
    sequence = replace(sequence, labels=labels)
    found = counts(sequence, told(sequence))
    lost = counts(sequence, told(sequence, ~first))
    assert (found.missed, found.alarms, found.labels) == (0, 0, 40)
    assert (lost.missed, lost.alarms, lost.labels) == (0, 0, 40)


def test_low_boxes_and_boxes_in_areas_nobody_labelled_are_no_false_alarms() -> None:
    sequence = street()
    answer = told(sequence)
    nowhere = answer.boxes.copy()
    nowhere[0:2, 1] += 50.0
    image_px = answer.image_px.copy()
    image_px[0] = (500.0, 100.0, 520.0, 125.0)  # 25 px high
    image_px[1] = (700.0, 100.0, 760.0, 180.0)
    labels = sequence.labels
    area = replace(
        labels,
        frame=np.append(0, labels.frame),
        track=np.append(-1, labels.track),
        name=np.append("DontCare", labels.name),
        truncation=np.append(-1, labels.truncation),
        occlusion=np.append(-1, labels.occlusion),
        image_px=np.vstack([[690.0, 90.0, 740.0, 190.0], labels.image_px]),
        boxes=np.vstack([labels.boxes[:1], labels.boxes]),
    )
    answer = replace(answer, boxes=nowhere, image_px=image_px)
    assert counts(sequence, answer).alarms == 1
    assert counts(replace(sequence, labels=area), answer).alarms == 0


def test_recall_is_sampled_where_hits_come_closest() -> None:
    points = mot.sample(np.arange(80.0, 0.0, -1.0), 80)
    assert len(points) == mot.RECALLS
    assert [score for _, score in points[:3]] == [79.0, 77.0, 75.0]
    assert mot.sample(np.arange(40.0), 80)[-1][0] == pytest.approx(0.5)
    assert mot.sample(np.zeros(0), 80) == []


def test_nothing_told_scores_nothing() -> None:
    sequence = street()
    report = mot.evaluate([pair(sequence, told(sequence, np.zeros(60, bool)), "car")], 0.25)
    assert (report.samota, report.best.missed, report.best.mota) == (0.0, 60, 0.0)


def test_scores_are_means_over_a_track() -> None:
    assert track_means(np.array([0, 1, 0]), np.array([1.0, 5.0, 2.0])).tolist() == [1.5, 5.0, 1.5]


def test_both_trackers_follow_a_clean_street() -> None:
    sequence = street()
    for answer in (
        mot_baseline.run(sequence, "car"),
        Clocked("car", CHOSEN["car"]).run(sequence),
    ):
        seen = counts(sequence, answer)
        assert (seen.alarms, seen.switches, seen.fragments) == (0, 0, 0)
        assert seen.missed <= 3  # the first frame, where a birth takes two
        assert seen.motp > 0.95


@pytest.fixture(scope="module")
def sequences(data_folder: Path) -> list[Sequence]:
    folder = data_folder / "kitti-mot"
    if not folder.is_dir():
        pytest.skip(f"no KITTI tracking data at {folder}")
    return [kitti_mot.read(folder, name) for name in kitti_mot.names(folder)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "figures"),
    [
        ("car", (93.34, 86.48, 79.61, 0, 15, 369, 764)),
        ("pedestrian", (81.35, 73.92, 67.87, 0, 58, 585, 1967)),
        ("cyclist", (93.58, 84.64, 77.31, 1, 3, 105, 101)),
    ],
)
def test_the_plain_tracker_gives_the_figures_of_the_published_program(
    sequences: list[Sequence], kind: str, figures: tuple[float, ...]
) -> None:
    pairings = [pair(s, mot_baseline.run(s, kind), kind) for s in sequences]
    row = mot.evaluate(pairings, 0.25, as_published=True).row()
    found = [row[k] for k in ("sAMOTA", "MOTA", "MOTP", "IDS", "FRAG", "FP", "FN")]
    assert found == pytest.approx(list(figures), abs=0.011)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "samota", "mota"),
    [("car", 93.34, 86.48), ("pedestrian", 81.36, 73.92), ("cyclist", 93.58, 84.64)],
)
def test_the_cars_tracker_is_above_the_published_one(
    sequences: list[Sequence], kind: str, samota: float, mota: float
) -> None:
    clocked = Clocked(kind, CHOSEN[kind])
    pairings = [pair(s, clocked.run(s), kind) for s in sequences]
    for as_published in (False, True):
        row = mot.evaluate(pairings, 0.25, as_published=as_published).row()
        assert row["sAMOTA"] > samota
        assert row["MOTA"] > mota
        assert row["IDS"] == 0


def test_without_the_data_the_bench_times_the_car_and_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sim.tracking.bench_tracker import tracker_bench

    monkeypatch.setenv("ROADLOOP_DATA", str(tmp_path))
    report = tracker_bench(frames=120, progress=lambda share: None, bundle=None).report()
    assert [r for r in report["rows"] if "skipped" in r]
    assert [r["ms"]["n"] for r in report["rows"] if "ms" in r] == [120, 120]
    assert not any(m["holds"] for m in report["must"])
