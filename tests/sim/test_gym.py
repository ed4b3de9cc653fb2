"""The town behind the Gymnasium API, by Gymnasium's own checker."""

import warnings

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402

import sim.gym  # noqa: E402


@pytest.mark.parametrize("camera", [False, True])
def test_gymnasium_checker_has_nothing_to_say(camera: bool) -> None:
    env = gymnasium.make(sim.gym.ENV_ID, seconds=1.0, camera=camera)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    env.close()


def rewards(actions: list[tuple[float, float]], seed: int = 1) -> tuple[list[float], bool]:
    env = gymnasium.make(sim.gym.ENV_ID, seconds=20.0)
    env.reset(seed=seed)
    out, over = [], False
    for action in actions:
        _, reward, over, _, _ = env.step(np.array(action, np.float32))
        out.append(float(reward))
        if over:
            break
    return out, over


def test_same_seed_and_actions_give_the_same_rewards() -> None:
    actions = [(0.3, 0.0)] * 10
    assert rewards(actions) == rewards(actions)


def test_leaving_the_road_ends_the_episode_and_costs() -> None:
    out, over = rewards([(0.3, 0.6)] * 100)
    assert over
    assert out[-1] < -3.0


def test_standing_earns_less_than_driving() -> None:
    still, _ = rewards([(-1.0, 0.0)] * 20)
    moving, _ = rewards([(0.3, 0.0)] * 20)
    assert sum(still) < sum(moving)


def test_stepping_before_reset_is_refused() -> None:
    env = sim.gym.TownEnv()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(2))
