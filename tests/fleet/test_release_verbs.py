"""The verbs from keys to an installed car, as a person types them."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakes_bundle import make_bundle, make_report
from fakes_gateway import enrol_car, gateway
from typer.testing import CliRunner

import fleet.cli
import vehicle.cli
from fleet.release import ReleaseRefusedError
from fleet.sign import NoRepositoryError
from vehicle import bundles
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.report import EvalReport
from vehicle.installer import TrustRootError


def run(app: Any, *words: object) -> Any:
    result = CliRunner().invoke(app, [str(w) for w in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout) if "--json" in words else result.stdout


def report_file(path: Path, report: EvalReport) -> Path:
    wire.atomic_write(path, wire.to_bytes(report))
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ROADLOOP_HOME", str(tmp_path / "home"))
    make_bundle(tmp_path / "base", version=1, gain=0.1)
    monkeypatch.setattr(bundles, "base_folder", lambda: tmp_path / "base")
    return Home.here()


def test_keys_publish_install_status(home: Home, tmp_path: Path) -> None:
    make_bundle(tmp_path / "new")
    digest, old = bundles.digest_of(tmp_path / "new"), bundles.digest_of(tmp_path / "base")
    after = report_file(tmp_path / "after.json", make_report(digest))
    before = report_file(tmp_path / "before.json", make_report(old, recall=0.5))
    root = tmp_path / "root.json"

    roles = run(fleet.cli.app, "keys", "--root-out", root, "--json")["roles"]
    assert len(roles["root"]["keys"]) == 3
    said = run(
        *(fleet.cli.app, "publish", tmp_path / "new", "--report", after, "--before", before),
        *("--must-rise", "recall/car/night@tag.light=night", "--json"),
    )
    assert said["release"]["bundle_digest"] == digest
    assert run(fleet.cli.app, "releases", "--json")["releases"] == [said["release"]]
    assert "base@2" in run(fleet.cli.app, "releases")

    with gateway(home) as url:
        enrol_car(home)
        words = ("install", "car-1", "--gateway", url)
        with pytest.raises(TrustRootError):
            run(vehicle.cli.app, *words)
        done = run(vehicle.cli.app, *words, "--root", root, "--json")
        assert done["status"] == "installed"
        assert "has the newest already" in run(vehicle.cli.app, *words)
    shown = run(vehicle.cli.app, "status", "car-1", "--json")
    assert shown["folder"] == str(home.car("car-1") / "slots" / "a")
    assert shown["release"]["release_counter"] == 1
    assert "base@2 (release 1)" in run(vehicle.cli.app, "status", "car-1")


def test_publish_gives_the_reasons_and_publishes_nothing(home: Home, tmp_path: Path) -> None:
    run(fleet.cli.app, "keys")
    make_bundle(tmp_path / "new")
    report = make_report(bundles.digest_of(tmp_path / "new"))
    after = report_file(tmp_path / "after.json", report)
    with pytest.raises(ReleaseRefusedError, match="what the cars run now"):
        run(fleet.cli.app, "publish", tmp_path / "new", "--report", after)
    assert run(fleet.cli.app, "releases", "--json") == {"releases": []}


def test_keys_are_made_once_and_rotate(home: Home) -> None:
    first = run(fleet.cli.app, "keys", "--json")["roles"]
    assert run(fleet.cli.app, "keys", "--json")["roles"] == first
    second = run(fleet.cli.app, "keys", "--rotate", "targets", "--renew", "--json")["roles"]
    assert second["targets"]["keys"] != first["targets"]["keys"]
    assert second["root"]["keys"] == first["root"]["keys"]


def test_publish_without_keys_is_refused(home: Home, tmp_path: Path) -> None:
    with pytest.raises(NoRepositoryError):
        run(fleet.cli.app, "releases")


def test_car_that_never_installed_drives_the_base_bundle(home: Home) -> None:
    assert "the base bundle" in run(vehicle.cli.app, "status", "car-9")
