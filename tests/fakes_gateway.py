"""The fleet's own door on a free port of this machine."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from fleet.gateway import make_app
from vehicle.contracts.home import Home


@contextmanager
def gateway(home: Home) -> Iterator[str]:
    """Run the fleet's own door on a free port of this machine."""
    config = uvicorn.Config(make_app(home), port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([door],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(5)
