"""Chips, a decision explained, and a chain checked, from the command."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet.cli import app
from fleet.inference.receipts import ReceiptChainError, Receipts
from vehicle.clock import FakeClock
from vehicle.contracts.wire import ContractError


def told(*words: str) -> dict[str, object]:
    done = CliRunner().invoke(app, ["infer", *words, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    facts: dict[str, object] = json.loads(done.stdout)
    return facts


def test_chips_are_listed_with_sources_and_unknown_cells_as_null() -> None:
    rows = {c["name"]: c for c in told("chips")["chips"]}  # type: ignore[attr-defined]
    assert rows["NVIDIA L40S"]["watts"]["source"].startswith("llmbook")
    assert rows["Cerebras WSE-3"]["tops_per_watt"] is None
    plain = CliRunner().invoke(app, ["infer", "chips"]).stdout
    assert "?" in plain


def test_a_decision_is_explained() -> None:
    found = told("route", "--deadline-ms", "60")
    assert (found["context"], found["site"]) == ("edge", "edge-munich")
    others = found["others"]
    assert isinstance(others, dict)
    assert others["region-ohio"].startswith("ResidencyError: data-stays-in-its-zone")
    assert "ms are usual" in others["region-frankfurt"]
    assert found["joules_source"] == "modelled"


def test_the_law_of_the_data_keeps_it_in_the_car() -> None:
    assert told("route", "--jurisdiction", "CH")["context"] == "device"
    assert told("route", "--jurisdiction", "CH", "--data-class", "features")["context"] == "edge"
    assert told("route", "--most-bytes", "1000")["context"] == "device"


def test_a_file_that_is_no_field_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "sites.toml"
    for text, says in (
        ("x = [", "Invalid"),
        ("x = 1", "needs tables"),
        ('[link.a]\nnetwork = "lte"\n[site.b]\nlink = "a"\n', "site b"),
    ):
        broken.write_text(text)
        with pytest.raises(ContractError, match=says):
            told("route", "--sites", str(broken))


def test_a_chain_is_checked_and_a_witness_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    with Receipts(path, site="munich", clock=FakeClock()) as receipts:
        for decision in ("allowed", "allowed", "ResidencyError"):
            given = receipts.append(
                None, tenant="acme", policy="p", decision=decision, size_bytes=1
            )
    found = told("receipts", "check", str(path), "--holds", given)
    assert found["count"] == 3
    assert found["decisions"] == {"allowed": 2, "ResidencyError": 1}
    with pytest.raises(ReceiptChainError, match="that a car was given"):
        told("receipts", "check", str(path), "--holds", "f" * 64)
    path.write_bytes(path.read_bytes().replace(b"ResidencyError", b"allowed"))
    with pytest.raises(ReceiptChainError):
        told("receipts", "check", str(path), "--holds", given)
