import torch
from training_parts import SMALL_NET

from training.model import NetR, count_mmac, count_parameters

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


def test_the_shipped_size_stays_inside_its_budget():
    net = NetR(("car", "pedestrian"))
    assert net.embedding_size == 64
    assert count_parameters(net) < 600_000
    assert count_mmac(net) < 900


def test_frames_of_a_batch_do_not_see_each_other():
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
        lifted = [net._lift(*net._see(*scaled(FRONT, s), 2)) for s in (SIDE, changed)]
    ahead = (lifted[0] - lifted[1])[:, :, 15:].abs()  # cells from 4 m ahead on
    behind = (lifted[0] - lifted[1])[:, :, :8].abs()
    assert ahead.max() < 1e-6
    assert behind.max() > 1e-4


def scaled(*images: torch.Tensor) -> list[torch.Tensor]:
    return [(i.flatten(0, 1).permute(0, 3, 1, 2).float() - 128) / 64 for i in images]
