import pytest
import torch
from training_parts import SMALL_NET

from training.model import NetR, count_mmac, count_parameters, scaled
from training.warp import warp

FRONT = torch.full((2, 2, 128, 256, 3), 90, dtype=torch.uint8)
SIDE = torch.full((2, 6, 96, 192, 3), 90, dtype=torch.uint8)


def test_outputs_have_the_shapes_every_other_part_expects():
    net = NetR(("car", "pedestrian"), SMALL_NET).eval()
    with torch.no_grad():
        out = net(FRONT, SIDE)
    assert out["heat"].shape == (2, 2, 50, 32)
    assert out["box"].shape == (2, 6, 50, 32)
    assert out["dense"].shape == (2, 3, 100, 64)
    assert out["embedding"].shape == (2, 16)
    assert out["velocity"].shape == out["flow"].shape == (2, 2, 50, 32)
    assert out["lanes"].shape == (2, 4, 50, 64)
    assert out["light"].shape == (2, 5)
    assert out["ego_motion"].shape == (2, 2)
    assert out["memory_out"].shape == (2, 4, 50, 32)


def test_the_shipped_size_stays_inside_its_budget():
    net = NetR(("car", "pedestrian"))
    assert net.embedding_size == 64
    assert count_parameters(net) < 800_000
    assert count_mmac(net) < 930


def test_frames_of_a_batch_do_not_see_each_other():
    torch.manual_seed(4)
    net = NetR(("car", "pedestrian"), SMALL_NET).eval()
    other = FRONT.clone()
    other[1] = 200
    with torch.no_grad():
        alone, beside = net(FRONT, SIDE), net(other, SIDE)
    assert torch.allclose(alone["heat"][0], beside["heat"][0], atol=1e-6)
    assert not torch.allclose(alone["heat"][1], beside["heat"][1], atol=1e-6)


def test_what_one_camera_sees_changes_only_what_lies_before_it():
    torch.manual_seed(0)
    net = NetR(("car", "pedestrian"), SMALL_NET).eval()
    changed = SIDE.clone()
    changed[:, 4:] = 200  # the two rear cameras
    with torch.no_grad():
        lifted = [net.lift(*net.rows(*scaled(FRONT, s), 2)) for s in (SIDE, changed)]
    ahead = (lifted[0] - lifted[1])[:, :, 15:].abs()  # cells from 4 m ahead on
    behind = (lifted[0] - lifted[1])[:, :, :8].abs()
    assert ahead.max() < 1e-6
    assert behind.max() > 1e-4


def test_memory_reaches_only_the_frames_that_have_one():
    torch.manual_seed(0)
    net = NetR(("car", "pedestrian"), SMALL_NET).eval()
    torch.nn.init.normal_(net.encoder.recall.weight)
    before = (torch.tensor([1]), FRONT[:1], SIDE[:1], torch.tensor([[1.0, 0.0, 0.0]]))
    with torch.no_grad():
        without, told = net(FRONT, SIDE), net(FRONT, SIDE, before)
    assert torch.allclose(without["heat"][0], told["heat"][0], atol=1e-6)
    assert not torch.allclose(without["heat"][1], told["heat"][1], atol=1e-4)


def test_what_is_kept_learns_and_the_frame_before_does_not_cost_a_backward_pass():
    net = NetR(("car", "pedestrian"), SMALL_NET)
    torch.nn.init.normal_(net.encoder.recall.weight)
    before = (torch.tensor([0]), FRONT[:1], SIDE[:1], torch.zeros(1, 3))
    net(FRONT[:1], SIDE[:1], before)["heat"].sum().backward()
    assert net.keep.weight.grad.abs().sum() > 0


def test_a_memory_is_moved_the_other_way_than_the_car():
    memory = torch.zeros(1, 1, 50, 32)
    memory[0, 0, 30, 16] = 1.0  # 28.8 m ahead, 0.8 m left
    ahead = warp(memory, torch.tensor([[3.2, 0.0, 0.0]]))  # drove on by two cells
    assert torch.allclose(ahead[0, 0, 28, 16], torch.tensor(1.0), atol=1e-5)
    assert ahead.sum() == pytest.approx(1.0, abs=1e-4)
    left = warp(memory, torch.tensor([[0.0, 1.6, 0.0]]))
    assert left[0, 0, 30, 15] == pytest.approx(1.0, abs=1e-5)
    turned = warp(memory, torch.tensor([[0.0, 0.0, 0.3]]))  # to the left: things move right
    assert turned[0, 0].argmax() % 32 < 16


def test_what_was_not_covered_before_is_zero_after_the_move():
    ones = torch.ones(1, 1, 50, 32)
    moved = warp(ones, torch.tensor([[1.6, 0.0, 0.0]]))
    assert moved[0, 0, -1].abs().max() < 1e-5
    assert moved[0, 0, :-1, 1:-1].min() > 0.999
