"""Looking twice: the answer no longer depends on which side of the road things are."""

import numpy as np
import onnx
import pytest

from training.batches import mirror_order
from training.deploy import session
from training.mirror import looked_twice
from vehicle.bundles import base_folder
from vehicle.config import RIG_R
from vehicle.preprocess import FRONT_CAMERAS

SIGNS = {
    "box": (1, -1, 1, 1, -1, 1, 1, -1),
    "flow": (1, -1),
    "ego_motion": (1, -1),
}


@pytest.fixture(scope="module")
def once():
    return onnx.load(base_folder() / "model.onnx")


@pytest.fixture(scope="module")
def twice(once):
    return session(looked_twice(once).SerializeToString())


def frame(channels: int) -> dict[str, np.ndarray]:
    with np.load(base_folder() / "golden.npz") as golden:
        inputs = {k: golden[f"in_{k}"] for k in ("front", "side")}
    rng = np.random.default_rng(4)
    memory = rng.normal(size=(1, channels, 50, 32)).astype(np.float32)
    return {**inputs, "memory": memory}


def in_a_mirror(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    cameras, channels = RIG_R.cameras, inputs["memory"].shape[1] // 2
    own, other = inputs["memory"][:, :channels], inputs["memory"][:, channels:]
    memory = np.concatenate([other, own], axis=1)[..., ::-1]
    front = inputs["front"][mirror_order(cameras[:FRONT_CAMERAS]), :, ::-1]
    side = inputs["side"][mirror_order(cameras[FRONT_CAMERAS:]), :, ::-1]
    return {
        k: np.ascontiguousarray(v)
        for k, v in {"front": front, "side": side, "memory": memory}.items()
    }


def turned_back(name: str, value: np.ndarray) -> np.ndarray:
    if name == "lanes":
        return value[:, ::-1] * (-1, 1)
    if name in ("heat", "box", "dense", "flow"):
        value = value[..., ::-1]
    if name in SIGNS:
        value = value * np.reshape(SIGNS[name], (1, -1, *[1] * (value.ndim - 2)))
    return value


def test_a_world_in_a_mirror_is_answered_in_a_mirror(twice):
    names = ["heat", "box", "dense", "lanes", "light", "flow", "ego_motion"]
    inputs = frame(64)
    plain = dict(zip(names, twice.run(names, inputs), strict=True))
    mirrored = dict(zip(names, twice.run(names, in_a_mirror(inputs)), strict=True))
    for name in names:
        assert np.allclose(plain[name], turned_back(name, mirrored[name]), atol=1e-4), name


def test_what_is_no_mean_stays_what_it_was(once, twice):
    alone, inputs = session(once.SerializeToString()), frame(64)
    names = ["embedding", "uncertainty"]
    wanted = alone.run(names, {**inputs, "memory": inputs["memory"][:, :32]})
    assert all(np.array_equal(a, b) for a, b in zip(twice.run(names, inputs), wanted, strict=True))


def test_each_look_keeps_a_memory_of_its_own(once, twice):
    alone, inputs = session(once.SerializeToString()), frame(64)
    (kept,) = twice.run(["memory_out"], inputs)
    plain, mirrored = (
        alone.run(["memory_out"], {**x, "memory": x["memory"][:, :32]})[0]
        for x in (inputs, in_a_mirror(inputs))
    )
    assert np.array_equal(kept[:, :32], plain)
    assert np.array_equal(kept[:, 32:], mirrored[..., ::-1])


def test_there_is_no_half_of_two_looks(twice):
    assert "rows" not in {o.name for o in twice.get_outputs()}
