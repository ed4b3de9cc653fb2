"""Frames become detections: decoding against a plain reference, the stage on a real network."""

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from vehicle import bundles
from vehicle.config import RIG_R
from vehicle.contracts.bundle import ModelBundle
from vehicle.contracts.ego import EgoState
from vehicle.contracts.frame import FrameSet
from vehicle.contracts.scene import BEV, BEV_BOX, FLOW_STEP_MPS, KINDS, TRACK
from vehicle.decode import MAX_BOXES, SEPARATION_M, Decoder, all_finite, to_levels, to_steps
from vehicle.engine import Engine, InferenceCancelledError
from vehicle.network_spec import check_network, half_order
from vehicle.perception import NetworkShapeError, NotFiniteError, Perception
from vehicle.preprocess import RigMismatchError

BASE_KINDS = ("car", "pedestrian")


def frame(level: int = 128) -> FrameSet:
    images = {c.name: np.full((c.height_px, c.width_px, 3), level, np.uint8) for c in RIG_R.cameras}
    return FrameSet(frame_id=1, mono_ns=0, images=images)


def reference_boxes(heat: np.ndarray, box: np.ndarray, least: float) -> list[tuple[float, ...]]:
    """Decode in the plainest way: (kind, x, y, yaw, length, width, score), best first."""
    found = []
    centres = BEV_BOX.centres()
    for k, x, y in np.ndindex(heat.shape):
        near = heat[k, max(0, x - 1) : x + 2, max(0, y - 1) : y + 2]
        if heat[k, x, y] >= np.float32(least) and heat[k, x, y] == near.max():
            cx, cy = centres[x, y] + box[:2, x, y]
            length, width = np.exp(np.clip(box[2:4, x, y], math.log(0.2), math.log(25.0)))
            yaw = math.atan2(box[4, x, y], box[5, x, y])
            found.append((k, cx, cy, yaw, length, width, heat[k, x, y]))
    found = sorted(found, key=lambda f: -f[6])[:MAX_BOXES]
    kept: list[tuple[float, ...]] = []
    for f in found:
        least_m = SEPARATION_M[BASE_KINDS[f[0]]]
        if all(f[0] != g[0] or math.dist(f[1:3], g[1:3]) >= least_m for g in kept):
            kept.append(f)
    return kept


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), least=st.sampled_from([0.05, 0.3, 0.9, 0.999]))
def test_decoding_equals_the_plain_reference(seed: int, least: float) -> None:
    rng = np.random.default_rng(seed)
    heat = rng.random((2, 50, 32), dtype=np.float32)
    box = rng.normal(0, 1, (6, 50, 32)).astype(np.float32)
    found = Decoder(BASE_KINDS, BEV_BOX, least).boxes(heat, box)
    wanted = reference_boxes(heat, box, least)
    assert len(found) == len(wanted)
    for row, (kind, x, y, yaw, length, width, score) in zip(found, wanted, strict=True):
        assert row["kind"] == kind
        assert row["score_prob"] == score
        got = [row[n] for n in ("x_m", "y_m", "yaw_rad", "length_m", "width_m")]
        assert got == pytest.approx([x, y, yaw, length, width], rel=1e-4, abs=1e-4)


def test_flat_heat_gives_one_box_and_cold_heat_none() -> None:
    decoder = Decoder(BASE_KINDS, BEV_BOX, 0.3)
    box = np.zeros((6, 50, 32), np.float32)
    heat = np.zeros((2, 50, 32), np.float32)
    assert decoder.boxes(heat, box).shape == (0,)
    heat[1, 10:20, 5:9] = 0.8
    assert len(decoder.boxes(heat, box)) == 1


def test_two_peaks_of_one_kind_at_one_place_are_one_road_user() -> None:
    heat, box = np.zeros((2, 50, 32), np.float32), np.zeros((6, 50, 32), np.float32)
    heat[0, 20, 10], heat[0, 22, 10], heat[1, 22, 10] = 0.8, 0.9, 0.7
    box[0, 20, 10], box[0, 22, 10] = 1.0, -1.0
    found = Decoder(BASE_KINDS, BEV_BOX, 0.3).boxes(heat, box)
    assert found["kind"].tolist() == [0, 1]
    assert found["score_prob"].tolist() == pytest.approx([0.9, 0.7])


