import numpy as np
import pytest
import tiny_bundle
from training_parts import CAR, TRUCK, box, make_dataset

from training.decode import detections, peaks
from training.evaluate import BundleUnreadableError, evaluate
from training.judge import match
from training.metrics import OPERATING_PROB, Matches, wilson
from training.report import write_report
from vehicle.contracts import wire
from vehicle.contracts.report import EvalReport
from vehicle.contracts.scene import BEV_BOX, KINDS
from vehicle.decode import Decoder

NONE = np.empty((0, 2))


def matched(detected, wanted, ignored=NONE) -> Matches:
    m = Matches([], [])
    m.add(np.array(detected).reshape(-1, 3), np.array(wanted).reshape(-1, 2), ignored, 30.0)
    return m


def test_wilson_interval_of_a_known_case():
    low, high = wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert wilson(0, 0) == (0.0, 1.0)


def test_average_precision_of_a_known_case():
    m = matched([(0, 0, 0.9), (50, 0, 0.8), (10, 0, 0.7)], [(0, 0), (10, 0)])
    assert m.average_precision() == pytest.approx((1.0 + 2 / 3) / 2)
    assert m.precision() == (2, 3)


def test_two_detections_cannot_find_the_same_road_user():
    m = matched([(0, 0, 0.9), (0.5, 0, 0.8)], [(0, 0), (40, 0)])
    assert m.right == [True, False]
    assert (m.found, m.labels) == (1, 2)
    assert (m.near_found, m.near_labels) == (1, 1)


def test_a_detection_is_right_within_two_metres():
    assert matched([(1.99, 0, 0.9)], [(0, 0)]).found == 1
    assert matched([(2.01, 0, 0.9)], [(0, 0)]).found == 0


def test_a_weak_detection_counts_for_precision_but_not_for_recall():
    m = matched([(0, 0, OPERATING_PROB - 0.01)], [(0, 0)])
    assert m.found == 0
    assert m.average_precision() == 1.0


def test_a_detection_of_an_ignored_road_user_does_not_count():
    m = matched([(0, 0, 0.9)], NONE, np.array([[0.5, 0.0]]))
    assert m.scores == []
    assert m.labels == 0


def test_small_boxes_and_other_kinds_are_ignored():
    matches = {"car": Matches([], []), "pedestrian": Matches([], [])}
    boxes = np.array([box(CAR, 10, 0), box(CAR, 20, 0, px=5), box(TRUCK, 30, 0)], np.float32)
    found = {
        "car": np.array([[10, 0, 0.9], [20, 0, 0.8], [30, 0, 0.7]]),
        "pedestrian": np.array([[30, 0, 0.7], [10, 0, 0.6]]),
    }
    match(matches, found, boxes)
    assert (matches["car"].right, matches["car"].labels) == ([True], 1)
    assert matches["pedestrian"].right == [False]


def test_peaks_come_best_first_and_only_once_per_hill():
    heat = np.zeros((50, 32), np.float32)
    heat[10, 10], heat[10, 11], heat[0, 0] = 0.8, 0.7, 0.9
    assert peaks(heat, 0.3).tolist() == [[0, 0], [10, 10]]


def test_the_measure_and_the_car_decode_alike():
    rng = np.random.default_rng(3)
    kinds = ("car", "pedestrian")
    heat = rng.random((2, 50, 32)).astype(np.float32) ** 6
    boxes = rng.uniform(-0.8, 0.8, (6, 50, 32)).astype(np.float32)
    tracks = Decoder(kinds, BEV_BOX, 0.5).boxes(heat, boxes)
    found = detections(heat, boxes, kinds, 0.5)
    for kind in kinds:
        car = tracks[tracks["kind"] == KINDS.index(kind)]
        ours = found[kind][: len(car)]
        assert len(car) > 5
        assert np.allclose(ours[:, 0], car["x_m"], atol=1e-4)
        assert np.allclose(ours[:, 1], car["y_m"], atol=1e-4)
        assert np.allclose(ours[:, 2], car["score_prob"], atol=1e-6)


