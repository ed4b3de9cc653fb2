"""Asking a site over real connections: what it may answer, and what is refused of it by name."""

import json
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes_gateway import enrol_car
from offboard_parts import S, walker
from safety_parts import scene_of, user

from fleet.identity import Authority
from vehicle.asking import question, split
from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.advice import EGO_COLUMNS, MAX_ADVICE_BYTES, Advice
from vehicle.contracts.ego import EgoState
from vehicle.contracts.home import Home
from vehicle.contracts.inference import PARAMETER, InferenceReply, InferenceRequest
from vehicle.contracts.wire import ContractError, RefusedError
from vehicle.identity import Identity
from vehicle.site_link import (
    JSON_SIZE,
    ForgedAdviceError,
    LateAnswerError,
    MalformedAdviceError,
    OversizedAdviceError,
    SiteAwayError,
    SiteLink,
    SiteRefusedError,
)

CLOCK = SystemClock()
HERE = EgoState(mono_ns=0, x_m=5.0, y_m=6.0, yaw_rad=np.pi / 2, speed_mps=8.0)
ASKED = question(scene_of(user(10.0, 1.0, vx=2.0)), HERE, (100.0, 200.0))


def request(lasts_s: float = 2.0, number: int = 1) -> InferenceRequest:
    now_ns = CLOCK.utc_ns()
    return InferenceRequest(
        request_id=f"{number:032x}", tenant="fleet", car_id="car-1",
        workload="collective-perception", tier="low", input_utc_ns=now_ns, freshness_s=1.0,
        deadline_utc_ns=now_ns + round(lasts_s * S), data_class="features", jurisdiction="ZZ",
    )  # fmt: skip


def advice_to(asked: dict[str, Any], **changes: Any) -> Advice:
    now_ns = CLOCK.utc_ns()
    told = Advice(
        request_id=asked["id"], context="edge", site="junction-7", model_set="collective@1",
        input_utc_ns=now_ns, valid_until_utc_ns=now_ns + S, tracks=(walker(),),
    )  # fmt: skip
    return replace(told, **changes)


