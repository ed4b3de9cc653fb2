import json

import numpy as np
import pytest
from training_parts import make_dataset, small


def test_the_reason_a_worker_gives_is_found_in_the_trace():
    from training.distributed import _first_cause

    trace = "ray.exceptions.RayTaskError\n  File x\nDatasetError: d is no dataset\n  more"
    assert _first_cause(RuntimeError(trace)) == "DatasetError: d is no dataset"


@pytest.mark.slow
def test_two_workers_train_what_one_trains(tmp_path):
    from training import distributed
    from training.train import train
    from training.weights import read_arrays

    data = make_dataset(tmp_path / "data", frames=4)
    config = small(steps=4, batch=4, norm_until=0)
    result = distributed.train(config, [data], tmp_path / "two", workers=2)
    assert result.steps == 4
    train(config, [data], tmp_path / "one")
    one, two = (read_arrays(tmp_path / n / "weights.npz") for n in ("one", "two"))
    # averaged halves: equal up to the share of objects in each half, so nearly, not exactly
    gap = max(float(np.abs(one[k] - two[k]).max()) for k in one)
    assert gap < 0.02
    assert json.loads((tmp_path / "two" / "log.jsonl").read_text().splitlines()[-1])["step"] == 4
