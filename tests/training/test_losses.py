import numpy as np
import torch
from training_parts import CAR, PEDESTRIAN, TRUCK, box

from training.losses import (
    IGNORED,
    LossWeights,
    dense_target,
    heat_and_boxes,
    heat_loss,
    losses,
)
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
    heat, target = heat_and_boxes(np.array([box(CAR, 12.5, -3.3)]), KINDS)
    bits = np.zeros((100, 64), np.uint8)
    bits[40:60, 20:40] = BEV_LANE | BEV_OCCUPIED
    batch = {
        "heat": torch.from_numpy(heat[None]),
        "box": torch.from_numpy(target[None]),
        "dense": torch.from_numpy(dense_target(bits[None])),
    }
    right = {
        "heat": torch.from_numpy(np.where(heat == 1, 8.0, -8.0).astype(np.float32)[None]),
        "box": batch["box"][:, :6],
        "dense": batch["dense"] * 16 - 8,
    }
    wrong = {k: -v for k, v in right.items()}
    good, bad = (losses(out, batch, LossWeights()) for out in (right, wrong))
    for part in ("heat", "box", "dense", "total"):
        assert good[part] < bad[part]
    assert good["total"] < 0.01
