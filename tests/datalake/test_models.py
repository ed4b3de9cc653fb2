import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from datalake.cli import app
from datalake.lake import Lake
from datalake.models import UnknownBundleError, add, lineage
from datalake.tables import PINS
from vehicle.bundles import base_folder, digest_of
from vehicle.contracts.home import Home
from vehicle.contracts.wire import SchemaError


def test_a_model_leads_back_to_its_pinned_dataset(home: Home, tmp_path: Path) -> None:
    learned = tmp_path / "bundle"
    learned.mkdir()
    plain = json.loads((base_folder() / "bundle.json").read_bytes())
    plain["lineage"] |= {"dataset_digest": "d" * 64, "parent_digest": digest_of(base_folder())}
    (learned / "bundle.json").write_text(json.dumps({**plain, "name": "fog", "version": 3}))
    with Lake(home) as lake:
        pin = {"name": "night", "snapshot": 7, "digest": "d" * 64, "frames": 9, "clips": 2}
        lake.append("pins", PINS.rows([pin]))
        assert add(lake, [learned, base_folder()]) == 2
        assert add(lake, [learned / "bundle.json", learned]) == 0
        base, fog = sorted(lineage(lake).to_pylist(), key=lambda r: r["name"])
    assert (fog["name"], fog["version"], fog["dataset"]) == ("fog", 3, "night")
    assert (fog["snapshot"], fog["clips"], fog["frames"]) == (7, 2, 9)
    assert fog["parent_digest"] == base["digest"] == digest_of(base_folder())
    assert base["dataset"] is None


def test_models_are_added_and_listed_by_command(home: Home, tmp_path: Path) -> None:
    words = ["models", str(base_folder()), "--json"]
    assert json.loads(CliRunner().invoke(app, words).stdout) == {"added": 1}
    [row] = json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)
    assert row["digest"] == digest_of(base_folder())


def test_what_is_no_bundle_is_named(home: Home, tmp_path: Path) -> None:
    shutil.copyfile(base_folder() / "golden.npz", tmp_path / "bundle.json")
    with Lake(home) as lake:
        with pytest.raises(UnknownBundleError, match=r"no bundle\.json"):
            add(lake, [tmp_path / "nothing"])
        with pytest.raises(SchemaError):
            add(lake, [tmp_path])
        assert not lake.exists
