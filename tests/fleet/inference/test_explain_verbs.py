"""`roadloop fleet infer explain`: a site as a process, asking it, captions of a whole file."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from explain_parts import records, tiny_explainer, write

from fleet.inference.explain_opening import read_records
from vehicle.contracts import wire
from vehicle.contracts.caption import Caption

ROADLOOP = [sys.executable, "-m", "roadloop", "fleet", "infer", "explain"]


def run(home: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ROADLOOP_HOME": str(home)}
    return subprocess.run(
        [*ROADLOOP, *map(str, words)], env=environment, capture_output=True, text=True, timeout=60
    )


def test_a_site_answers_as_it_is_asked_and_says_at_the_end_what_it_did(tmp_path: Path) -> None:
    urls, why = tmp_path / "url.json", write(tmp_path / "why.jsonl", records(20))
    red = next(i for i, r in enumerate(records(20), 1) if r.decision.longitudinal == "stop")
    words = ("serve", "--plain", "--port", "0", "--url-file", urls, "--json")
    site = subprocess.Popen(
        [*ROADLOOP, *map(str, words), "--explainer", str(tiny_explainer())],
        env=os.environ | {"ROADLOOP_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(400):
            if urls.exists() or site.poll() is not None:
                break
            time.sleep(0.05)
        url = json.loads(urls.read_text())["http"]
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
    finally:
        site.send_signal(signal.SIGTERM)
        out, _ = site.communicate(timeout=20)
    counts = json.loads(out.splitlines()[-1])
    assert counts["answered"] == {"tiny@1 anonymous": 2}
    assert counts["refused"] == {"UnknownModelError anonymous": 1}
    assert not urls.exists()


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
