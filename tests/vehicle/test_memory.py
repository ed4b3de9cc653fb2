"""What the network kept of earlier frames comes back moved to where the car is now."""

import math

import numpy as np
import pytest

from vehicle.contracts.ego import EgoState
from vehicle.contracts.scene import BEV_BOX
from vehicle.memory import GAP_S, SLOTS, Memory

TICK_NS = 28_000_000
CHANNELS = 3


def at(x_m: float = 0.0, y_m: float = 0.0, yaw_rad: float = 0.0) -> EgoState:
    return EgoState(mono_ns=0, x_m=x_m, y_m=y_m, yaw_rad=yaw_rad, speed_mps=5.0)


def noise(seed: int = 0) -> np.ndarray:
    shape = (1, CHANNELS, BEV_BOX.nx, BEV_BOX.ny)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def memory() -> Memory:
    return Memory(CHANNELS, BEV_BOX, 0.1)


def test_a_map_is_sampled_where_torch_samples_it() -> None:
    torch = pytest.importorskip("torch")
    from training.warp import warp as warp_of_training

    rng = np.random.default_rng(1)
    for _ in range(10):
        then, kept = at(*rng.uniform(-900, 900, 2), rng.uniform(-3, 3)), noise()
        now = at(then.x_m + rng.normal(0, 2), then.y_m + rng.normal(0, 2), then.yaw_rad + 0.1)
        made = memory()
        made.keep(kept, then, 0)
        c, s = math.cos(then.yaw_rad), math.sin(then.yaw_rad)
        dx, dy = now.x_m - then.x_m, now.y_m - then.y_m
        moved = [c * dx + s * dy, -s * dx + c * dy, now.yaw_rad - then.yaw_rad]
        wanted = warp_of_training(torch.from_numpy(kept), torch.tensor([moved])).numpy()
        assert np.abs(made.recall(now, 100_000_000) - wanted).max() < 1e-3


def test_a_car_that_stands_sees_its_map_again_bit_for_bit() -> None:
    made = memory()
    made.keep(noise(), at(1.0, 2.0, 0.5), 0)
    assert np.array_equal(made.recall(at(1.0, 2.0, 0.5), 100_000_000), noise())


def test_a_car_one_cell_further_sees_its_map_one_cell_back() -> None:
    made = memory()
    made.keep(noise(), at(), 0)
    seen = made.recall(at(x_m=BEV_BOX.cell_m), 100_000_000)
    assert seen[:, :, :-1] == pytest.approx(noise()[:, :, 1:], abs=1e-5)
    assert (seen[:, :, -1] == 0.0).all()


def test_at_36_hertz_the_map_of_a_tenth_of_a_second_ago_is_read() -> None:
    made = memory()
    for tick in range(9):
        seen = made.recall(at(), tick * TICK_NS).copy()
        made.keep(noise(tick), at(), tick * TICK_NS)
    assert np.array_equal(seen, noise(8 - 4))


def test_a_map_of_another_age_than_the_trained_one_is_not_read() -> None:
    for age_s in (0.028, 0.06, 0.2, 0.4):
        made = memory()
        made.keep(noise(), at(), 0)
        assert (made.recall(at(), round(age_s * 1e9)) == 0.0).all()
        assert not made.used


def test_without_odometry_everything_is_forgotten() -> None:
    made = memory()
    made.keep(noise(), at(), 0)
    made.recall(None, 50_000_000)
    assert (made.recall(at(), 100_000_000) == 0.0).all()


@pytest.mark.parametrize(
    ("now", "passed_s"), [(at(), GAP_S + 0.05), (at(x_m=40.0), 0.1), (at(), -0.1)]
)
def test_a_gap_a_jump_and_a_clock_set_back_forget_everything(
    now: EgoState, passed_s: float
) -> None:
    made = memory()
    made.keep(noise(), at(), 10**9)
    made.recall(now, 10**9 + round(passed_s * 1e9))
    made.keep(noise(1), now, 10**9 + round(passed_s * 1e9))
    seen = made.recall(now, 10**9 + round((passed_s + 0.1) * 1e9))
    assert np.array_equal(seen, noise(1))
    assert sum(t is not None for t in made._made_ns) == 1


def test_old_maps_are_written_over() -> None:
    made = memory()
    for tick in range(3 * SLOTS):
        assert made.keep(noise(tick), at(), tick * 100_000_000)
    assert np.array_equal(made.recall(at(), 3 * SLOTS * 100_000_000), noise(3 * SLOTS - 1))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_map_that_is_not_finite_is_not_kept(bad: float) -> None:
    made, spoilt = memory(), noise()
    spoilt[0, 1, 20, 20] = bad
    assert not made.keep(spoilt, at(), 0)
    assert (made.recall(at(), 100_000_000) == 0.0).all()