def test_kinds_of_the_bundle_become_kinds_of_the_scene() -> None:
    heat, box = np.zeros((2, 50, 32), np.float32), np.zeros((6, 50, 32), np.float32)
    heat[0, 5, 5] = heat[1, 40, 5] = 0.9
    found = Decoder(("truck", "pedestrian"), BEV_BOX, 0.3).boxes(heat, box)
    assert {KINDS[k] for k in found["kind"]} == {"truck", "pedestrian"}
    assert sorted(found["height_m"].tolist()) == pytest.approx([1.75, 3.2])


def test_probabilities_become_levels_and_back() -> None:
    prob = np.linspace(-0.5, 1.5, 4001, dtype=np.float32).reshape(1, -1)
    levels = to_levels(prob)
    assert levels.dtype == np.uint8
    assert np.abs(levels / 255 - np.clip(prob, 0, 1)).max() <= 0.5 / 255 + 1e-6


def test_velocities_become_steps_and_back() -> None:
    flow_mps = np.linspace(-50.0, 50.0, 4001, dtype=np.float32).reshape(1, -1)
    steps = to_steps(flow_mps)
    assert steps.dtype == np.int8
    back = steps * FLOW_STEP_MPS
    inside = np.abs(flow_mps) < 31.5
    assert np.abs(back - flow_mps)[inside].max() <= FLOW_STEP_MPS / 2 + 1e-5
    assert (back.min(), back.max()) == (-31.75, 31.75)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_is_noticed(bad: float) -> None:
    values = np.random.default_rng(0).normal(0, 1e30, (3, 100)).astype(np.float32)
    assert all_finite(values)
    values[2, 57] = bad
    assert not all_finite(values)


def test_perceives_the_road_users_of_the_network(tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path)
    perception = Perception(tmp_path, RIG_R)
    seen = perception.perceive(frame())
    perception.close()
    car, pedestrian = seen.tracks
    assert seen.tracks.dtype == TRACK
    assert (KINDS[car["kind"]], KINDS[pedestrian["kind"]]) == BASE_KINDS
    assert (car["x_m"], car["y_m"]) == pytest.approx(
        (tiny_bundle.CAR_X_M, tiny_bundle.CAR_Y_M), abs=1e-4
    )
    assert car["yaw_rad"] == pytest.approx(tiny_bundle.CAR_YAW_RAD, abs=1e-5)
    assert (car["length_m"], car["width_m"]) == pytest.approx((4.5, 1.9), abs=1e-4)
    assert (seen.tracks["track_id"] == 0).all()
    assert seen.occupancy.grid == BEV
    assert (seen.occupancy.drivable == 191).all()
    assert seen.occupancy.occupied[51, 22] == 255
    assert seen.embedding.shape == (64,)
    assert seen.uncertainty_ratio == pytest.approx(128 / 255, abs=1e-3)
    assert list(perception.stage_us) == ["preprocess", "inference", "decode"]


def test_what_was_perceived_outlives_the_next_frame(tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path)
    perception = Perception(tmp_path, RIG_R)
    first = perception.perceive(frame(128))
    embedding, drivable = first.embedding.copy(), first.occupancy.drivable.copy()
    perception.perceive(frame(0))
    perception.close()
    assert np.array_equal(first.embedding, embedding)
    assert np.array_equal(first.occupancy.drivable, drivable)


def test_late_frame_is_cancelled_and_the_next_is_perceived(tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path)
    perception = Perception(tmp_path, RIG_R)
    with pytest.raises(InferenceCancelledError):
        perception.perceive(frame(), time.monotonic_ns())
    assert "decode" not in perception.stage_us
    assert len(perception.perceive(frame()).tracks) == 2
    perception.close()


def test_wrong_rig_is_refused(tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path)
    other = type(RIG_R)(name="other", cameras=RIG_R.cameras[::-1])
    with pytest.raises(RigMismatchError, match="another order"):
        Perception(tmp_path, other)


