from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from route_parts import RIG, obs_of, scene_of, tick_of

from vehicle import picture
from vehicle.config import RIG_R, VehicleConfig
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.plan import Trajectory
from vehicle.contracts.scene import BEV, FLOW_STEP_MPS, TRACK, Occupancy
from vehicle.contracts.tick import Tick
from vehicle.drawing import KIND_COLOURS, PLAN, WORDS
from vehicle.geometry import project
from vehicle.picture_bev import Ground, draw_flow
from vehicle.picture_camera import View, draw_path, draw_tracks

BLACK = {c.name: np.zeros((c.height_px, c.width_px, 3), np.uint8) for c in RIG_R.cameras}
FRONT = RIG_R.cameras[0]


def car_at(x_m: float, y_m: float) -> np.ndarray:
    rows = np.zeros(1, TRACK)
    rows["x_m"], rows["y_m"] = x_m, y_m
    rows["length_m"], rows["width_m"], rows["height_m"] = 4.5, 1.9, 1.5
    return rows


def straight() -> Tick:
    states = np.zeros((41, 7))
    states[:, 0] = np.arange(41) * 0.1
    states[:, 1] = states[:, 0] * 10.0
    tick = tick_of(0)
    assert tick.plan is not None
    return replace(tick, plan=replace(tick.plan, trajectory=Trajectory(states=states)))


def test_a_frame_of_the_whole_rig_is_drawn_twice_the_same() -> None:
    obs = replace(obs_of(0), frame=FrameSet(frame_id=0, mono_ns=0, images=BLACK))
    first = picture.draw(obs, straight(), RIG_R)
    assert first.dtype == np.uint8
    assert first.shape[2] == 3
    assert (first == picture.draw(obs, straight(), RIG_R)).all()


@pytest.mark.parametrize("case", ["no tick", "no cameras", "no ego", "no picture this time"])
def test_what_is_absent_is_left_out(case: str) -> None:
    obs, tick, rig = obs_of(1), tick_of(1), RIG
    if case == "no tick":
        assert picture.draw(obs, None, rig).any()
    elif case == "no cameras":
        assert picture.draw(obs_of(1, cameras=False), tick, None).any()
    elif case == "no ego":
        assert picture.draw(Observation(frame=obs.frame), replace(tick, plan=None), rig).any()
    else:
        assert picture.draw(obs_of(1, cameras=False), tick, rig).any()


def test_the_observation_is_not_painted_on() -> None:
    obs = obs_of(2)
    before = {name: image.copy() for name, image in obs.frame.images.items()}
    picture.draw(obs, tick_of(2), RIG)
    assert all((obs.frame.images[n] == before[n]).all() for n in before)


def test_a_box_stands_where_the_camera_projects_it() -> None:
    view = View(BLACK[FRONT.name], FRONT, FRONT.width_px * 2)
    draw_tracks(view, car_at(15.0, 3.0))
    ink = np.argwhere((view.image == KIND_COLOURS[0]).all(axis=2))
    centre, _ = project(FRONT, np.array([15.0, 3.0, 0.75]))
    assert ink.mean(axis=0)[::-1] == pytest.approx(centre * 2, abs=12.0)


def test_what_is_behind_the_camera_is_not_drawn() -> None:
    view = View(BLACK[FRONT.name], FRONT, FRONT.width_px)
    draw_tracks(view, car_at(-15.0, 0.0))
    assert not view.image.any()


def test_a_road_user_beside_the_lens_is_cut_and_not_flung_across() -> None:
    view = View(BLACK[FRONT.name], FRONT, FRONT.width_px)
    draw_tracks(view, car_at(2.5, 3.0))
    ink = np.argwhere(view.image.any(axis=2))
    assert len(ink) == 0 or ink[:, 1].max() < FRONT.width_px / 2


def test_the_path_lies_on_the_road_ahead() -> None:
    view = View(BLACK[FRONT.name], FRONT, FRONT.width_px * 2)
    tick = straight()
    assert tick.plan is not None
    draw_path(view, tick.plan, VehicleConfig().width_m)
    ink = np.argwhere(view.image.any(axis=2))
    assert ink[:, 0].min() > view.image.shape[0] * 0.35, "below the horizon"
    assert ink[:, 1].mean() == pytest.approx(FRONT.width_px, abs=2.0)


def test_left_is_left_and_forward_is_up_from_above() -> None:
    ground = Ground(800)
    ahead, left, here = ground.pixels(np.array([[30.0, 0.0], [0.0, 10.0], [0.0, 0.0]]))
    assert ahead[1] < here[1]
    assert left[0] < here[0]
    assert ground.image.shape == (800, 512, 3)


def test_traffic_of_a_log_is_drawn_where_nothing_perceived() -> None:
    obs = Observation(frame=FrameSet(frame_id=0, mono_ns=0), traffic=scene_of(0))
    plain = Observation(frame=FrameSet(frame_id=0, mono_ns=0))
    assert (picture.draw(obs, None, None) != picture.draw(plain, None, None)).any()


def test_the_file_is_a_png_of_the_drawing(tmp_path: Path) -> None:
    path = tmp_path / "frames" / "a.png"
    picture.save(path, obs_of(0), straight(), RIG)
    read = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    assert (read == picture.draw(obs_of(0), straight(), RIG)).all()
    assert (read == PLAN).all(axis=2).any()


def test_what_moves_on_occupied_ground_has_a_line_to_where_it_goes() -> None:
    full = np.zeros((BEV.nx, BEV.ny), np.uint8)
    full[60:64, 30:34] = 255
    flow = np.full((2, BEV.nx // 2, BEV.ny // 2), round(8.0 / FLOW_STEP_MPS), np.int8)
    drawn = {}
    for name, occupied in (("full", full), ("free", full * 0)):
        ground = Ground(400)
        layers = {"drivable": full * 0, "lane": full * 0, "occupied": occupied}
        draw_flow(ground, Occupancy(grid=BEV, flow=flow, **layers))
        drawn[name] = (ground.image == WORDS).all(axis=2)
    assert not drawn["free"].any()
    middle = Ground(400).pixels(np.array([[30.4, 2.0]]))[0]
    v, u = np.argwhere(drawn["full"]).mean(axis=0)
    assert np.hypot(u - middle[0], v - middle[1]) < 12.0


def test_the_light_that_rules_the_way_is_named() -> None:
    obs, tick = obs_of(1), tick_of(1)
    assert tick.scene is not None
    dark = replace(tick, scene=replace(tick.scene, signal=None))
    assert (picture.draw(obs, tick, RIG) != picture.draw(obs, dark, RIG)).any()
