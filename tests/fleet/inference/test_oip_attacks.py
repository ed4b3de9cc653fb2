"""What a site refuses, by which name, and that it is counted; and that others do not notice."""

import asyncio
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from fakes_gateway import client as http_client
from fakes_gateway import enrol_car
from site_parts import Echo, ask, client, site, tensors

from fleet.inference import client as clients
from fleet.inference.client import AsyncClient, ClientTls, SiteRefusedError, UnreachableSiteError
from fleet.inference.oip_messages import SERVICE
from fleet.inference.policy import Policy, Site
from fleet.inference.queue import Limits
from fleet.inference.receipts import Receipts, check
from fleet.inference.server import Served, SiteTls
from fleet.inference.tenants import MOST_READING, Tenant
from fleet.registry import Registry
from vehicle.clock import FakeClock, SystemClock
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.inference import MAX_TENSOR_BYTES, PARAMETER

MINUTE_NS = 60 * 10**9


def refused(served: Served, request: Any, inputs: Any = None) -> SiteRefusedError:
    """Return how a site refuses a request."""
    with client(served) as open_client, pytest.raises(SiteRefusedError) as error:
        open_client.infer("echo", inputs or tensors(), request, 5.0)
    return error.value


@pytest.fixture(scope="module")
def door() -> Iterator[Served]:
    """One site for all who are refused without a trace."""
    with site(Echo()) as served:
        yield served


