import json
from dataclasses import replace

import numpy as np
import pytest
from training_parts import make_dataset, small

from training.batches import Batches
from training.frames import EmptyDatasetError, load_frames
from training.recipes import RECIPES, TrainConfig, UnknownRecipeError, recipe
from training.train import (
    CHECKPOINT,
    LOG,
    WEIGHTS,
    DivergedError,
    RunMismatchError,
    RunMissingError,
    learning_rate,
    read_run,
    train,
)
from training.weights import ParentBundleError, read_arrays
from vehicle.contracts import wire
from vehicle.contracts.wire import ContractError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "noise", frames=2)


def test_the_loss_falls_on_two_frames(data, tmp_path):
    config = small(steps=40, norm_until=30, learning_rate=6e-3)
    result = train(config, [data], tmp_path / "run")
    assert result.steps == 40
    assert result.loss_last < 0.85 * result.loss_first


def test_a_resumed_run_ends_with_the_same_weights(data, tmp_path):
    config = small(steps=6, norm_until=3, checkpoint_every=2)
    train(config, [data], tmp_path / "whole")
    train(config, [data], tmp_path / "cut", stop_at=3)
    assert (tmp_path / "cut" / CHECKPOINT).is_file()
    assert not (tmp_path / "cut" / WEIGHTS).is_file()
    train(config, [data], tmp_path / "cut")
    whole, cut = (read_arrays(tmp_path / n / WEIGHTS) for n in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(np.array_equal(whole[k], cut[k]) for k in whole)
    assert not (tmp_path / "cut" / CHECKPOINT).exists()


def test_the_log_has_a_line_at_the_end_of_every_run(data, tmp_path):
    train(small(steps=3), [data], tmp_path / "run")
    lines = [json.loads(x) for x in (tmp_path / "run" / LOG).read_text().splitlines()]
    assert lines[-1]["step"] == 3
    assert {"heat", "box", "dense", "total", "frames_per_s"} <= lines[-1].keys()


def test_a_run_folder_of_another_run_is_refused(data, tmp_path):
    train(small(steps=1), [data], tmp_path / "run")
    with pytest.raises(RunMismatchError, match="another recipe, seed, start or dataset"):
        train(small(steps=1, seed=5), [data], tmp_path / "run")


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(RunMissingError, match=r"no run\.json"):
        read_run(tmp_path)


def test_a_loss_that_is_no_number_stops_the_run(data, tmp_path):
    with pytest.raises(DivergedError, match="learning_rate"):
        train(small(steps=30, learning_rate=1e18, clip_norm=1e18), [data], tmp_path / "run")
    assert not (tmp_path / "run" / WEIGHTS).exists()


def test_an_empty_dataset_is_refused(tmp_path):
    folder = make_dataset(tmp_path / "d", frames=1)
    manifest = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_bytes(wire.canonical({**manifest, "files": [], "frames": 0}))
    with pytest.raises(EmptyDatasetError, match="no frames"):
        train(small(steps=1), [folder], tmp_path / "run")


def test_a_parent_that_is_no_bundle_is_refused(data, tmp_path):
    with pytest.raises(ParentBundleError, match="is not a bundle"):
        train(small(steps=1), [data], tmp_path / "run", parent=tmp_path)


def test_an_unknown_recipe_names_the_known_ones():
    with pytest.raises(
        UnknownRecipeError, match="base, polish, teacher, teacher-polish, finetune, tiny"
    ):
        recipe("bass")


def test_every_recipe_survives_being_written_down():
    for make in RECIPES.values():
        config = make()
        assert wire.from_bytes(TrainConfig, wire.to_bytes(config)) == config


def test_a_fine_tune_never_touches_the_batch_statistics():
    assert recipe("finetune").norm_until == 0


def test_a_recipe_that_does_nothing_is_refused():
    with pytest.raises(ContractError, match="nothing to do"):
        replace(recipe("tiny"), steps=0)


def test_the_rate_warms_up_peaks_and_falls():
    config = small(steps=100, warmup=10, learning_rate=1.0)
    rates = [learning_rate(config, s) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.02
    assert np.all(np.diff(rates[10:]) <= 0)


def test_augmented_pictures_stay_pictures(data):
    config = small(brightness=0.9, noise_levels=60.0, batch=2)
    batch = Batches([load_frames(data)], config).batch(0)
    assert batch["front"].dtype.is_floating_point is False
    assert 0 < batch["front"].float().mean() < 255
