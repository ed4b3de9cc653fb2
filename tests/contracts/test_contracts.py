"""Every contract has one byte form, and it does not change by accident."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from contracts.examples import EXAMPLES

from vehicle.contracts import wire
from vehicle.contracts.clip import FileEntry
from vehicle.contracts.ego import EgoState, Guidance
from vehicle.contracts.frame import MissingCalibrationError
from vehicle.contracts.plan import Plan, Trajectory
from vehicle.contracts.scene import BEV, BEV_BOX
from vehicle.contracts.telemetry import STAGE_BUDGET_US, TICK_BUDGET_US

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", EXAMPLES)
def test_bytes_match_the_golden_file(name: str, request: pytest.FixtureRequest) -> None:
    data, path = wire.to_bytes(EXAMPLES[name]), GOLDEN / f"{name}.json"
    if request.config.getoption("--update-refs"):
        path.write_bytes(data)
    assert data == path.read_bytes()


@pytest.mark.parametrize("name", EXAMPLES)
def test_contract_survives_the_round_trip(name: str) -> None:
    example = EXAMPLES[name]
    assert wire.from_bytes(type(example), wire.to_bytes(example)) == example


@pytest.mark.parametrize("name", EXAMPLES)
def test_unknown_field_is_refused_in_signed_documents_and_dropped_in_logs(name: str) -> None:
    example = EXAMPLES[name]
    plain = wire.to_plain(example) | {"surprise": 1}
    with pytest.raises(wire.UnknownFieldError, match="surprise"):
        wire.from_plain(type(example), plain)
    assert wire.from_plain(type(example), plain, strict=False) == example


@pytest.mark.parametrize("name", EXAMPLES)
def test_contracts_are_frozen(name: str) -> None:
    example = EXAMPLES[name]
    field = dataclasses.fields(example)[0].name
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
        setattr(example, field, None)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xfe", b"[]", b"null", b'{"schema":"clip/9"}', b"{" * 100_000]
)
def test_garbage_is_refused_by_schema(data: bytes) -> None:
    with pytest.raises(wire.SchemaError):
        wire.from_bytes(EgoState, data)


@pytest.mark.parametrize("value", ["12", None, True, [1]])
def test_mistyped_field_is_named(value: object) -> None:
    plain = wire.to_plain(EXAMPLES["ego"]) | {"speed_mps": value}
    with pytest.raises(wire.ContractError, match="speed_mps"):
        wire.from_plain(EgoState, plain)


def test_missing_field_is_named() -> None:
    plain = wire.to_plain(EXAMPLES["ego"])
    del plain["x_m"]
    with pytest.raises(wire.ContractError, match="x_m"):
        wire.from_plain(EgoState, plain)


def test_nan_never_becomes_bytes() -> None:
    with pytest.raises(wire.ContractError):
        wire.canonical({"x": float("nan")})
    with pytest.raises(wire.ContractError, match="yaw_rad"):
        EgoState(mono_ns=0, x_m=0.0, y_m=0.0, yaw_rad=float("nan"), speed_mps=0.0)


def test_canonical_form_does_not_depend_on_order() -> None:
    assert wire.canonical({"b": 1, "a": 2}) == wire.canonical({"a": 2, "b": 1}) == b'{"a":2,"b":1}'


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "a\\b"])
def test_hostile_file_names_are_refused(name: str) -> None:
    with pytest.raises(wire.ContractError, match="not plain"):
        FileEntry(name=name, sha256="a" * 64, size_bytes=1)


def test_camera_without_calibration_is_named_with_those_that_have_one() -> None:
    with pytest.raises(MissingCalibrationError, match=r"roof.*front_wide"):
        EXAMPLES["rig"].camera("roof")


def test_plan_digest_follows_the_numbers() -> None:
    states = np.zeros((3, 7))
    states[:, 0] = [0.0, 0.1, 0.2]

    def plan(states: np.ndarray) -> Plan:
        return Plan(
            frame_id=1,
            mono_ns=1,
            trajectory=Trajectory(states=states),
            rung="full",
            proposal="p",
            scores={"progress": 0.5},
        )

    moved = states.copy()
    moved[2, 1] = 1e-12
    assert plan(states).digest() == plan(states.copy()).digest()
    assert plan(states).digest() != plan(moved).digest()


def test_guidance_needs_a_line() -> None:
    with pytest.raises(wire.ContractError, match="shape"):
        Guidance(centreline_m=np.zeros((1, 2)), speed_limit_mps=10.0)


def test_grids_cover_the_same_ground() -> None:
    for grid in (BEV, BEV_BOX):
        assert (grid.nx * grid.cell_m, grid.ny * grid.cell_m) == pytest.approx((80.0, 51.2))
    assert BEV.centres().shape == (100, 64, 2)


def test_stage_budgets_leave_the_margin() -> None:
    assert sum(STAGE_BUDGET_US.values()) == TICK_BUDGET_US - 1_000


def test_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    wire.atomic_write(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wire.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        wire.atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_golden_files_are_all_used() -> None:
    assert {p.stem for p in GOLDEN.glob("*.json")} == set(EXAMPLES)
    assert all(json.loads(p.read_bytes()) for p in GOLDEN.glob("*.json"))