@contextmanager
def counted(served: Served, *names: str) -> Iterator[None]:
    """Hold that a block adds these refusals to the counts, and nothing is answered."""
    before, answered = Counter(served.stats.refusals()), dict(served.stats.answered)
    yield
    assert Counter(served.stats.refusals()) - before == Counter(names)
    assert dict(served.stats.answered) == answered


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that another thread brings about, 10 s at most."""
    for _ in range(500):
        if holds():
            return
        time.sleep(0.02)


def shifted(by_ns: int) -> Any:
    """Return a request of a car whose clock is off."""
    right = ask()
    times = {n: getattr(right, n) + by_ns for n in ("input_utc_ns", "deadline_utc_ns")}
    return ask(**times)


@pytest.mark.parametrize(
    ("request_", "name", "status"),
    [
        (lambda: ask(age_s=2.0, lasts_s=1.5), "LateRequestError", "DEADLINE"),
        (lambda: ask(age_s=2.0, freshness_s=1.0), "StaleInputError", "FAILED"),
        (lambda: shifted(MINUTE_NS), "ClockError", "FAILED"),
        (lambda: shifted(-MINUTE_NS), "StaleInputError", "FAILED"),
        (lambda: ask(lasts_s=8 * 86_400), "ClockError", "FAILED"),
        (lambda: ask(size_budget_bytes=10), "OverBudgetError", "FAILED"),
        (lambda: ask(model="another"), "MalformedRequestError", "INVALID"),
    ],
    ids=["late", "stale", "minute ahead", "minute behind", "far deadline", "budget", "model"],
)
def test_request_out_of_bounds_is_refused_by_name(
    door: Served, request_: Any, name: str, status: str
) -> None:
    with counted(door, name):
        error = refused(door, request_())
    assert error.name == name
    assert error.status.startswith(status)


def test_answer_over_the_byte_budget_is_not_sent(door: Served) -> None:
    request = ask(size_budget_bytes=1_100_000)
    with counted(door, "OverBudgetError"):
        error = refused(door, request, tensors(250_000))
    assert error.name == "OverBudgetError"


def test_answer_over_the_energy_budget_is_not_worked_on() -> None:
    echo = Echo(says_us=10_000)
    with site(echo, joules=lambda us, size_bytes: us * 1e-6 * 50.0) as served:
        error = refused(served, ask(joules=0.1))
        with client(served) as open_client:
            _, reply = open_client.infer("echo", tensors(), ask(joules=0.6), 5.0)
    assert error.name == "OverBudgetError"
    assert len(echo.asked) == 1
    assert reply is not None
    assert reply.joules > 0.0
    assert reply.joules_source == "modelled"


def test_replayed_request_is_refused_also_while_the_first_one_runs() -> None:
    echo, request = Echo(takes_s=0.3), ask()

    async def both(port: int) -> list[Any]:
        async with AsyncClient(f"127.0.0.1:{port}") as open_client:
            each = [open_client.infer("echo", tensors(), request, 5.0) for _ in range(2)]
            return await asyncio.gather(*each, return_exceptions=True)

    with site(echo, at_once=2) as served:
        answers = asyncio.run(both(served.grpc_port))
        again = refused(served, request)
    replays = [a for a in answers if isinstance(a, SiteRefusedError)]
    assert [r.name for r in replays] == ["ReplayedRequestError"]
    assert again.status == "ALREADY_EXISTS"
    assert len(echo.asked) == 1


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        ({"x": np.zeros(3, np.float32)}, "found inputs"),
        ({**tensors(), "y": np.zeros(1, np.float32)}, "found inputs"),
        ({**tensors(), "x": np.zeros(3, np.float64)}, "expected 'FP32'"),
        ({**tensors(), "x": np.zeros((1, 3), np.float32)}, "expected 'FP32'"),
    ],
    ids=["missing", "unknown", "type", "axes"],
)
def test_inputs_that_the_model_does_not_take_are_refused(
    door: Served, inputs: Any, match: str
) -> None:
    with counted(door, "MalformedRequestError"):
        error = refused(door, ask(), inputs)
    assert (error.name, error.status) == ("MalformedRequestError", "INVALID_ARGUMENT")
    assert match in error.reason


@pytest.mark.parametrize("data", [b"\xff\xff", b"", b"\x0a\xff"], ids=["junk", "empty", "cut"])
def test_bytes_that_are_no_message_are_refused(door: Served, data: bytes) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{door.grpc_port}") as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary(f"/{SERVICE}/ModelInfer")(data, timeout=5.0)
        assert error.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{", "SchemaError"),
        ('{"schema":"inference/1"}', "ContractError"),
        ("x" * 20_000, "OversizedRequestError"),
    ],
    ids=["cut", "empty", "large"],
)
def test_request_inside_the_parameter_that_is_none_is_refused(
    door: Served, text: str, name: str
) -> None:
    body = {"parameters": {PARAMETER: text}, "inputs": []}
    with counted(door, name):
        assert post(door, json=body).status_code in (400, 413)


def post(served: Served, path: str = "/v2/models/echo/infer", **words: Any) -> httpx.Response:
    return httpx.post(f"http://127.0.0.1:{served.http_port}{path}", timeout=10.0, **words)


@pytest.mark.parametrize(
    ("body", "headers", "status", "name"),
    [
        (b"{", {}, 400, "MalformedRequestError"),
        (b"[" * 5_000, {}, 400, "MalformedRequestError"),
        (b"[]", {}, 400, "MalformedRequestError"),
        (b'{"inputs": 3}', {}, 400, "MalformedRequestError"),
        (b'{"inputs": [{"name": "x", "shape": [1.5]}]}', {}, 400, "MalformedRequestError"),
        (b"{}", {"Inference-Header-Content-Length": "9"}, 400, "MalformedRequestError"),
        (b"{}", {"Inference-Header-Content-Length": "-1"}, 400, "MalformedRequestError"),
        (b"{}xx", {"Inference-Header-Content-Length": "2"}, 400, "MalformedRequestError"),
        (b" " * (1 << 20) + b"{}", {}, 413, "OversizedRequestError"),
        (b"\x1f\x8b", {"Content-Encoding": "gzip"}, 415, "UnsupportedError"),
    ],
    ids=[
        *("cut", "deep", "list", "inputs", "shape", "head size", "negative", "rest"),
        *("much JSON", "compressed"),
    ],
)
def test_body_that_is_no_request_is_refused_by_name(
    door: Served, body: bytes, headers: dict[str, str], status: int, name: str
) -> None:
    with counted(door, name):
        answer = post(door, content=body, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("entry", "status"),
    [
        ({"parameters": {"binary_data_size": 4}}, 400),
        ({"parameters": {"binary_data_size": -4}}, 400),
        ({"parameters": {"shared_memory_region": "r"}}, 415),
        ({}, 400),
        ({"data": ["a"]}, 400),
        ({"data": [1.0, 2.0]}, 400),
        ({"shape": [-1], "data": [1.0]}, 400),
        ({"shape": [1 << 40], "data": [1.0]}, 413),
        ({"datatype": "COMPLEX", "data": [1.0]}, 400),
    ],
    ids=["short", "negative", "shared", "none", "text", "count", "shape", "huge", "type"],
)
def test_tensor_that_is_none_is_refused(door: Served, entry: dict[str, Any], status: int) -> None:
    x = {"name": "x", "shape": [1], "datatype": "FP32"} | entry
    words = {"name": "words", "shape": [0], "datatype": "BYTES", "data": []}
    assert post(door, json={"inputs": [x, words]}).status_code == status


def test_oversized_body_is_refused_before_it_is_read(door: Served) -> None:
    with (
        counted(door, "OversizedRequestError"),
        socket.create_connection(("127.0.0.1", door.http_port)) as line,
    ):
        line.sendall(
            b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\n"
            b"Content-Length: %d\r\n\r\n" % (MAX_TENSOR_BYTES + 1)
        )
        line.settimeout(5.0)
        answer = line.recv(4_096)
        assert b"413" in answer.split(b"\r\n")[0]


def test_connection_lives_on_after_a_refusal(door: Served) -> None:
    x = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}
    words = {"name": "words", "shape": [0], "datatype": "BYTES", "data": []}
    late = {PARAMETER: wire.to_bytes(ask(age_s=2.0, lasts_s=1.5)).decode()}
    with httpx.Client(base_url=f"http://127.0.0.1:{door.http_port}") as http:
        path = "/v2/models/echo/infer"
        refusal = http.post(path, json={"inputs": [x, words], "parameters": late})
        assert refusal.status_code == 504
        assert "connection" not in refusal.headers
        assert http.post(path, json={"inputs": [x, words]}).status_code == 200


def test_oversized_chunks_are_refused_as_soon_as_they_are_too_many(door: Served) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield bytes(1 << 20)

    with counted(door, "OversizedRequestError"):
        try:
            status = post(door, content=chunks()).status_code
        except httpx.TransportError:
            status = 413  # the site hung up while we were still sending
        assert status == 413


def test_oversized_message_is_cut_off_by_grpc_and_counted(door: Served) -> None:
    big = {"x": np.zeros((MAX_TENSOR_BYTES >> 2) + (1 << 20), np.float32)}
    with client(door) as open_client:
        with counted(door, "MalformedRequestError"), pytest.raises(clients.SiteError):
            open_client.infer("echo", tensors() | big, ask(), 10.0)
        outputs, _ = open_client.infer("echo", tensors(), ask(), 5.0)
        assert outputs["x"].size == 3


def test_message_a_little_too_large_is_refused_by_name(door: Served) -> None:
    inputs = {"x": np.zeros(MAX_TENSOR_BYTES >> 2, np.float32)}
    with counted(door, "OversizedRequestError"):
        error = refused(door, ask(), tensors() | inputs)
    assert (error.name, error.status) == ("OversizedRequestError", "INVALID_ARGUMENT")


class Fleets:
    """Two fleets with their own authorities, and a site that serves both."""

    def __init__(self, root: Path) -> None:
        self.homes = {n: Home(root / n) for n in ("home", "other")}
        self.identities = {n: enrol_car(home) for n, home in self.homes.items()}
        own = SiteTls.of_home(self.homes["home"])
        files = {n: i / "home.crt" for n, i in self.identities.items()}
        both = root / "both.pem"
        both.write_bytes(b"".join(f.read_bytes() for f in files.values()))
        self.tls = SiteTls(certificate=own.certificate, key=own.key, authorities=both)
        self.tenants = [
            Tenant(name=n, authority=str(files[n]), home=str(home.root), rate_per_s=20, burst=20)
            for n, home in self.homes.items()
        ]

    def shows(self, name: str) -> ClientTls:
        """Return what a car of a fleet shows; it believes the site's home."""
        mine = ClientTls.of_identity(self.identities[name])
        authority = (self.identities["home"] / "home.crt").read_bytes()
        return ClientTls(certificate=mine.certificate, key=mine.key, authority=authority)


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> Fleets:
    return Fleets(tmp_path_factory.mktemp("fleets"))


