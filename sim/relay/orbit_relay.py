"""The relay's nodes as processes of this machine, each with an identity, to be killed at will."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from fleet.orbit.eid import Eid
from fleet.orbit.mission import Course
from fleet.orbit.node_config import NodeConfig
from fleet.orbit.node_identity import issue
from fleet.orbit.plan import ContactPlan
from fleet.orbit.store import Entry, Store
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.wire import RefusedError

OPEN_S: Final = 60.0
TOLERANCE_S: Final = 120.0
"""How far the nodes' clocks may be apart, s of mission time: where hours pass in seconds, a process
that is pre-empted for a moment is a minute late."""


class NodeFailedError(RefusedError):
    """A node ended, or did not open."""


class RelayProcesses:
    """A process for each node of a plan, speaking TCPCLv4 over TLS.

    Args:
        folder: everything of them is in it.
        plan: who there is.
        home: whose authority names the nodes.
        shared: pairs of nodes that share a secret.
    """

    def __init__(
        self, folder: Path, plan: ContactPlan, home: Home, shared: Iterable[tuple[str, str]]
    ) -> None:
        self._folder, self._plan, pairs = folder, plan, list(shared)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        wire.atomic_write(folder / "plan.json", wire.to_bytes(plan))
        ports = _free_ports(len(plan.nodes))
        address = {n.name: f"127.0.0.1:{p}" for n, p in zip(plan.nodes, ports, strict=True)}
        secret = {frozenset(pair): secrets.token_hex(32) for pair in pairs}
        for node in plan.nodes:
            keys = {
                str(plan.node(other).number): text
                for pair, text in secret.items()
                if node.name in pair
                for other in pair - {node.name}
            }
            at = folder / node.name
            issue(home, Eid.parse(node.eid), at / "identity")
            wire.atomic_write(at / "keys.json", wire.canonical(keys))
            config = NodeConfig(
                name=node.name,
                plan=str(folder / "plan.json"),
                store=str(at / "bundles.db"),
                listen=address[node.name],
                door=self.door(node.name),
                peers={n: a for n, a in address.items() if n != node.name},
                keys=str(at / "keys.json"),
                tls=str(at / "identity"),
                course=str(folder / "course.json"),
                tolerance_s=TOLERANCE_S,
            )
            wire.atomic_write(at / "node.json", wire.to_bytes(config))

    def door(self, name: str) -> str:
        """Return the address of a node's door: a path short enough for a socket."""
        return str(self._folder / f"{name}.s")

    def set_course(self, course: Course) -> None:
        """Say how mission time runs, before the nodes start."""
        wire.atomic_write(self._folder / "course.json", wire.to_bytes(course))

    def start(self, *names: str) -> None:
        """Start nodes (all), and wait until they are open."""
        chosen = names or tuple(n.name for n in self._plan.nodes)
        for name in chosen:
            at = self._folder / name
            (at / "ready").unlink(missing_ok=True)
            command = [sys.executable, "-m", "roadloop", "fleet", "orbit", "node"]
            with (at / "out.txt").open("ab") as out:
                self._running[name] = subprocess.Popen(
                    [*command, str(at / "node.json"), "--ready-file", str(at / "ready")],
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                    stdout=out,
                    stderr=out,
                )
        give_up = time.monotonic() + OPEN_S
        for name in chosen:
            while not (self._folder / name / "ready").is_file():
                ended = self._running[name].poll() is not None
                if ended or time.monotonic() > give_up:
                    said = (self._folder / name / "out.txt").read_text()[-800:]
                    raise NodeFailedError(f"node {name} {'ended' if ended else 'hangs'}: {said}")
                time.sleep(0.01)

    def kill(self, name: str) -> None:
        """kill -9 a node."""
        self._running[name].send_signal(signal.SIGKILL)
        self._running[name].wait(10)

    def log(self, name: str) -> list[Entry]:
        """Return what a node has noted, also before it was killed."""
        return Store.peek(self._folder / name / "bundles.db").log()

    def counts(self, name: str) -> dict[str, int]:
        """Return what a node has counted."""
        return Store.peek(self._folder / name / "bundles.db").counts()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in self._running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(s.getsockname()[1]) for s in held]
    for s in held:
        s.close()
    return ports
