"""`roadloop fleet infer load`: a site on this machine, asked on schedule from the command."""

import json

import pytest
from site_parts import Echo, site
from typer.testing import CliRunner

from fleet.inference.server import Served
from fleet.inference.verbs import infer_app


def load(*words: object) -> tuple[int, str]:
    """Run the verb; return its exit code and what it printed."""
    import fleet.cli  # mounts it

    assert fleet.cli.app is not None
    done = CliRunner().invoke(infer_app, ["load", *map(str, words)])
    return done.exit_code, done.stdout


def at(served: Served) -> str:
    """Return where a site is."""
    return f"127.0.0.1:{served.grpc_port}"


def test_answers_are_counted_from_their_schedule() -> None:
    with site(Echo(takes_s=0.01)) as served:
        code, out = load(at(served), "echo", "--rate", 40, "--count", 40, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["answered"] == 40
    assert facts["ms"]["p50"] > 10.0
    assert facts["refused"] == {}


def test_mlperfs_generator_asks_the_same_site_unofficially() -> None:
    pytest.importorskip("mlperf_loadgen")
    with site(Echo()) as served:
        code, out = load(at(served), "echo", "--generator", "SingleStream", "--count", 40, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["label"] == "LoadGen, unofficial"
    assert facts["ms"]["n"] == 40


def test_refusals_are_named_and_nothing_answered_is_an_error() -> None:
    with site(Echo(says_us=10_000_000)) as served:
        code, out = load(at(served), "echo", "--count", 5, "--rate", 50)
    assert code == 1
    assert "refused WontFinishError: 5" in out