def test_a_report_of_a_bundle_that_sees_one_car_and_one_pedestrian(tmp_path):
    tiny_bundle.make(tmp_path / "bundle")
    data = make_dataset(tmp_path / "data", frames=3, tags={"light": "night"})
    report = evaluate(tmp_path / "bundle", data)
    assert report == wire.from_bytes(EvalReport, wire.to_bytes(report))
    assert report.config["tag.light"] == "night"
    names = {m.name for m in report.metrics}
    assert {"ap/car", "recall/car", "recall/pedestrian/near", "iou/drivable"} <= names
    recall = report.metric("recall/pedestrian")
    assert (recall.value, recall.n) == (0.0, 3)
    assert recall.high == pytest.approx(0.5615, abs=1e-3)
    assert 0 < report.metric("uncertainty/mean").value < 1


def test_a_tampered_network_is_not_measured(tmp_path):
    tiny_bundle.make(tmp_path / "bundle")
    model = tmp_path / "bundle" / "model.onnx"
    model.write_bytes(model.read_bytes() + b"x")
    data = make_dataset(tmp_path / "data", frames=1)
    with pytest.raises(BundleUnreadableError, match="not the file its manifest names"):
        evaluate(tmp_path / "bundle", data)


def test_a_folder_that_is_no_bundle_is_named(tmp_path):
    with pytest.raises(BundleUnreadableError, match="is not a bundle"):
        evaluate(tmp_path, make_dataset(tmp_path / "data", frames=1))


def test_average_precision_near_leaves_out_what_is_far():
    m = matched([(0, 0, 0.9), (50, 0, 0.8)], [(0, 0), (60, 0)])
    assert m.average_precision(near=True) == 1.0
    assert m.average_precision() == pytest.approx(0.5)


def test_the_interval_of_an_average_precision_holds_it_and_shrinks_with_frames():
    def many(frames: int) -> Matches:
        m = Matches([], [])
        for k in range(frames):
            found = np.array([(0, 0, 0.9)]) if k % 2 else np.zeros((0, 3))
            m.add(found, np.array([(0.0, 0.0)]), NONE)
        return m

    few, lots = many(10), many(200)
    for m in (few, lots):
        low, high = m.interval()
        assert low <= m.average_precision() == 0.5 <= high
    assert np.ptp(lots.interval()) < np.ptp(few.interval())


def test_frames_counted_apart_and_merged_are_frames_counted_together():
    together, apart, more = (Matches([], []) for _ in range(3))
    frames = [(np.array([(0, 0, 0.9)]), np.array([(0.0, 0.0), (40.0, 0.0)])) for _ in range(3)]
    for k, (found, wanted) in enumerate(frames):
        together.add(found, wanted, NONE)
        (apart if k < 2 else more).add(found, wanted, NONE)
    apart.merge(more)
    assert apart == together


def test_every_head_of_a_rich_bundle_is_measured(tmp_path):
    tiny_bundle.make(tmp_path / "bundle", rich=True)
    data = make_dataset(tmp_path / "data", frames=3, runs=True)
    report = evaluate(tmp_path / "bundle", data)
    assert report.config["frames"] == "2"  # the first of the run is only memory
    names = {m.name for m in report.metrics}
    assert {
        *("ap/car/near", "calibration/ece", "light/accuracy", "light/red/as_red"),
        *("lanes/own/error", "lanes/own/recall", "flow/moving/error", "ego_motion/speed/error"),
    } <= names
    assert report.metric("light/accuracy").n == 2
    speed = report.metric("ego_motion/speed/error")
    assert speed.value == pytest.approx(abs(tiny_bundle.SPEED_MPS - 5.0), abs=1e-3)


def test_a_page_has_every_kind_and_pictures_and_keeps_what_is_outside_the_odd_apart(tmp_path):
    tiny_bundle.make(tmp_path / "bundle", rich=True)
    day = make_dataset(tmp_path / "day", frames=3, runs=True)
    fog = make_dataset(tmp_path / "fog", frames=3, runs=True, tags={"weather": "fog"})
    bundle, odd = tmp_path / "bundle", {"light": "day", "weather": "clear,rain"}
    tiny_bundle.make(bundle, rich=True, odd=odd)
    page = write_report(bundle, [day, fog], tmp_path / "page").read_text()
    assert "## All 2 frames inside the ODD" in page
    assert "| fog (outside the ODD) | 2 |" in page
    assert "| pedestrian | 2 |" in page
    assert "half look" in page
    for name in ("successes.png", "failures.png"):
        assert (tmp_path / "page" / name).read_bytes()[:4] == b"\x89PNG"
