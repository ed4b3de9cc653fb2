"""The load beside a measured loop: the car's own processes, and a home that takes its clips."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
    with _home(scratch / "home", scratch / CAR / IDENTITY) as url:
        setup = CarSetup(
            folder=scratch / CAR,
            rig=RIG_R,
            rate_hz=rate_hz,
            car_id=CAR,
            route_id="bench",
            model=bundles.load(bundle).tag,
            tags=tags or {},
            campaigns=(campaign,),
            shadow=bundle,
            gateway=url,
        )
        with Car(setup) as car:
            yield car


@contextmanager
def _home(root: Path, identity: Path) -> Iterator[str]:
    """Run a home in a process of its own, with the car enrolled; yield its address."""
    url_file = root / "url"
    Home(root).fleet.mkdir(parents=True)
    environment = {**os.environ, "ROADLOOP_HOME": str(root), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "roadloop", "fleet"]
    enrol = [*words, "enrol", CAR, "--out", str(identity)]
    done = subprocess.run(enrol, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise HomeStartError(f"the car could not be enrolled: {done.stderr.strip()}")
    serve = [*words, "serve", "--port", "0", "--url-file", str(url_file)]
    process = subprocess.Popen(
        serve, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        give_up_s = time.monotonic() + HOME_START_S
        while not url_file.is_file():
            if process.poll() is not None or time.monotonic() > give_up_s:
                raise HomeStartError(f"the gateway did not come up (exit {process.poll()})")
            time.sleep(0.02)
        yield url_file.read_text().strip()
    finally:
        process.terminate()
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
