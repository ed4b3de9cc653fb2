"""The load beside a measured loop: the car's own processes, and a home that takes its clips."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from vehicle import bundles
from vehicle.config import RIG_R
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN, Campaign
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import IDENTITY
from vehicle.contracts.wire import RefusedError
from vehicle.processes import Car, CarSetup

CAR: Final = "bench"
HOME_START_S: Final = 60.0
_FLEET: Final = (sys.executable, "-m", "roadloop", "fleet")


class HomeStartError(RefusedError):
    """The gateway of the bench did not come up."""


@contextmanager
def loaded_car(
    scratch: Path,
    bundle: Path,
    rate_hz: float,
    campaign: Campaign = DEFAULT_CAMPAIGN,
    tags: dict[str, str] | None = None,
) -> Iterator[Car]:
    """Run recorder, shadow (the same bundle as its own candidate) and uplink, with a home to send
    to; all of them real, on this machine.

    Args:
        scratch: an empty folder for the car and its home.
        bundle: what drives.
        rate_hz: of the ticks.
        campaign: what becomes clips.
        tags: what manifests say of the drive.
    Raises:
        HomeStartError, CarStartError: something did not come up.
    """
    with running_home(scratch / "home", scratch / CAR / IDENTITY) as url:
        setup = bench_car(scratch, bundle, rate_hz, campaign, tags)
        with Car(replace(setup, gateway=url)) as car:
            yield car


def bench_car(
    scratch: Path,
    bundle: Path,
    rate_hz: float,
    campaign: Campaign = DEFAULT_CAMPAIGN,
    tags: dict[str, str] | None = None,
) -> CarSetup:
    """Return the car of `loaded_car`, with nobody to send to yet."""
    return CarSetup(
        folder=scratch / CAR,
        rig=RIG_R,
        rate_hz=rate_hz,
        car_id=CAR,
        route_id="bench",
        model=bundles.load(bundle).tag,
        tags=tags or {},
        campaigns=(campaign,),
        shadow=bundle,
    )


@contextmanager
def running_home(root: Path, identity: Path) -> Iterator[str]:
    """Run a home in a process of its own, with the car enrolled; yield its address."""
    Home(root).fleet.mkdir(parents=True)
    enrol = [*_FLEET, "enrol", CAR, "--out", str(identity)]
    done = subprocess.run(enrol, env=_at(root), capture_output=True, text=True)
    if done.returncode != 0:
        raise HomeStartError(f"the car could not be enrolled: {done.stderr.strip()}")
    with served(root, "serve", "--port", "0") as url:
        yield url


@contextmanager
def served(root: Path, *verb: str) -> Iterator[str]:
    """Run a server of the fleet at a home in a process of its own; yield what it says of where.

    Args:
        root: of the home.
        verb: of `roadloop fleet`, one that takes --url-file.
    """
    url_file = root / f"url-{verb[0]}"
    process = subprocess.Popen(
        [*_FLEET, *verb, "--url-file", str(url_file)],
        env=_at(root),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        give_up_s = time.monotonic() + HOME_START_S
        while not url_file.is_file():
            if process.poll() is not None or time.monotonic() > give_up_s:
                raise HomeStartError(f"{verb[0]} did not come up (exit {process.poll()})")
            time.sleep(0.02)
        yield url_file.read_text().strip()
    finally:
        process.terminate()
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _at(root: Path) -> dict[str, str]:
    return {**os.environ, "ROADLOOP_HOME": str(root), "OMP_NUM_THREADS": "1"}
