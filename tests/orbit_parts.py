"""A small relay on this machine, over real sockets and files: what tests of nodes share."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from fleet.orbit.agent import Agent
from fleet.orbit.node import Node
from fleet.orbit.node_config import NodeConfig
from fleet.orbit.plan import Contact, ContactPlan, PlanNode
from fleet.orbit.store import Store
from vehicle.clock import SystemClock
from vehicle.contracts import wire

S = 10**9
SECRET = "5e" * 32


def open_plan(*ways, kinds=None, hours=1.0, rate_bps=80_000_000, start_s=-60.0):
    """Return a plan from now on: `ways` are (from, to) heard both ways all the time, or
    (from, to, start_s, end_s)."""
    now = SystemClock().utc_ns()
    kinds = kinds or {}
    names = list(dict.fromkeys(n for way in ways for n in way[:2]))
    nodes = tuple(
        PlanNode(
            name=n,
            number=i,
            kind=kinds.get(n, ("satellite", ""))[0],
            country=kinds.get(n, ("satellite", ""))[1],
        )
        for i, n in enumerate(names, start=1)
    )
    contacts = []
    for a, b, *span in ways:
        start, end = span or (start_s, hours * 3_600.0)
        for source, target in ((a, b), (b, a)):
            contacts.append(
                Contact(
                    source=source,
                    target=target,
                    start_utc_ns=now + int(start * S),
                    end_utc_ns=now + int(end * S),
                    rate_bps=rate_bps,
                    light_us=2_000,
                )
            )
    return ContactPlan(
        name="test",
        start_utc_ns=now - 3_600 * S,
        end_utc_ns=now + int(hours * 3_600 * S),
        nodes=nodes,
        contacts=tuple(sorted(contacts, key=lambda c: c.start_utc_ns)),
    )


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Relay:
    """Nodes of a plan, each in a thread of this process or in a process of its own.

    Args:
        folder: everything is in it.
        plan: who there is.
        keyed: pairs of nodes that share a secret.
        changes: fields of NodeConfig, by node.
        apart: a process for each, that can be killed.
    """

    def __init__(
        self, folder: Path, plan: ContactPlan, keyed=(), changes=None, apart=False
    ) -> None:
        self.apart, self.threads = apart, {}
        self.folder, self.plan = folder, plan
        wire.atomic_write(folder / "plan.json", wire.to_bytes(plan))
        names = [n.name for n in plan.nodes]
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        number = {n.name: str(n.number) for n in plan.nodes}
        self.configs, self.processes = {}, {}
        for name in names:
            shared = [b if a == name else a for a, b in keyed if name in (a, b)]
            keys = folder / f"{name}.keys"
            wire.atomic_write(keys, wire.canonical({number[o]: SECRET for o in shared}))
            facts = {
                "name": name,
                "plan": str(folder / "plan.json"),
                "store": str(folder / f"{name}.db"),
                "listen": f"127.0.0.1:{ports[name]}",
                "door": str(folder / f"{name}.sock"),
                "peers": {o: f"127.0.0.1:{p}" for o, p in ports.items() if o != name},
                "keys": str(keys) if shared else "",
            }
            self.configs[name] = NodeConfig(**(facts | (changes or {}).get(name, {})))
            path = folder / f"{name}.json"
            wire.atomic_write(path, wire.to_bytes(self.configs[name]))

    def start(self, *names: str) -> None:
        """Start nodes (all), and wait until they are open."""
        names = names or tuple(self.configs)
        for name in names:
            (self.folder / f"{name}.ready").unlink(missing_ok=True)
            (self._spawn if self.apart else self._run)(name)
        give_up = time.monotonic() + 30.0
        for name in names:
            while not (self.folder / f"{name}.ready").exists():
                assert time.monotonic() < give_up, f"{name} did not open"
                time.sleep(0.01)

    def _spawn(self, name: str) -> None:
        command = [sys.executable, "-m", "roadloop", "fleet", "orbit", "node"]
        paths = [str(self.folder / f"{name}.{end}") for end in ("json", "ready")]
        self.processes[name] = subprocess.Popen(
            [*command, paths[0], "--ready-file", paths[1]],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def _run(self, name: str) -> None:
        started = threading.Event()

        async def serve() -> None:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            self.threads[name] = (loop, task, threading.current_thread())
            started.set()
            await Node(self.configs[name]).run((self.folder / f"{name}.ready").touch)

        def body() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                asyncio.run(serve())

        threading.Thread(target=body, name=name).start()
        started.wait(10)

    def kill(self, name: str) -> None:
        """kill -9."""
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait(10)

    def agent(self, name: str, service: int = 1, **more) -> Agent:
        return Agent(self.configs[name].door, service, **more)

    def eid(self, name: str, service: int = 1) -> str:
        return f"ipn:{self.plan.node(name).number}.{service}"

    def counts(self, name: str) -> dict[str, int]:
        return Store.peek(Path(self.configs[name].store)).counts()

    def held(self, name: str, state: str) -> int:
        return len(Store.peek(Path(self.configs[name].store)).held(state))

    def counted(self, name: str, what: str, n: int = 1, timeout_s: float = 15.0) -> bool:
        """Wait until a node has counted something `n` times."""
        end = time.monotonic() + timeout_s
        while self.counts(name).get(what, 0) < n and time.monotonic() < end:
            time.sleep(0.02)
        return self.counts(name).get(what, 0) >= n

    def log(self, name: str):
        return Store.peek(Path(self.configs[name].store)).log()

    def __enter__(self) -> "Relay":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        for loop, task, _thread in self.threads.values():
            loop.call_soon_threadsafe(task.cancel)
        for _loop, _task, thread in self.threads.values():
            thread.join(10)
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def take(agent: Agent, count: int, timeout_s: float = 20.0):
    """Take `count` bundles."""
    found = []
    end = time.monotonic() + timeout_s
    while len(found) < count and time.monotonic() < end:
        one = agent.receive(timeout_s=max(0.01, end - time.monotonic()))
        if one is not None:
            agent.taken()
            found.append(one)
    return found
