import numpy as np
import torch
from training_parts import CAR, PEDESTRIAN, TRUCK, box

from training.heads import lane_points
from training.losses import LossWeights, heat_loss, lane_loss, light_loss, losses
from training.targets import IGNORED, dense_target, heat_and_boxes, lane_target, motion_target
from vehicle.contracts.scene import BEV_BOX, BEV_LANE, BEV_OCCUPIED

KINDS = ("car", "pedestrian")


def cell(x_m: float, y_m: float) -> tuple[int, int]:
    return (
        int((x_m - BEV_BOX.x_min_m) // BEV_BOX.cell_m),
        int((y_m - BEV_BOX.y_min_m) // BEV_BOX.cell_m),
    )


def test_a_box_becomes_a_peak_and_its_six_numbers():
    heat, target = heat_and_boxes(np.array([box(CAR, 12.5, -3.3, yaw_rad=0.4)]), KINDS)
    ix, iy = cell(12.5, -3.3)
    assert heat[0, ix, iy] == 1.0
    assert heat[0].max() == 1.0
    assert 0 < heat[0, ix + 1, iy] < 1
    assert heat[1].max() == 0.0
    centre = BEV_BOX.centres()[ix, iy]
    assert np.allclose(centre + target[:2, ix, iy], [12.5, -3.3], atol=1e-5)
    assert np.allclose(np.exp(target[2:4, ix, iy]), [4.5, 1.9], atol=1e-5)
    assert np.isclose(np.arctan2(target[4, ix, iy], target[5, ix, iy]), 0.4)
    assert target[6].sum() == 1.0


def test_a_box_too_small_to_see_is_neither_wanted_nor_punished():
    heat, target = heat_and_boxes(np.array([box(PEDESTRIAN, 30.0, 0.0, px=5)]), KINDS)
    ix, iy = cell(30.0, 0.0)
    assert heat[1, ix, iy] == IGNORED
    assert heat[0].max() == heat[0].min() == 0.0
    assert target[6].sum() == 0.0


def test_a_kind_the_bundle_does_not_name_is_ignored_in_every_channel():
    heat, _ = heat_and_boxes(np.array([box(TRUCK, 30.0, 0.0)]), KINDS)
    ix, iy = cell(30.0, 0.0)
    assert (heat[:, ix, iy] == IGNORED).all()


def test_ignoring_never_hides_a_visible_neighbour():
    rows = np.array([box(CAR, 30.1, 0.1), box(CAR, 31.9, 0.1, px=2)])
    heat, _ = heat_and_boxes(rows, KINDS)
    assert heat[0][cell(30.1, 0.1)] == 1.0


def test_a_box_outside_the_raster_asks_for_nothing():
    heat, target = heat_and_boxes(np.array([box(CAR, 200.0, 0.0), box(CAR, 0.0, -25.7)]), KINDS)
    assert heat.max() == 0.0
    assert target.max() == 0.0


def test_ignored_cells_have_no_gradient():
    target = torch.zeros(1, 2, 50, 32)
    target[0, 0, 10, 10], target[0, 0, 20, 20] = 1.0, IGNORED
    logit = torch.zeros(1, 2, 50, 32, requires_grad=True)
    heat_loss(logit, target).backward()
    assert logit.grad[0, 0, 20, 20] == 0
    assert logit.grad[0, 0, 10, 10] < 0 < logit.grad[0, 0, 30, 30]


def test_the_right_answer_costs_less_than_a_wrong_one():
    boxes = np.array([[*box(CAR, 12.5, -3.3)[:9], 4.0, -1.0]])
    heat, target = heat_and_boxes(boxes, KINDS)
    bits = np.zeros((100, 64), np.uint8)
    bits[40:60, 20:40] = BEV_LANE | BEV_OCCUPIED
    velocity, flow = motion_target(boxes, bits)
    lanes = np.full((4, 50), np.nan, np.float32)
    lanes[1], lanes[2] = 1.6, -2.0
    batch = {
        "heat": torch.from_numpy(heat[None]),
        "box": torch.from_numpy(target[None]),
        "dense": torch.from_numpy(dense_target(bits[None])),
        "velocity": torch.from_numpy(velocity[None]),
        "flow": torch.from_numpy(flow[None]),
        "lanes": torch.from_numpy(lane_target(lanes, True)[None]),
        "light": torch.tensor([[1.0, 30.0]]),
        "ego_motion": torch.tensor([[0.8, 0.1, 1.0]]),
    }
    columns = np.full((1, 4, 50, 64), -16.0, np.float32)
    columns[:, 1, :, 33:35], columns[:, 2, :, 29] = 16.0, 16.0  # 1.6 m lies between two
    right = {
        "heat": torch.from_numpy(np.where(heat == 1, 8.0, -8.0).astype(np.float32)[None]),
        "box": batch["box"][:, :6],
        "dense": batch["dense"] * 16 - 8,
        "velocity": batch["velocity"][:, :2],
        "flow": batch["flow"][:, :2],
        "lanes": torch.from_numpy(columns),
        "light": torch.tensor([[-8.0, 8.0, -8.0, -8.0, 0.0]]),
        "ego_motion": batch["ego_motion"][:, :2],
    }
    wrong = {k: -v for k, v in right.items()}
    good, bad = (losses(out, batch, LossWeights()) for out in (right, wrong))
    for part in ("heat", "box", "dense", "velocity", "flow", "lanes", "light", "ego_motion"):
        assert good[part] < bad[part], part
    assert all(good[part] < 0.01 for part in good if part not in ("lanes", "total"))
    assert good["lanes"] < 0.5


def test_what_nobody_labelled_is_asked_of_nobody():
    boxes = np.array([[*box(CAR, 12.5, -3.3)[:9], np.nan, np.nan]])
    velocity, flow = motion_target(boxes, np.zeros((100, 64), np.uint8))
    assert velocity[2].sum() == flow[2].sum() == 0
    lanes = lane_target(np.full((4, 50), np.nan, np.float32), False)
    logit = torch.zeros(1, 4, 50, 64, requires_grad=True)
    lane_loss(logit, torch.from_numpy(lanes[None])).backward()
    assert logit.grad.abs().max() == 0
    said = torch.zeros(1, 5, requires_grad=True)
    light_loss(said, torch.tensor([[-1.0, -1.0]])).backward()
    assert said.grad.abs().max() == 0


def test_flow_is_where_a_body_is_and_houses_stand_still():
    bits = np.zeros((100, 64), np.uint8)
    bits[80:84, 4:8] = BEV_OCCUPIED
    row = [*box(CAR, 12.5, -3.3)[:9], 4.0, -1.0]
    velocity, flow = motion_target(np.array([row]), bits)
    centre = cell(12.5, -3.3)
    assert np.allclose(velocity[:, *centre], [0.4, -0.1, 1.0])
    assert np.allclose(flow[:, *cell(14.0, -3.3)], [0.4, -0.1, 1.0])
    assert flow[2, 40:42, 2:4].all()
    assert not flow[:2, 40:42, 2:4].any()
    assert velocity[2].sum() == 1


def test_a_lane_point_is_the_soft_middle_of_its_columns():
    logit = torch.full((1, 4, 50, 64), -12.0)
    logit[0, 1, 5, 33] = logit[0, 1, 5, 34] = 3.0
    y_m, prob = lane_points(logit)
    assert abs(float(y_m[0, 1, 5]) - 1.6) < 0.01
    assert float(prob[0, 1, 5]) > 0.9
    assert float(prob[0, 1, 6]) < 0.1