def test_network_that_answers_nan_does_not_drive(tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path)
    manifest = bundles.load(tmp_path)
    fields = {n: getattr(manifest, n) for n in manifest.__slots__ if n != "files"}
    files = {n: tmp_path / n for n in (bundles.WEIGHTS, bundles.GOLDEN)} | {
        bundles.MODEL: tiny_bundle.network(nan=True)
    }
    bundles.write(tmp_path, files, **fields)
    with pytest.raises(NetworkShapeError, match="not finite"):
        Perception(tmp_path, RIG_R)


@pytest.mark.parametrize("kinds", [("car",), ("car", "ufo")])
def test_network_that_does_not_fit_its_manifest_is_refused(
    kinds: tuple[str, ...], tmp_path: Path
) -> None:
    tiny_bundle.make(tmp_path, kinds=kinds)
    with pytest.raises(NetworkShapeError, match=r"heat|ufo"):
        Perception(tmp_path, RIG_R)


def rich(folder: Path) -> Perception:
    tiny_bundle.make(folder, rich=True)
    return Perception(folder, RIG_R)


def later(tick: int, level: int = 128) -> FrameSet:
    return replace(frame(level), mono_ns=tick * 100_000_000)


def ego(x_m: float = 0.0, speed_mps: float = 5.0) -> EgoState:
    return EgoState(mono_ns=0, x_m=x_m, y_m=0.0, yaw_rad=0.0, speed_mps=speed_mps)


def test_a_bundle_of_before_is_seen_with_as_before(tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path)
    perception = Perception(tmp_path, RIG_R)
    seen = perception.perceive(frame(), half=1, ego=ego())
    perception.close()
    assert not perception.can_half
    assert (seen.has_velocity, seen.lanes, seen.signal, seen.half) == (False, (), None, None)
    assert not seen.tracks["vx_mps"].any()


def test_velocity_is_told_once_there_is_a_frame_to_compare_with(tmp_path: Path) -> None:
    perception = rich(tmp_path)
    first = perception.perceive(later(0), ego=ego())
    second = perception.perceive(later(1), ego=ego())
    lost = perception.perceive(later(2))
    perception.close()
    assert [d.has_velocity for d in (first, second, lost)] == [False, True, False]
    assert not first.tracks["vx_mps"].any()
    car, pedestrian = second.tracks
    assert car["vx_mps"] == pytest.approx(tiny_bundle.CAR_VX_MPS)
    assert car["vy_mps"] == pytest.approx(tiny_bundle.CAR_VY_MPS)
    assert pedestrian["vx_mps"] == 0.0


def test_the_network_reads_what_it_kept_moved_with_the_car(tmp_path: Path) -> None:
    perception = rich(tmp_path)
    perception.perceive(later(0), ego=ego())
    seen = perception.perceive(later(1), ego=ego(x_m=BEV_BOX.cell_m))
    perception.close()
    assert seen.occupancy.flow is not None
    flow_mps = seen.occupancy.flow[:, :-1] * FLOW_STEP_MPS
    assert flow_mps == pytest.approx(tiny_bundle.KEPT[0, :2, 1:], abs=FLOW_STEP_MPS / 2 + 1e-4)


def test_lanes_and_light_become_part_of_the_scene(tmp_path: Path) -> None:
    perception = rich(tmp_path)
    seen = perception.perceive(frame(), ego=ego())
    perception.close()
    assert [line.kind for line in seen.lanes] == ["boundary", "boundary"]
    left, right = (line.points_m for line in seen.lanes)
    assert left.shape == (BEV_BOX.nx, 2)
    assert left[:, 1] == pytest.approx(1.75)
    assert right[:, 1] == pytest.approx(-1.75)
    assert (left[0, 0], left[-1, 0]) == pytest.approx((-19.2, 59.2))
    assert seen.signal is not None
    assert (seen.signal.state, seen.signal.distance_m) == ("red", tiny_bundle.STOP_M)


def test_pictures_that_move_otherwise_than_odometry_are_named(tmp_path: Path) -> None:
    perception = rich(tmp_path)
    seen = [perception.perceive(later(k), ego=ego(speed_mps=9.0)) for k in range(30)]
    perception.close()
    assert seen[0].doubt == ""
    assert "-4.0 m/s" in seen[-1].doubt


