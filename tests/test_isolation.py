"""Each package starts without the libraries of the others."""

import subprocess
import sys

import pytest

BLOCK = """
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {blocked!r}:
            raise ModuleNotFoundError(f'{{name}} is not installed here')
sys.meta_path.insert(0, Blocked())
"""

CAR = """
from vehicle.config import RIG_R
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN
from vehicle.budget import Budget
from vehicle.clock import SystemClock
from vehicle.drive import Drive
from vehicle import recorder, uplink, installer, replay, sources, perception, cli
from vehicle import processes, supervisor, shadow, sender, onroad, road
from vehicle import offboard, offboard_link, site_link
"""
LAKE = "from datalake import lake, ingest, label, mine, dataset, cli"
FLEET = """
from fleet import gateway, serving, identity, landing, store, registry, sign, release, campaign, cli
from fleet.inference import server, client, collective, opening
"""
ASKING = "from fleet.inference import client, asking"
"""Whoever asks a site needs no network runtime and no policy."""

TRAINING = "from training import batches, model, losses, recipes, train, evaluate, export, cli"
SIM = """
from sim.town import world
from sim.users import actors
from sim.look import render
from sim.sense import sensors, generate
from sim.story import scenarios
from sim.run import episode
"""


def start(code: str, blocked: set[str]) -> subprocess.CompletedProcess[str]:
    program = BLOCK.format(blocked=sorted(blocked)) + code
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("code", "blocked"),
    [
        (
            CAR,
            {
                *("ray", "torch", "duckdb", "pyarrow", "starlette", "onnx", "sim", "fleet"),
                *("grpc", "cedarpy", "cbor2", "sgp4"),
            },
        ),
        (LAKE, {"ray", "torch", "starlette", "onnxruntime", "numba", "sim", "fleet", "training"}),
        (
            FLEET,
            {"ray", "torch", "duckdb", "pyarrow", "numba", "boto3", "sim", "datalake", "training"},
        ),
        (ASKING, {"onnxruntime", "cedarpy", "uvicorn", "starlette", "ray", "torch", "numba"}),
        (TRAINING, {"ray", "starlette", "sim", "fleet", "numba"}),
        (SIM, {"ray", "torch", "duckdb", "pyarrow", "starlette", "fleet", "datalake", "training"}),
    ],
    ids=["vehicle", "datalake", "fleet", "asking", "training", "sim"],
)
def test_package_starts_without_the_others_libraries(code: str, blocked: set[str]) -> None:
    done = start(code, blocked)
    assert done.returncode == 0, done.stderr


def test_a_blocked_library_really_is_blocked() -> None:
    assert start("import duckdb", {"duckdb"}).returncode != 0