def answer(asked: dict[str, Any], text: bytes, **changes: Any) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an answer that holds `text` as its advice."""
    reply = InferenceReply(
        request_id=asked["id"], context="edge", site="junction-7", model_set="collective@1",
        model_digest="", finished_utc_ns=1, valid_until_utc_ns=2,
    )  # fmt: skip
    reply = replace(reply, **changes)
    output = {"name": "advice", "datatype": "BYTES", "shape": [1]}
    output |= {"parameters": {"binary_data_size": len(text) + 4}}
    head = {"outputs": [output], "parameters": {PARAMETER: wire.to_bytes(reply).decode()}}
    data = json.dumps(head).encode()
    body = data + struct.pack("<I", len(text)) + text
    return 200, {JSON_SIZE: str(len(data))}, body


Say = Callable[[dict[str, Any], bytes], tuple[int, dict[str, str], bytes]]


@contextmanager
def site(say: Say, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve on a free port whatever `say` makes of a question; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, {}, b"{}")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            size = int(self.headers[JSON_SIZE])
            self._send(*say(json.loads(body[:size]), body[size:]))

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        scheme = "http" if context is None else "https"
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def good(asked: dict[str, Any], tensors: bytes) -> tuple[int, dict[str, str], bytes]:
    return answer(asked, wire.to_bytes(advice_to(asked)))


@contextmanager
def link_to(say: Say) -> Iterator[SiteLink]:
    with site(say) as address:
        link = SiteLink(address, None, CLOCK)
        link.open()
        yield link
        link.close()


def test_a_question_says_where_the_car_is_and_whom_it_sees_in_the_local_frame():
    asked: list[tuple[dict[str, Any], bytes]] = []

    def say(head: dict[str, Any], tensors: bytes) -> tuple[int, dict[str, str], bytes]:
        asked.append((head, tensors))
        return good(head, tensors)

    with link_to(say) as link:
        advice, reply = link.ask(request(), ASKED)
    assert advice.tracks == (walker(),)
    assert reply.site == "junction-7"
    head, tensors = asked[0]
    assert [(i["name"], i["datatype"], i["shape"]) for i in head["inputs"]] == [
        ("tracks", "FP32", [1, 10]),
        ("ego", "FP64", [6]),
    ]
    sent = wire.from_bytes(InferenceRequest, head["parameters"][PARAMETER].encode())
    assert sent.data_class == "features"
    row = np.frombuffer(tensors[:40], np.float32)
    assert np.allclose(row[1:4], [4.0, 16.0, np.pi / 2], atol=1e-5)  # ten ahead is ten north
    assert np.allclose(row[7:9], [0.0, 2.0], atol=1e-6)
    where = dict(zip(EGO_COLUMNS, np.frombuffer(tensors[40:]), strict=True))
    assert (where["origin_east_m"], where["origin_north_m"], where["speed_mps"]) == (100, 200, 8)


def other_question(head: dict[str, Any], tensors: bytes) -> Any:
    return answer(head, wire.to_bytes(advice_to(head, request_id="f" * 32)))


def other_site(head: dict[str, Any], tensors: bytes) -> Any:
    return answer(head, wire.to_bytes(advice_to(head, site="junction-8")))


def slow(head: dict[str, Any], tensors: bytes) -> Any:
    time.sleep(0.4)
    return good(head, tensors)


def endless(head: dict[str, Any], tensors: bytes) -> Any:
    return 200, {}, b" " * (1 << 20)


def long_advice(head: dict[str, Any], tensors: bytes) -> Any:
    return answer(head, b" " * (MAX_ADVICE_BYTES + 1))


def not_json(head: dict[str, Any], tensors: bytes) -> Any:
    return 200, {}, b"<html>"


def no_output(head: dict[str, Any], tensors: bytes) -> Any:
    status, _, body = answer(head, b"")
    text = body[:-4].replace(b'"name": "advice"', b'"name": "device"')
    return status, {JSON_SIZE: str(len(text))}, text + body[-4:]


def other_words(head: dict[str, Any], tensors: bytes) -> Any:
    return answer(head, b'{"schema":"advice/2"}')


def faster(head: dict[str, Any], tensors: bytes) -> Any:
    plain = wire.to_plain(advice_to(head)) | {"accelerate_mps2": 3.0}
    return answer(head, wire.canonical(plain))


def cut_short(head: dict[str, Any], tensors: bytes) -> Any:
    status, headers, body = good(head, tensors)
    return status, headers, body[:-7]


def refuses(head: dict[str, Any], tensors: bytes) -> Any:
    return 504, {}, b'{"error": "WontFinishError: three are before you"}'


@pytest.mark.parametrize(
    ("say", "error", "words"),
    [
        (other_question, ForgedAdviceError, "nobody asked"),
        (other_site, ForgedAdviceError, "junction-8"),
        (slow, LateAnswerError, "deadline"),
        (endless, OversizedAdviceError, "over"),
        (long_advice, OversizedAdviceError, str(MAX_ADVICE_BYTES)),
        (not_json, MalformedAdviceError, "JSON"),
        (no_output, MalformedAdviceError, "no output"),
        (other_words, MalformedAdviceError, "advice/2"),
        (faster, MalformedAdviceError, "accelerate_mps2"),
        (cut_short, MalformedAdviceError, "announced|size"),
        (refuses, SiteRefusedError, "WontFinishError"),
    ],
)
def test_an_answer_that_is_none_is_refused_by_name(
    say: Say, error: type[RefusedError], words: str
) -> None:
    with link_to(say) as link:
        with pytest.raises(error, match=words):
            link.ask(request(0.3), ASKED)
        assert link.is_open == (say not in (slow, endless))


def test_nobody_there_is_named() -> None:
    with site(good) as address:
        pass
    link = SiteLink(address, None, CLOCK)
    with pytest.raises(SiteAwayError):
        link.open()
    with pytest.raises(SiteAwayError):
        link.ask(request(), ASKED)
    link.close()


def test_a_question_whose_deadline_has_passed_is_not_sent() -> None:
    with link_to(lambda *_: pytest.fail("was asked")) as link, pytest.raises(LateAnswerError):
        link.ask(request(1e-9), ASKED)


@contextmanager
def guarded(tmp_path: Path, say: Say) -> Iterator[tuple[Home, str]]:
    """A site that shows the certificate of its home, and wants one of a car of this home."""
    home = Home(tmp_path / "home")
    enrol_car(home)
    authority = Authority(home)
    certificate, key = authority.gateway_files(())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority.certificate_path)
    context.verify_mode = ssl.CERT_REQUIRED
    with site(say, context) as address:
        yield home, address


def test_only_where_both_sides_show_who_they_are_advice_is_proven(tmp_path: Path) -> None:
    with guarded(tmp_path, good) as (home, address):
        link = SiteLink(address, Identity.at(home.car("car-1") / "identity"), CLOCK)
        link.open()
        assert link.ask(request(), ASKED)[0].site == "junction-7"
        assert link.proven
        link.close()
    with link_to(good) as plain:
        plain.ask(request(), ASKED)
        assert not plain.proven


def test_a_site_of_another_home_is_nobody(tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    enrol_car(other)
    with guarded(tmp_path, good) as (_, address):
        link = SiteLink(address, Identity.at(other.car("car-1") / "identity"), CLOCK)
        with pytest.raises(SiteAwayError, match="certificate"):
            link.open()
        link.close()


@pytest.mark.parametrize(
    "address",
    [
        "https://h",
        "ftp://h:1",
        "h:1",
        "https://h:1/a/b",
        "https://u@h:1",
        "https://h:99999",
        "",
        "unix:",
    ],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ContractError, match="offboard address"):
        split(address)


def test_an_address_names_a_model_or_the_usual_one() -> None:
    assert split("https://h:1/teacher") == ("https://h:1", "teacher")
    assert split("https://h:1") == ("https://h:1", "collective")
    assert split("unix:/run/front.sock") == ("unix:/run/front.sock", "collective")
    assert split("unix:/run/front.sock:teacher") == ("unix:/run/front.sock", "teacher")
