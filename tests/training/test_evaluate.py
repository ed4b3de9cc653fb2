import numpy as np
import pytest
import tiny_bundle
from training_parts import CAR, TRUCK, box, make_dataset

from training.decode import detections, peaks
from training.evaluate import BundleUnreadableError, evaluate
from training.judge import match
from training.metrics import Matches, wilson
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
    m = matched([(0, 0, 0.29)], [(0, 0)])
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
