"""The fleet's own door on a free port of this machine, and cars enrolled at it."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from fleet.gateway import Limits, make_app
from fleet.identity import enrol
from fleet.serving import listen, make_server
from fleet.store import Store
from vehicle.contracts.home import Home
from vehicle.contracts.uplink import CAR_CERTIFICATE, CAR_KEY, HOME_CERTIFICATE, IDENTITY


def enrol_car(home: Home, car_id: str = "car-1", *, renew: bool = False) -> Path:
    """Enrol a car; return the folder of its identity."""
    folder = home.car(car_id) / IDENTITY
    enrol(home, car_id, "", folder, renew=renew)
    return folder


def client(identity: Path, url: str = "") -> httpx.Client:
    """Return a client that shows a car's certificate and believes its home alone."""
    context = ssl.create_default_context(cafile=identity / HOME_CERTIFICATE)
    context.load_cert_chain(identity / CAR_CERTIFICATE, identity / CAR_KEY)
    return httpx.Client(base_url=url, verify=context, trust_env=False, timeout=20.0)


@contextmanager
def gateway(home: Home, limits: Limits | None = None, store: Store | None = None) -> Iterator[str]:
    """Run the fleet's own door on a free port of this machine."""
    server = make_server(home, make_app(home, limits, store))
    with listen("127.0.0.1", 0) as door:
        thread = threading.Thread(target=server.run, args=([door],), daemon=True)
        thread.start()
        try:
            yield f"https://127.0.0.1:{door.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(5)
