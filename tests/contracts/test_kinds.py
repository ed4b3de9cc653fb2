"""A kind of road user is known to everybody who keeps a table of kinds."""

import training.decode
from vehicle import decode
from vehicle.contracts.scene import KINDS
from vehicle.drawing import KIND_COLOURS
from vehicle.tracker import TrackerConfig


def test_the_first_kinds_keep_their_numbers() -> None:
    assert KINDS[:5] == ("car", "pedestrian", "truck", "cyclist", "other")
    assert len(set(KINDS)) == len(KINDS)


def test_every_kind_has_a_height_a_separation_noise_and_a_colour() -> None:
    assert set(decode.HEIGHT_M) == set(KINDS)
    assert set(decode.SEPARATION_M) == set(training.decode.SEPARATION_M) == set(KINDS)
    assert decode.SEPARATION_M == training.decode.SEPARATION_M
    config = TrackerConfig()
    assert len(config.accel_mps2) == len(config.speed_mps) == len(KIND_COLOURS) == len(KINDS)
    assert len(set(KIND_COLOURS)) == len(KINDS)
