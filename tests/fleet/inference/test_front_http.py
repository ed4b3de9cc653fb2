"""A front over HTTP: the open protocol passed on, and a stream taken over in the middle."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from explain_parts import records, tiny_explainer
from site_parts import EDGE, Echo, ask, site

from fleet.inference import front_stream
from fleet.inference.explain import serve_explain
from fleet.inference.explain_chat import DONE, Words
from fleet.inference.explain_client import ExplainClient
from fleet.inference.explain_model import ExplainModel
from fleet.inference.front import Place
from fleet.inference.front_http import HttpFront, serve_http_front
from fleet.inference.front_stream import Heard, OtherAnswerError
from fleet.inference.policy import Policy, Site
from vehicle.contracts import wire
from vehicle.contracts.inference import PARAMETER, InferenceReply

BERLIN = Site(name="berlin", context="hyperscale", jurisdiction="DE")
PARIS = Site(name="paris", context="hyperscale", jurisdiction="FR")
OHIO = Site(name="ohio", context="hyperscale", jurisdiction="US")
SAID = ["because ", "of the ", "red light ", "20 m ahead, ", "stop"]


class Speaker:
    """A region that says words over a real socket, and breaks off where it is told to."""

    def __init__(
        self,
        at: Site,
        words: Sequence[str] = SAID,
        dies_after: int | None = None,
        hangs_after: int | None = None,
    ) -> None:
        self.at, self.words, self.asked = at, words, 0
        self.dies_after, self.hangs_after = dies_after, hangs_after

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        status = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
        if head.startswith(b"GET"):
            writer.write(status + b"Content-Length: 2\r\n\r\n{}")
            writer.close()
            return
        self.asked += 1
        writer.write(status + b"Content-Type: text/event-stream\r\n\r\n")
        form = Words(id="chatcmpl-1", model="tiny@1", created_s=1)
        for number, word in enumerate(self.words):
            if number == self.dies_after:
                writer.transport.abort()
                return
            if number == self.hangs_after:
                await asyncio.sleep(3.0)
            writer.write(form.chunk(word, first=number == 0))
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write(form.chunk("", "stop"))
        writer.write(form.last({"total_tokens": 5}, None) + DONE)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def front(*speakers: Speaker, policy: Policy | None = None) -> AsyncIterator[HttpFront]:
    async with AsyncExitStack() as stack:
        places = []
        for speaker in speakers:
            server = await asyncio.start_server(speaker, "127.0.0.1", 0)
            stack.callback(server.close)
            port = server.sockets[0].getsockname()[1]
            places.append(Place(site=speaker.at, address=f"127.0.0.1:{port}"))
        yield await stack.enter_async_context(serve_http_front(places, policy=policy))


def heard(*speakers: Speaker, **request: Any) -> tuple[str, list[Any], int]:
    """Return what a client hears through a front: the words, other events, and the status."""

    async def listen() -> tuple[str, list[Any], int]:
        body: dict[str, Any] = {"model": "tiny", "stream": True, "messages": []}
        body[PARAMETER] = wire.to_plain(ask(**request))
        async with (
            front(*speakers, policy=Policy.default()) as found,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{found.port}") as client,
        ):
            answer = await client.post("/v1/chat/completions", json=body, timeout=10.0)
        lines = [x[6:] for x in answer.text.split("\n") if x.startswith("data: ")]
        if not lines:
            return "", [answer.json()], answer.status_code
        events = [json.loads(x) if x != "[DONE]" else x for x in lines]
        chosen = [c for e in events if isinstance(e, dict) for c in e.get("choices", [])]
        words = "".join(c["delta"].get("content", "") for c in chosen)
        rest = [e for e in events if isinstance(e, str) or not e.get("choices")]
        return words, rest, answer.status_code

    return asyncio.run(listen())


def test_a_stream_is_passed_on_as_it_comes() -> None:
    words, rest, status = heard(Speaker(BERLIN), Speaker(PARIS))
    assert (words, status) == ("".join(SAID), 200)
    assert rest[-1] == "[DONE]"
    assert rest[0]["usage"] == {"total_tokens": 5}


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_region_that_dies_mid_stream_is_taken_over_and_no_word_comes_twice(after: int) -> None:
    dies, takes = Speaker(BERLIN, dies_after=after), Speaker(PARIS)
    words, rest, _ = heard(dies, takes)
    assert words == "".join(SAID)
    assert rest[-1] == "[DONE]"
    assert (dies.asked, takes.asked) == (1, 1)


def test_a_region_that_falls_silent_is_taken_over_as_well() -> None:
    words, rest, _ = heard(Speaker(BERLIN, hangs_after=2), Speaker(PARIS))
    assert (words, rest[-1]) == ("".join(SAID), "[DONE]")


def test_another_answer_is_not_sewn_to_the_first() -> None:
    other = Speaker(PARIS, words=["because ", "of nothing"])
    words, rest, _ = heard(Speaker(BERLIN, dies_after=3), other)
    assert words == "because of the red light "
    assert rest[-1]["error"]["code"] == "OtherAnswerError"


def test_when_both_die_the_stream_ends_by_name() -> None:
    both = Speaker(BERLIN, dies_after=2), Speaker(PARIS, dies_after=1)
    words, rest, _ = heard(*both)
    assert words == "because of the "
    assert rest[-1]["error"]["code"] == "RegionDiedError"
    assert "[DONE]" not in rest


def test_a_stream_is_not_taken_over_abroad() -> None:
    abroad = Speaker(OHIO)
    words, rest, _ = heard(Speaker(BERLIN, dies_after=1), abroad, data_class="pixels")
    assert (words, abroad.asked) == ("because ", 0)
    assert "data-stays-in-its-zone" in rest[-1]["error"]["message"]
    words, rest, status = heard(abroad, data_class="personal")
    assert (words, status, rest[0]["error"]["code"]) == ("", 403, "PolicyRefusedError")


def test_a_deadline_ends_a_stream_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_stream, "SILENCE_S", 5.0)
    words, rest, _ = heard(Speaker(BERLIN, hangs_after=1), lasts_s=1.0)
    assert words == "because "
    assert rest[-1]["error"]["code"] == "LateAnswerError"


def test_a_second_region_that_the_byte_budget_does_not_bear_is_not_asked() -> None:
    second = Speaker(PARIS)
    _, rest, _ = heard(Speaker(BERLIN, dies_after=1), second, size_budget_bytes=700)
    assert second.asked == 0
    assert "over the budget" in rest[-1]["error"]["message"]


def test_what_was_heard_is_not_said_again() -> None:
    told = Heard()
    assert told.more("ab") == "ab"
    told.now = ""
    assert [told.more(t) for t in ("a", "bc", "d")] == ["", "c", "d"]
    told.now = ""
    with pytest.raises(OtherAnswerError):
        told.more("abx")


def test_the_open_protocol_is_passed_on_and_refusals_keep_their_words() -> None:
    body = {
        "parameters": {PARAMETER: wire.to_bytes(ask()).decode()},
        "inputs": [
            {"name": "x", "shape": [2], "datatype": "FP32", "data": [0.5, 1.5]},
            {"name": "words", "shape": [1], "datatype": "BYTES", "data": ["hi"]},
        ],
    }

    async def through(port: int) -> list[httpx.Response]:
        place = Place(site=EDGE, address=f"127.0.0.1:{port}")
        async with (
            serve_http_front([place]) as found,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{found.port}") as client,
        ):
            return [
                await client.post("/v2/models/echo/infer", json=body),
                await client.post("/v2/models/echo/infer", json=body),
                await client.post("/v2/models/nobody/infer", json={"inputs": []}),
                await client.get("/v2/models/echo"),
                await client.post("/v2/models/echo/infer", content=b"{"),
            ]

    with site(Echo()) as served:
        answers = asyncio.run(through(served.http_port))
    assert [a.status_code for a in answers] == [200, 409, 404, 200, 400]
    plain = answers[0].json()
    assert [o["data"] for o in plain["outputs"]] == [[0.5, 1.5], ["hi"]]
    assert (
        wire.from_bytes(InferenceReply, plain["parameters"][PARAMETER].encode()).site == EDGE.name
    )
    words = [a.json()["error"].partition(":")[0] for a in (answers[1], answers[2], answers[4])]
    assert words == ["ReplayedRequestError", "UnknownModelError", "MalformedRequestError"]


def test_what_a_site_says_of_itself_stands_under_no_law() -> None:
    async def through(port: int) -> list[int]:
        place = Place(site=EDGE, address=f"127.0.0.1:{port}")
        async with (
            serve_http_front([place], policy=Policy.default()) as found,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{found.port}") as client,
        ):
            body = {"inputs": []}
            answers = [
                await client.get("/v2/models/echo"),
                await client.get("/v2/models/nobody"),
                await client.post("/v2/models/echo/infer", json=body),
            ]
            found.regions.regions[0].up = False
            return [a.status_code for a in (*answers, await client.get("/v2"))]

    with site(Echo()) as served:
        assert asyncio.run(through(served.http_port)) == [200, 404, 403, 503]


@pytest.mark.slow
def test_a_real_explainer_is_heard_through_the_front() -> None:
    record = records(1)[0]

    async def listen() -> tuple[str, str]:
        async with AsyncExitStack() as stack:
            model = ExplainModel(tiny_explainer())
            opened = await stack.enter_async_context(serve_explain(model, site=EDGE))
            place = Place(site=EDGE, address=f"127.0.0.1:{opened.port}")
            through = await stack.enter_async_context(serve_http_front([place]))
            found = []
            for port in (opened.port, through.port):
                url = f"http://127.0.0.1:{port}"
                client = await stack.enter_async_context(ExplainClient(url, model="tiny"))
                found.append("".join([w async for w in client.explain(record, ask())]))
        return found[0], found[1]

    direct, passed_on = asyncio.run(listen())
    assert direct == passed_on != ""
