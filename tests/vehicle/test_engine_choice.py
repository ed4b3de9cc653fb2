"""What runs the network is measured at the start, and must give the golden answers."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle

from vehicle import bundles, engine_choice
from vehicle.config import RIG_R
from vehicle.contracts.frame import FrameSet
from vehicle.engine import ModelFileError
from vehicle.engine_choice import EngineChoice, choose
from vehicle.perception import Perception


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_bundle.make(tmp_path)
    return tmp_path


def golden(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / bundles.GOLDEN) as archive:
        return dict(archive)


def pick(folder: Path, **changed: object) -> EngineChoice:
    allowed = bundles.load(folder).golden
    return choose(folder / bundles.MODEL, golden(folder), allowed, budget_s=0.02, **changed)  # type: ignore[arg-type]


def test_without_openvino_the_default_drives_and_the_log_says_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    choice = pick(folder)
    assert (choice.runtime, choice.threads) == ("onnxruntime", 1)
    assert choice.refused == {"openvino x1": "not installed"}
    assert choice.measured_ms["onnxruntime x1"] > 0.0
    assert choice.metadata()["engine"] == "onnxruntime x1"
    assert "onnxruntime x1 (onnxruntime x1 " in choice.words
    assert "openvino x1: not installed" in choice.metadata()["engine_measured"]


def test_two_threads_are_only_tried_where_nothing_else_runs(folder: Path) -> None:
    beside, alone = pick(folder), pick(folder, alone=True)
    assert {name for name in beside.measured_ms if name.endswith("x2")} == set()
    assert "onnxruntime x2" in alone.measured_ms


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ({"onnxruntime x1": 4.0, "openvino x1": 2.5}, ("openvino", 1)),
        ({"onnxruntime x1": 4.0, "openvino x1": 3.8}, ("onnxruntime", 1)),
        ({"onnxruntime x1": 4.0, "onnxruntime x2": 2.0, "openvino x1": 5.0}, ("onnxruntime", 2)),
    ],
)
def test_only_what_is_clearly_faster_replaces_the_default(
    measured: dict[str, float],
    expected: tuple[str, int],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("openvino", reason="the extra [openvino] is not installed")
    monkeypatch.setattr(engine_choice, "_measure", lambda *_: measured)
    choice = pick(folder, alone="onnxruntime x2" in measured)
    assert (choice.runtime, choice.threads) == expected
    assert choice.measured_ms == measured


def test_a_runtime_with_other_answers_is_refused_however_fast(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="the extra [openvino] is not installed")
    from vehicle.engine_openvino import OpenVino

    right = OpenVino.infer

    def wrong(self: OpenVino, side: int) -> None:
        right(self, side)
        self.outputs[side]["heat"] += 0.5

    monkeypatch.setattr(OpenVino, "infer", wrong)
    choice = pick(folder)
    assert choice.runtime == "onnxruntime"
    assert "output 'heat' differs by 0.5" in choice.refused["openvino x1"]


def test_a_network_that_the_default_cannot_open_is_refused(folder: Path) -> None:
    vectors, allowed = golden(folder), bundles.load(folder).golden
    (folder / bundles.MODEL).write_bytes(b"not a network")
    with pytest.raises(ModelFileError):
        choose(folder / bundles.MODEL, vectors, allowed)


def test_perception_sees_the_same_through_the_chosen_runtime(folder: Path) -> None:
    pytest.importorskip("openvino", reason="the extra [openvino] is not installed")
    images = {c.name: np.full((c.height_px, c.width_px, 3), 90, np.uint8) for c in RIG_R.cameras}
    frame = FrameSet(frame_id=0, mono_ns=0, images=images)
    found = []
    for engine in (None, EngineChoice(runtime="openvino")):
        perception = Perception(folder, RIG_R, engine=engine)
        found.append(perception.perceive(frame).tracks)
        perception.close()
    assert np.allclose(found[0]["x_m"], found[1]["x_m"], atol=1e-3)
