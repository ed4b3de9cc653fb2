"""`roadloop fleet infer explain`: a site as a process, asking it, captions of a whole file."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from explain_parts import records, tiny_explainer, write
from fakes_gateway import enrol_car

from fleet.inference.receipts import check
from vehicle.contracts import wire
from vehicle.contracts.caption import Caption
from vehicle.contracts.decision import read_records
from vehicle.contracts.home import Home

ROADLOOP = [sys.executable, "-m", "roadloop", "fleet", "infer", "explain"]


def run(home: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ROADLOOP_HOME": str(home)}
    return subprocess.run(
        [*ROADLOOP, *map(str, words)], env=environment, capture_output=True, text=True, timeout=60
    )


@contextmanager
def opened(home: Path, *words: object) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run `explain serve`; yield its address and the process."""
    urls = home / "url.json"
    fixed = ("serve", "--port", "0", "--url-file", urls, "--explainer", tiny_explainer(), "--json")
    site = subprocess.Popen(
        [*ROADLOOP, *map(str, fixed), *map(str, words)],
        env=os.environ | {"ROADLOOP_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(600):
            if urls.exists() or site.poll() is not None:
                break
            time.sleep(0.05)
        yield json.loads(urls.read_text())["http"], site
    finally:
        site.send_signal(signal.SIGTERM)
        site.wait(20)


def test_a_site_answers_as_it_is_asked_and_says_at_the_end_what_it_did(tmp_path: Path) -> None:
    why = write(tmp_path / "why.jsonl", records(20))
    red = next(i for i, r in enumerate(records(20), 1) if r.decision.longitudinal == "stop")
    with opened(tmp_path, "--plain") as (url, site):
        told = run(tmp_path, "ask", url, why, "--line", red, "--model", "tiny", "--json")
        facts = json.loads(told.stdout)
        assert facts["text"].startswith("because the light is red")
        assert 0.0 < facts["first_word_ms"] <= facts["all_ms"]
        assert facts["reply"]["model_set"] == "tiny@1"
        heard = run(tmp_path, "ask", url, why, "--line", red, "--model", "tiny")
        assert heard.stdout.strip() == facts["text"]
        refused = run(tmp_path, "ask", url, why, "--model", "other")
        assert refused.returncode == 1
        assert "UnknownModelError" in refused.stderr
        site.send_signal(signal.SIGTERM)
        out, _ = site.communicate(timeout=20)
    counts = json.loads(out.splitlines()[-1])
    assert counts["answered"] == {"tiny@1 anonymous": 2}
    assert counts["refused"] == {"UnknownModelError anonymous": 1}
    assert not (tmp_path / "url.json").exists()


def test_on_premises_only_its_cars_are_answered_and_each_has_a_receipt(tmp_path: Path) -> None:
    identity, chain = enrol_car(Home(tmp_path)), tmp_path / "receipts.jsonl"
    why, words = write(tmp_path / "why.jsonl", records(20)), ("--model", "tiny", "--json")
    options = ("--context", "on-prem", "--site", "yard", "--receipts", chain)
    with opened(tmp_path, *options) as (url, site):
        asked = run(tmp_path, "ask", url, why, "--identity", identity, *words)
        forged = run(tmp_path, "ask", url, why, "--identity", identity, "--tenant", "other", *words)
        stranger = run(tmp_path, "ask", url, why, *words)
        site.send_signal(signal.SIGTERM)
        site.wait(20)
    assert asked.returncode == 0, asked.stderr
    reply = json.loads(asked.stdout)["reply"]
    assert (reply["site"], reply["context"]) == ("yard", "on-prem")
    assert check(chain, [reply["receipt"]]).decisions == {"allowed": 1}
    assert (forged.returncode, stranger.returncode) == (1, 1)
    assert "ForgedRequestError" in forged.stderr
    assert "Unreachable" in stranger.stderr or "UNAVAILABLE" in stranger.stderr


def test_a_file_of_decisions_becomes_a_file_of_captions(tmp_path: Path) -> None:
    found = records(30)
    why, out = write(tmp_path / "why.jsonl", found), tmp_path / "captions.jsonl"
    done = run(tmp_path, "write", why, out, "--explainer", tiny_explainer(), "--json")
    assert done.returncode == 0, done.stderr
    captions = [wire.from_bytes(Caption, line) for line in out.read_bytes().splitlines()]
    assert [c.frame_id for c in captions] == [r.frame_id for r in found]
    explained = [c for c in captions if c.explained]
    assert json.loads(done.stdout)["explained"] == len(explained) >= 20
    assert any("light" in c.factors for c in explained)
    assert all(c.text == "no explanation" for c in captions if not c.explained)


def test_without_an_explainer_one_is_told_how_to_make_it(tmp_path: Path) -> None:
    told = run(tmp_path, "serve", "--plain")
    assert told.returncode == 1
    assert "roadloop training explain" in told.stderr


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b"{}\n")
    with pytest.raises(wire.ContractError, match=r"bad\.jsonl:1"):
        read_records(tmp_path / "bad.jsonl")
