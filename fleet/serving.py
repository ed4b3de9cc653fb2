"""Opens the door: one process per home, on one port, over TLS, until it is told to stop."""

import fcntl
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from fleet.gateway import make_app
from fleet.identity import Authority
from fleet.inbox import Summaries
from fleet.store import open_store
from fleet.tls import PeerProtocol, server_context
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.wire import RefusedError


class GatewayRunningError(RefusedError):
    """Two gateways would write to one landing zone."""


class PortTakenError(RefusedError):
    """The address cannot be listened on."""


def make_server(
    home: Home, app: Starlette, names: Sequence[str] = (), log_level: str = "critical"
) -> uvicorn.Server:
    """Return a server of `app` that asks for certificates of `home` and shows its own.

    Args:
        names: by which cars reach it, beside those of this machine.
        log_level: handshakes that fail are the other side's business: none is logged.
    """
    authority = Authority(home)
    certificate, key = authority.gateway_files(names)
    trusted = authority.certificate_path
    config = uvicorn.Config(
        app,
        http=PeerProtocol,
        ssl_context_factory=lambda *_: server_context(certificate, key, trusted),
        log_level=log_level,
        timeout_graceful_shutdown=3,
        lifespan="off",
    )
    return uvicorn.Server(config)


def serve(
    home: Home,
    host: str,
    port: int,
    url_file: Path | None = None,
    *,
    names: Sequence[str] = (),
    store_url: str = "",
) -> None:
    """Serve until ctrl-C or SIGTERM; print the address once it takes connections.

    Args:
        home: the run's folder.
        host, port: where to listen; port 0 takes a free one.
        url_file: the address is written here, whole, once the door is open.
        names: other names and addresses that cars know this host by.
        store_url: where clips land, s3://BUCKET/PREFIX; "" is the home's own folder.
    Raises:
        GatewayRunningError: another gateway serves this home.
        PortTakenError: the address cannot be listened on.
        StoreAddressError, StoreDownError: the store cannot be used.
    """
    with _alone(home):
        store = open_store(home, store_url)
        store.sweep()
        Summaries(home).sweep()
        listener = listen(host, port)
        shown = f"[{host}]" if ":" in host else host
        url = f"https://{shown}:{listener.getsockname()[1]}"
        server = make_server(home, make_app(home, store=store), (host, *names), "warning")
        print(f"gateway at {url} (ctrl-C stops it)", flush=True)
        if url_file is not None:
            wire.atomic_write(url_file, f"{url}\n".encode())
        try:
            with _calm_signals():
                server.run(sockets=[listener])
        finally:
            listener.close()
            if url_file is not None:
                url_file.unlink(missing_ok=True)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        PortTakenError: the address is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # TCP by name: asyncio sets TCP_NODELAY on no other, and then each answer with a body waits
    # 40 ms for the car's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortTakenError(f"{host}:{port}: {error.strerror}; try --port 0") from error
    listener.listen(128)
    return listener


def listen_alone(path: Path) -> socket.socket:
    """Return a socket that listens at a path, for this user alone; what a dead one left goes.

    Raises:
        PortTakenError: somebody listens there, or something else has the name.
    """
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise PortTakenError(f"{path}: somebody listens there already")
        path.unlink()
    listener, umask = socket.socket(socket.AF_UNIX), os.umask(0o077)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise PortTakenError(f"{path}: {error.strerror or error}") from error
    finally:
        os.umask(umask)
    listener.listen(16)
    return listener


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Hold the home's lock; it falls by itself when the process dies."""
    home.fleet.mkdir(parents=True, exist_ok=True)
    with (home.fleet / ".gateway.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise GatewayRunningError(
                f"a gateway serves {home.root} already; stop it or use another ROADLOOP_HOME"
            ) from error
        yield


@contextmanager
def _calm_signals() -> Iterator[None]:
    """Let uvicorn's shutdown be the end: it raises the signal once more when it is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = (signal.SIGINT, signal.SIGTERM)
    before = {s: signal.signal(s, lambda *_: None) for s in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