def test_half_a_look_keeps_what_the_other_cameras_saw(tmp_path: Path) -> None:
    perception = rich(tmp_path)
    perception.perceive(later(0, level=100), ego=ego())
    seen = perception.perceive(later(1, level=200), half=1, ego=ego())
    rows = perception._rows
    perception.close()
    assert seen.half == 1
    assert rows is not None
    ahead, around = 16 * 32, 12 * 24
    by_camera = np.split(rows[0, :, 0], np.cumsum([ahead] * 2 + [around] * 5))
    assert [float(r.mean()) for r in by_camera] == [100.0, 200.0] * 4


def test_two_half_looks_see_all_around(tmp_path: Path) -> None:
    perception = rich(tmp_path)
    for tick, half in ((0, None), (1, 0), (2, 1)):
        perception.perceive(later(tick, level=50 * (tick + 1)), half=half, ego=ego())
    rows = perception._rows
    perception.close()
    assert rows is not None
    assert set(np.unique(rows)) == {100.0, 150.0}


def test_half_a_look_after_a_gap_is_a_whole_one(tmp_path: Path) -> None:
    perception = rich(tmp_path)
    assert perception.perceive(later(0), half=0, ego=ego()).half is None
    assert perception.perceive(later(1), half=0, ego=ego()).half == 0
    assert perception.perceive(later(9), half=1, ego=ego()).half is None
    perception.close()


def test_the_same_frames_give_the_same_answers_whatever_came_before(tmp_path: Path) -> None:
    perception = rich(tmp_path)
    runs = []
    for _ in range(2):
        perception.forget()
        seen = [
            perception.perceive(later(k), half=(None, 0, 1)[k % 3], ego=ego(0.5 * k))
            for k in range(6)
        ]
        runs.append(seen)
    perception.close()
    for a, b in zip(*runs, strict=True):
        assert np.array_equal(a.tracks, b.tracks)
        assert np.array_equal(a.occupancy.flow, b.occupancy.flow)  # type: ignore[arg-type]
        assert (a.signal, a.half, a.doubt) == (b.signal, b.half, b.doubt)


def test_memory_that_is_not_finite_is_refused_and_forgotten(tmp_path: Path) -> None:
    perception = rich(tmp_path)
    perception.perceive(later(0), ego=ego())
    outputs = perception._engine._runtime.outputs
    kept = [side["memory_out"].copy() for side in outputs]

    class Spoils:
        def run(self, inputs: object, deadline: object) -> dict[str, np.ndarray]:
            spoilt = dict(outputs[0])
            spoilt["memory_out"] = np.full_like(kept[0], np.nan)
            return spoilt

        def close(self) -> None: ...

    real, perception._engine = perception._engine, Spoils()  # type: ignore[assignment]
    with pytest.raises(NotFiniteError, match="memory_out"):
        perception.perceive(later(1), ego=ego())
    perception._engine = real
    assert not perception.perceive(later(2), ego=ego()).has_velocity
    perception.close()


@pytest.mark.parametrize("lacks", ["memory", "memory_out"])
def test_a_memory_that_is_only_read_or_only_written_is_refused(lacks: str, tmp_path: Path) -> None:
    tiny_bundle.make(tmp_path, rich=True)
    manifest = bundles.load(tmp_path)

    class Partly:
        def __init__(self, engine: Engine) -> None:
            self.inputs = tuple(s for s in engine.inputs if s.name != lacks)
            self.outputs = tuple(s for s in engine.outputs if s.name != lacks)

    with Engine(tmp_path / bundles.MODEL) as engine:
        check_network(manifest, engine)
        with pytest.raises(NetworkShapeError, match="memory"):
            check_network(manifest, Partly(engine))  # type: ignore[arg-type]


def test_rows_are_taken_in_the_order_the_network_was_exported_for() -> None:
    deploy = pytest.importorskip("training.deploy")
    bundle = ModelBundle.__new__(ModelBundle)
    object.__setattr__(bundle, "rig", RIG_R)
    for odd in range(2):
        assert np.array_equal(half_order(bundle, 2752, odd), deploy.half_order(bool(odd)))
