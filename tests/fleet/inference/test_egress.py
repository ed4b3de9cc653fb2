"""A sealed process is called and calls nobody: tried from Python, from gRPC and from bare C."""

import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from site_parts import Echo, site

from fleet.inference.forward import beyond_of
from vehicle.contracts.wire import ContractError

HEAD = """
import ctypes, json, os, socket, struct, sys
port, door = int(sys.argv[1]), int(sys.argv[2])
from fleet.inference.egress import EgressRefusedError, seal
from fleet.inference.policy import Decision
def tell(**facts):
    print(json.dumps(facts))
def outcome(act):
    try:
        act()
    except Exception as error:
        return type(error).__name__
    return "reached"
"""


class Listener:
    """A real server that counts who reached it."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.reached = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                self.socket.accept()[0].close()
            except OSError:
                return
            self.reached += 1


@pytest.fixture
def outside() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.socket.close()


@pytest.fixture
def door() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.socket.close()


def told(code: str, outside: Listener, door: Listener) -> dict[str, object]:
    words = [sys.executable, "-c", HEAD + textwrap.dedent(code)]
    words += [str(outside.port), str(door.port)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    facts: dict[str, object] = json.loads(done.stdout)
    return facts


def test_what_python_code_tries_is_refused_by_name_and_counted(
    outside: Listener, door: Listener
) -> None:
    facts = told(
        """
        import asyncio, httpx
        guard = seal()
        there = ("127.0.0.1", port)
        tried = [
            outcome(lambda: socket.create_connection(there)),
            outcome(lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", there)),
            outcome(lambda: asyncio.run(asyncio.open_connection(*there))),
            outcome(lambda: httpx.get(f"http://127.0.0.1:{port}/")),
            outcome(lambda: socket.getaddrinfo("example.com", 443)),
        ]
        tell(tried=tried, refused=guard.refused)
        """,
        outside,
        door,
    )
    assert facts["tried"] == ["EgressRefusedError"] * 5
    assert facts["refused"] == {f"127.0.0.1:{outside.port}": 4, "the name example.com": 1}
    assert outside.reached == 0


def test_what_is_not_pythons_is_refused_by_the_kernel(outside: Listener, door: Listener) -> None:
    facts = told(
        """
        guard = seal([("127.0.0.1", door)])
        import grpc
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        try:
            channel.unary_unary("/x/y")(b"secret", timeout=2.0)
        except grpc.RpcError as error:
            code = error.code().name
        libc = ctypes.CDLL(None, use_errno=True)
        def connect(port):
            file = socket.socket().detach()
            address = struct.pack("=HHI8x", 2, socket.htons(port), 0x0100007F)
            libc.connect(file, address, len(address))
            return os.strerror(ctypes.get_errno()) if ctypes.get_errno() else "reached"
        tell(kernel=guard.kernel, grpc=code, outside=connect(port))
        """,
        outside,
        door,
    )
    if not str(facts["kernel"]).startswith("yes"):
        pytest.skip(f"this kernel does not guard: {facts['kernel']}")
    assert (facts["grpc"], facts["outside"]) == ("UNAVAILABLE", "Permission denied")
    assert outside.reached == 0


def test_a_door_opens_only_for_what_policy_lets_out(outside: Listener, door: Listener) -> None:
    facts = told(
        """
        guard = seal([("127.0.0.1", door)])
        there = ("127.0.0.1", door)
        go = Decision(allowed=True, name="allowed", reasons=(), digest="d")
        stay = Decision(allowed=False, name="EgressRefusedError", reasons=("pixels",), digest="d")
        def send(decision, to):
            with guard.through(decision):
                socket.create_connection(to)
        tried = [
            outcome(lambda: socket.create_connection(there)),
            outcome(lambda: send(stay, there)),
            outcome(lambda: send(go, ("127.0.0.1", port))),
            outcome(lambda: send(go, there)),
            outcome(lambda: socket.create_connection(there)),
        ]
        tell(tried=tried, refused=sum(guard.refused.values()))
        """,
        outside,
        door,
    )
    assert facts["tried"] == ["EgressRefusedError"] * 3 + ["reached", "EgressRefusedError"]
    assert facts["refused"] == 4
    assert (outside.reached, door.reached) == (0, 1)


def test_a_sealed_process_still_answers(outside: Listener, door: Listener) -> None:
    code = """
        guard = seal()
        server = socket.create_server(("127.0.0.1", 0))
        print(server.getsockname()[1], flush=True)
        server.accept()[0].sendall(b"here")
        """
    words = [sys.executable, "-c", HEAD + textwrap.dedent(code), "0", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with socket.create_connection(("127.0.0.1", int(process.stdout.readline()))) as reached:
            assert reached.recv(10) == b"here"
    assert process.returncode == 0


FORWARDING = """
import asyncio
from dataclasses import replace
from site_parts import ask, tensors
from fleet.inference.egress import EgressRefusedError
from fleet.inference.forward import beyond_of, forwarded
from fleet.inference.policy import Policy, Site
from vehicle.clock import SystemClock
guard = seal([("127.0.0.1", door)])
yard = Site(name="yard", context="on-prem", jurisdiction="DE")
async def main():
    way = forwarded(beyond_of(f"echo=region@127.0.0.1:{door},FR"), home=yard,
                    policy=Policy.default(), guard=guard, clock=SystemClock())
    told = []
    async with way as model:
        for data_class in ("anonymised", "pixels", "features", "personal"):
            try:
                outputs = await model.infer(tensors(), ask(data_class=data_class))
                told.append(len(outputs["x"]))
            except EgressRefusedError as error:
                told.append(str(error).partition(":")[0])
        socket_tried = outcome(lambda: socket.create_connection(("127.0.0.1", door)))
    tell(told=told, refused=guard.refused, tried=socket_tried)
asyncio.run(main())
"""


def test_a_sealed_site_forwards_what_tells_of_nobody_and_nothing_else() -> None:
    model = Echo()
    with site(model) as served:
        words = [sys.executable, "-c", HEAD + FORWARDING, "0", str(served.http_port)]
        root = Path(__file__).parents[3]
        environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}"}
        done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["told"] == [3, "EgressRefusedError", 3, "EgressRefusedError"]
    assert facts["refused"] == {"EgressRefusedError": 2, f"127.0.0.1:{served.http_port}": 1}
    assert facts["tried"] == "EgressRefusedError"
    assert [r.data_class for r in model.asked if r] == ["anonymised", "features"]


def test_what_names_no_model_elsewhere_is_refused() -> None:
    for text in ("echo", "echo=region@127.0.0.1:x,FR", "echo=region@127.0.0.1:1,France"):
        with pytest.raises(ContractError):
            beyond_of(text)