@pytest.mark.parametrize(
    "claimed", [{"tenant": "other"}, {"car_id": "car-2"}], ids=["tenant", "car"]
)
def test_request_that_names_another_than_its_certificate_is_forged(
    fleets: Fleets, claimed: dict[str, str]
) -> None:
    with (
        site(Echo(), tls=fleets.tls, tenants=fleets.tenants) as served,
        client(served, fleets.shows("home")) as open_client,
    ):
        with pytest.raises(SiteRefusedError) as error:
            open_client.infer("echo", tensors(), ask(**claimed), 5.0)
        assert (error.value.name, error.value.status) == ("ForgedRequestError", "PERMISSION_DENIED")
        assert served.stats.plain()["refused"] == {"ForgedRequestError home": 1}


def test_certificate_of_nobody_here_does_not_get_past_the_handshake(
    fleets: Fleets, tmp_path: Path
) -> None:
    stranger = ClientTls.of_identity(enrol_car(Home(tmp_path)))
    shown = ClientTls(
        certificate=stranger.certificate,
        key=stranger.key,
        authority=fleets.shows("home").authority,
    )
    with site(Echo(), tls=fleets.tls, tenants=fleets.tenants) as served:
        for tls in (shown, None):
            with client(served, tls) as open_client, pytest.raises(UnreachableSiteError):
                open_client.infer("echo", tensors(), ask(), 3.0)
        plain = httpx.Client(base_url=f"http://127.0.0.1:{served.http_port}", timeout=3.0)
        with plain, pytest.raises(httpx.TransportError):
            plain.get("/v2/health/live")
        assert served.stats.answered == {}


