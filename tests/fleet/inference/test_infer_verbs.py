"""`roadloop fleet infer`: a site as a process of its own, and asking it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes_gateway import enrol_car
from typer.testing import CliRunner

from fleet.inference import receipts
from fleet.inference.opening import OnPremError, Opening, open_site
from fleet.inference.policy import Site
from fleet.inference.verbs import infer_app
from vehicle.contracts.home import Home

ROADLOOP = [sys.executable, "-m", "roadloop", "fleet", "infer"]


def ask(*words: object) -> Any:
    """Run `infer ask`; exit code 1 is a refusal, whose name is the error's."""
    return CliRunner().invoke(infer_app, ["ask", *map(str, words)])


@contextmanager
def opened(home: Home, *words: object) -> Iterator[tuple[dict[str, str], subprocess.Popen[str]]]:
    """Run `infer serve`; yield its addresses and the process."""
    urls = home.root / "urls.json"
    environment = os.environ | {"ROADLOOP_HOME": str(home.root)}
    ports = ("--grpc-port", "0", "--http-port", "0", "--url-file", str(urls))
    process = subprocess.Popen(
        [*ROADLOOP, "serve", *ports, *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(400):
            if urls.exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        yield json.loads(urls.read_text()), process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def last_json(text: str) -> dict[str, Any]:
    return json.loads(text.splitlines()[-1])


def test_site_on_premises_answers_its_car_and_keeps_a_receipt(tmp_path: Path) -> None:
    home = Home(tmp_path)
    identity, chain = enrol_car(home), tmp_path / "receipts.jsonl"
    words = ("--context", "on-prem", "--site", "yard", "--receipts", chain, "--json")
    with opened(home, *words) as (urls, process):
        asked = ask(urls["grpc"], "base", "--identity", identity, "--json")
        forged = ask(urls["grpc"], "base", "--identity", identity, "--tenant", "other")
        process.send_signal(signal.SIGTERM)
        counts = last_json(process.communicate(timeout=20)[0])
    assert asked.exit_code == 0, asked.output
    reply = json.loads(asked.stdout)["reply"]
    assert (reply["site"], reply["context"]) == ("yard", "on-prem")
    assert forged.exit_code == 1
    assert "ForgedRequestError" in str(forged.exception)
    assert counts["refused"] == {"ForgedRequestError fleet": 1}
    assert receipts.check(chain, [reply["receipt"]]).decisions == {"allowed": 1}
    assert not (tmp_path / "urls.json").exists()


def test_ask_takes_arrays_from_a_file_and_writes_the_answer(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with opened(home, "--plain") as (urls, _):
        first = ask(urls["grpc"], "base", "--out", tmp_path / "a.npz")
        broken = tmp_path / "broken.npz"
        np.savez(broken, front=np.zeros(3, np.uint8))
        refused = ask(urls["grpc"], "base", "--inputs", broken)
        advised = ask(urls["grpc"], "collective")
    assert first.exit_code == 0, first.output
    assert "base@" in first.stdout
    with np.load(tmp_path / "a.npz", allow_pickle=False) as answer:
        assert answer["heat"].shape == (1, 12, 50, 32)
    assert "nobody whom the car does not perceive" in advised.output
    assert refused.exit_code == 1
    assert "MalformedRequestError" in str(refused.exception)


def test_site_on_premises_without_receipts_or_certificates_is_not_opened(tmp_path: Path) -> None:
    site = Site(name="yard", context="on-prem", jurisdiction="DE")
    with pytest.raises(OnPremError, match="--receipts"):
        open_site(Opening(site=site), Home(tmp_path))
    with pytest.raises(OnPremError, match="certificates"):
        open_site(Opening(site=site, receipts=tmp_path / "r", plain=True), Home(tmp_path))
