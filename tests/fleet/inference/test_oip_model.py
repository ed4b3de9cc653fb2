"""What answers behind a site's server: the car's own network, and how long it takes."""

import asyncio

import numpy as np

from fleet.inference.oip_model import EngineModel, Pace
from vehicle import bundles
from vehicle.engine import Engine


def test_network_answers_bit_for_bit_as_in_the_car() -> None:
    folder = bundles.base_folder()
    model, rng = EngineModel(folder), np.random.default_rng(3)
    inputs = {s.name: rng.integers(0, 99, s.shape).astype(s.dtype) for s in model.inputs}
    found = asyncio.run(model.infer(inputs, None))
    model.close()
    with Engine(folder / bundles.MODEL) as engine:
        wanted = engine.run(inputs)
        assert sorted(found) == sorted(wanted)
        assert all(found[n].tobytes() == wanted[n].tobytes() for n in wanted)


def test_pace_believes_the_first_guess_until_something_was_measured() -> None:
    pace = Pace(5_500)
    assert pace.expected_us() == 5_500
    pace.took(1_000)
    assert pace.expected_us() == 1_500


def test_pace_settles_above_the_mean_of_what_strays() -> None:
    pace = Pace(5_500)
    for i in range(400):
        pace.took(1_000 + 100 * (-1) ** i)
    assert 1_100 <= pace.expected_us() <= 1_300