def test_revoked_car_is_shut_out_at_once(tmp_path: Path) -> None:
    fleets = Fleets(tmp_path)
    with (
        site(Echo(), tls=fleets.tls, tenants=fleets.tenants) as served,
        client(served, fleets.shows("home")) as open_client,
    ):
        open_client.infer("echo", tensors(), ask(), 5.0)
        Registry(fleets.homes["home"]).revoke("car-1")
        with pytest.raises(SiteRefusedError, match=r"'car-1' was revoked") as error:
            open_client.infer("echo", tensors(), ask(), 5.0)
        with http_client(
            fleets.identities["home"], f"https://127.0.0.1:{served.http_port}"
        ) as http:
            assert http.get("/v2/health/ready").status_code == 401
    assert (error.value.name, error.value.status) == ("UnknownCallerError", "UNAUTHENTICATED")


def test_flood_of_one_tenant_leaves_the_others_answers_in_time(fleets: Fleets) -> None:
    echo, stop, names = Echo(takes_s=0.005), threading.Event(), []

    def flood(served: Served) -> None:
        with client(served, fleets.shows("other")) as flooder:
            while not stop.is_set():
                try:
                    flooder.infer("echo", tensors(), ask(tenant="other", lasts_s=0.05), 1.0)
                except clients.SiteError as error:
                    names.append(getattr(error, "name", ""))

    with site(echo, tls=fleets.tls, tenants=fleets.tenants) as served:
        threads = [threading.Thread(target=flood, args=(served,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        with client(served, fleets.shows("home")) as open_client:
            answers = []
            for _ in range(15):
                answers.append(open_client.infer("echo", tensors(), ask(lasts_s=3.0), 5.0))
                time.sleep(0.05)
        stop.set()
        for thread in threads:
            thread.join(5)
        refused_names = served.stats.plain()["refused"]
    assert len(answers) == 15
    assert refused_names["TooManyRequestsError other"] > 20
    assert not any(name.endswith(" home") for name in refused_names)
    late = {"WontFinishError", "DroppedError", "LateRequestError", "LateAnswerError"}
    assert set(names) <= {"TooManyRequestsError", *late}


def test_bodies_that_never_come_are_only_so_many_of_a_tenant(fleets: Fleets) -> None:
    folder = fleets.identities["other"]
    context = ssl.create_default_context(cafile=folder / "home.crt")
    context.load_cert_chain(folder / "car.crt", folder / "car.key")
    context.load_verify_locations(fleets.identities["home"] / "home.crt")
    tenants = [replace(t, rate_per_s=500.0, burst=500.0) for t in fleets.tenants]
    lines = []
    with site(Echo(), tls=fleets.tls, tenants=tenants) as served:
        for _ in range(MOST_READING + 1):
            line = context.wrap_socket(
                socket.create_connection(("127.0.0.1", served.http_port)),
                server_hostname="localhost",
            )
            line.sendall(
                b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
            )
            lines.append(line)
        lines[-1].settimeout(5.0)
        assert b"429" in lines[-1].recv(4_096).split(b"\r\n")[0]
        with client(served, fleets.shows("home")) as open_client:
            open_client.infer("echo", tensors(), ask(), 5.0)
        for line in lines:
            line.close()


def test_tenant_sees_its_own_counts_and_nobody_elses(fleets: Fleets) -> None:
    with site(Echo(), tls=fleets.tls, tenants=fleets.tenants) as served:
        with client(served, fleets.shows("other")) as open_client:
            open_client.infer("echo", tensors(), ask(tenant="other"), 5.0)
        url = f"https://127.0.0.1:{served.http_port}"
        with http_client(fleets.identities["home"], url) as http:
            text = http.get("/metrics").text
        assert "roadloop_waiting 0" in text
        assert "other" not in text
        assert 'tenant="other"' in served.stats.text(0)


def test_client_that_hangs_up_frees_its_turn(tmp_path: Path) -> None:
    echo = Echo(takes_s=9.0)

    async def hang_up(port: int) -> None:
        async with AsyncClient(f"127.0.0.1:{port}") as open_client:
            call = asyncio.create_task(open_client.infer("echo", tensors(), ask()))
            while not echo.asked:
                await asyncio.sleep(0.01)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    receipts = Receipts(tmp_path / "r", site="edge-1", clock=SystemClock())
    with receipts, site(echo, receipts=receipts) as served:
        asyncio.run(hang_up(served.grpc_port))
        body = {
            "inputs": [
                {"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]},
                {"name": "words", "shape": [0], "datatype": "BYTES", "data": []},
            ]
        }
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"http://127.0.0.1:{served.http_port}/v2/models/echo/infer",
                json=body,
                timeout=0.3,
            )
        for _ in range(100):
            if echo.cancelled == 2:
                break
            time.sleep(0.02)
        assert (echo.cancelled, served.stats.gone) == (2, 2)
        echo.takes_s = echo.says_us = 0
        with client(served) as open_client:
            open_client.infer("echo", tensors(), ask(), 5.0)
    assert check(tmp_path / "r").decisions == {"gone": 2, "allowed": 1}


def test_site_that_closes_answers_who_was_let_in_and_nobody_else() -> None:
    echo, answers = Echo(takes_s=0.4), []

    def one(served: Served) -> None:
        with client(served) as open_client:
            try:
                answers.append(open_client.infer("echo", tensors(), ask(), 5.0))
            except clients.SiteError as error:
                answers.append(error)

    with site(echo) as served:
        threads = [threading.Thread(target=one, args=(served,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: (len(echo.asked), served.desk.turns.waiting) == (1, 2))
        late = threading.Timer(0.2, one, args=(served,))
        late.start()
    for thread in (*threads, late):
        thread.join(5)
    refusals = [a for a in answers if isinstance(a, clients.SiteError)]
    assert len(answers) == 4
    assert len(refusals) == 1
    assert len(echo.asked) == 3


def test_policy_refuses_by_its_own_name_and_leaves_a_receipt(tmp_path: Path) -> None:
    orbit = Site(name="edge-1", context="edge", jurisdiction="US")
    with Receipts(tmp_path / "r", site="edge-1", clock=SystemClock()) as receipts:
        options = {"site": orbit, "policy": Policy.default(), "receipts": receipts}
        with site(Echo(), **options) as served:
            error = refused(served, ask(data_class="personal", jurisdiction="DE"))
            undeclared = refused(served, None)
    assert (error.name, error.status) == ("PolicyRefusedError", "PERMISSION_DENIED")
    assert error.reason.startswith("ResidencyError: ")
    assert undeclared.reason.startswith("UndeclaredDataError: ")
    assert check(tmp_path / "r").decisions == {"ResidencyError": 1, "UndeclaredDataError": 1}


def test_model_that_breaks_is_the_sites_fault_and_holds_up_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    echo = Echo(spoil=ZeroDivisionError("secret"))
    with site(echo) as served:
        error = refused(served, ask())
        assert (error.name, error.status) == ("ModelFailedError", "INTERNAL")
        assert "secret" not in error.reason
        assert "secret" in caplog.text
        echo.spoil = wire.ContractError("inputs make no sense")
        assert refused(served, ask()).name == "ContractError"
        echo.spoil = None
        with client(served) as open_client:
            open_client.infer("echo", tensors(), ask(), 5.0)


def test_answer_that_is_not_ready_at_its_deadline_is_not_sent() -> None:
    echo = Echo(takes_s=9.0, says_us=1_000)
    with site(echo) as served:
        error = refused(served, ask(lasts_s=0.8))
    assert (error.name, error.status) == ("LateAnswerError", "DEADLINE_EXCEEDED")
    assert echo.cancelled == 1


def test_work_that_would_come_too_late_is_not_begun() -> None:
    echo = Echo(says_us=3_000_000)
    with site(echo) as served:
        error = refused(served, ask(lasts_s=2.0))
    assert (error.name, error.status) == ("WontFinishError", "DEADLINE_EXCEEDED")
    assert echo.asked == []


def test_more_than_may_wait_are_refused() -> None:
    async def crowd(port: int) -> list[Any]:
        async with AsyncClient(f"127.0.0.1:{port}") as open_client:
            each = [open_client.infer("echo", tensors(), ask(), 5.0) for _ in range(6)]
            return await asyncio.gather(*each, return_exceptions=True)

    with site(Echo(takes_s=0.4), limits=Limits(waiting=2)) as served:
        answers = asyncio.run(crowd(served.grpc_port))
    names = [a.name for a in answers if isinstance(a, SiteRefusedError)]
    assert names == ["QueueFullError"] * 3


def test_clock_of_the_site_decides() -> None:
    clock = FakeClock(utc_ns=SystemClock().utc_ns() + MINUTE_NS)
    with site(Echo(), clock=clock) as served:
        assert refused(served, ask()).name == "StaleInputError"
