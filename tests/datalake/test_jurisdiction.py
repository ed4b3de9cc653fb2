"""A clip keeps the law of the place where it was recorded, all the way into datasets."""

import json

import pytest
from lake_parts import FRAMES, land, rows, write_truth

from datalake.dataset import EmptyDatasetError, create
from datalake.ingest import ingest
from datalake.jurisdiction import ClosedJurisdictionError
from datalake.label import label
from datalake.lake import Lake
from datalake.scenario import scene_of_clip
from vehicle.contracts import wire
from vehicle.contracts.home import Home

EVERY = "SELECT clip_id, frame_id FROM ticks"


@pytest.fixture
def two_places(home: Home) -> dict[str, str]:
    """One labelled clip of Germany, one of simulation: place -> clip."""
    places = {"DE": land(home, seed=1, car_id="car-1"), "ZZ": land(home, seed=2, car_id="car-2")}
    path = home.landing / places["DE"] / "manifest.json"
    path.write_bytes(wire.canonical({**json.loads(path.read_bytes()), "jurisdiction": "DE"}))
    for seed in (1, 2):
        write_truth(home, seed=seed, car_id=f"car-{seed}")
    ingest(home)
    with Lake(home) as lake:
        label(home, lake, list(places.values()))
    return places


def test_a_clip_is_scrubbed_as_its_place_says(home: Home, two_places: dict[str, str]) -> None:
    found = rows(home, "SELECT jurisdiction, scrub FROM clips ORDER BY ALL")
    assert found == [
        {"jurisdiction": "DE", "scrub": "tracks@1+plates@1"},
        {"jurisdiction": "ZZ", "scrub": "none"},
    ]


def test_a_dataset_is_made_of_chosen_places(home: Home, two_places: dict[str, str]) -> None:
    manifest = create(home, "german", EVERY, jurisdictions=("DE",))
    assert (manifest.sources, manifest.frames) == ((two_places["DE"],), FRAMES)
    with pytest.raises(EmptyDatasetError, match="FR"):
        create(home, "french", EVERY, jurisdictions=("FR",))


def test_what_a_place_forbids_stays_in_the_lake(home: Home, two_places: dict[str, str]) -> None:
    (home.root / "privacy.toml").write_text("closed = ['DE']\n")
    with pytest.raises(ClosedJurisdictionError, match="1 of 2 clips"):
        create(home, "both", EVERY)
    with pytest.raises(ClosedJurisdictionError, match="DE"):
        scene_of_clip(home, two_places["DE"])
    assert not (home.datasets / "both").exists()
    assert create(home, "rest", EVERY, jurisdictions=("ZZ",)).sources == (two_places["ZZ"],)
