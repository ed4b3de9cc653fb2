"""Decision records out of the simulator: who is in sight, what is kept for testing."""

from pathlib import Path

import numpy as np
import pytest

from sim.why import decisions
from sim.why.decisions import HeldOutFamilyError, in_sight, write_records
from vehicle.contracts.decision import read_records
from vehicle.contracts.scene import KINDS, TRACK


def test_who_stands_behind_a_truck_is_not_seen_and_who_stands_beside_it_is() -> None:
    tracks = np.zeros(3, TRACK)
    tracks["kind"] = [KINDS.index(k) for k in ("truck", "pedestrian", "pedestrian")]
    tracks["x_m"], tracks["y_m"] = [15.0, 25.0, 25.0], [3.0, 5.0, -3.0]
    tracks["length_m"], tracks["width_m"], tracks["height_m"] = [8, 0.5, 0.5], [2.5, 0.5, 0.5], 1.8
    assert in_sight(tracks).tolist() == [True, False, True]
    tracks["height_m"][0] = 0.5
    assert in_sight(tracks).all()


def test_the_same_drive_writes_the_same_records_each_with_tested_causes(tmp_path: Path) -> None:
    options = {"families": ["town_drive"], "towns": [3], "episodes": 1, "ticks": 60}
    one = write_records(tmp_path / "one.jsonl", **options)  # type: ignore[arg-type]
    two = write_records(tmp_path / "two.jsonl", **options)  # type: ignore[arg-type]
    assert one == two
    records = read_records(tmp_path / "one.jsonl")
    assert len(records) == one.records > 1
    assert all(r.causes is not None for r in records)


def test_families_kept_for_testing_are_not_driven_in_training_towns(tmp_path: Path) -> None:
    with pytest.raises(HeldOutFamilyError, match="take a town from 100"):
        write_records(tmp_path / "no.jsonl", families=["cut_in"], towns=[3], episodes=1)
    assert not set(decisions.TRAINED) & set(decisions.HELD_OUT)
