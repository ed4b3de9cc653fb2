"""The chat protocol over real sockets: streamed, whole, refused by name, hung up on."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from explain_parts import records, tiny_explainer
from interop_parts import interop
from site_parts import EDGE, ask

from fleet.inference.client import SiteRefusedError, UnreachableSiteError
from fleet.inference.explain import Explaining, serve_explain
from fleet.inference.explain_client import ExplainClient
from fleet.inference.explain_model import ExplainModel
from fleet.inference.policy import Policy
from fleet.inference.receipts import Receipts, check
from fleet.inference.server import OpenDoorError
from vehicle.clock import SystemClock
from vehicle.contracts import wire
from vehicle.contracts.decision import Decision, DecisionRecord
from vehicle.contracts.inference import InferenceReply

PICTURE = {"role": "user", "content": [{"type": "image_url"}]}


@contextmanager
def opened(**options: Any) -> Iterator[Explaining]:
    """Keep a site of explanations open in a thread of its own."""
    ready, served, stop = threading.Event(), [], []

    async def live() -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(ended.set))
        model = ExplainModel(tiny_explainer())
        async with serve_explain(model, **({"site": EDGE} | options)) as site:
            served.append(site)
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(live()), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield served[0]
    finally:
        stop[0]()
        thread.join(20)


@pytest.fixture(scope="module")
def site() -> Iterator[Explaining]:
    with opened() as found:
        yield found


@pytest.fixture
def http(site: Explaining) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{site.port}", timeout=10.0) as client:
        yield client


def red() -> DecisionRecord:
    """Return a scene in which a light is why."""
    return next(r for r in records(40) if r.decision.longitudinal == "stop")


def body(record: DecisionRecord, **changes: Any) -> dict[str, Any]:
    message = {"role": "user", "content": wire.to_bytes(record).decode()}
    return {"model": "tiny@1", "messages": [message], **changes}


def events(answer: httpx.Response) -> list[Any]:
    lines = [line for line in answer.text.split("\n") if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


def test_a_stream_is_the_whole_answer_in_pieces(http: httpx.Client) -> None:
    whole = http.post("/v1/chat/completions", json=body(red())).json()
    text = whole["choices"][0]["message"]["content"]
    assert text.startswith("because the light is red ")
    assert text.endswith(" therefore stop and keep the lane.")
    assert whole["usage"]["total_tokens"] > whole["usage"]["prompt_tokens"] > 2
    options = {"stream": True, "stream_options": {"include_usage": True}}
    answer = http.post("/v1/chat/completions", json=body(red(), **options))
    assert answer.headers["content-type"] == "text/event-stream"
    found = events(answer)
    pieces = [c["choices"][0]["delta"].get("content", "") for c in found if c["choices"]]
    assert "".join(pieces) == text
    assert len([p for p in pieces if p]) >= 3
    assert found[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [c["choices"][0]["finish_reason"] for c in found if c["choices"]][-1] == "stop"
    assert found[-1]["usage"] == whole["usage"]


def test_a_decision_the_explainer_did_not_see_coming_is_not_explained(http: httpx.Client) -> None:
    other = Decision(longitudinal="speed up", lateral="move left", demand_mps2=1.0)
    answer = http.post("/v1/chat/completions", json=body(replace(red(), decision=other)))
    assert answer.json()["choices"][0]["message"]["content"] == "no explanation"


def test_the_model_is_listed_and_another_one_is_not_there(http: httpx.Client) -> None:
    assert [m["id"] for m in http.get("/v1/models").json()["data"]] == ["tiny@1"]
    assert http.get("/v1/models/tiny@1").json()["object"] == "model"
    answer = http.post("/v1/chat/completions", json={**body(red()), "model": "gpt-9"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "UnknownModelError")


@pytest.mark.parametrize(
    ("changes", "status", "name"),
    [
        ({"messages": []}, 400, "MalformedRequestError"),
        ({"messages": "why?"}, 400, "MalformedRequestError"),
        ({"messages": [{"role": "user", "content": "why?"}]}, 400, "SchemaError"),
        ({"messages": [PICTURE]}, 415, "UnsupportedError"),
        ({"tools": [{}]}, 415, "UnsupportedError"),
        ({"n": 2}, 415, "UnsupportedError"),
        ({"max_tokens": 0}, 400, "MalformedRequestError"),
        ({"stream": "yes"}, 400, "MalformedRequestError"),
        ({"roadloop": {"schema": "inference/1"}}, 400, "ContractError"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(
    http: httpx.Client, changes: dict[str, Any], status: int, name: str
) -> None:
    answer = http.post("/v1/chat/completions", json={**body(red()), **changes})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, name)


def test_a_scene_that_contradicts_itself_is_refused(http: httpx.Client) -> None:
    plain = wire.to_plain(red())
    plain["actors"] = [{"schema": "actor/1", "actor_id": 1}]
    answer = http.post(
        "/v1/chat/completions",
        json=body(red(), messages=[{"role": "user", "content": json.dumps(plain)}]),
    )
    assert answer.status_code == 400
    assert "Actor" in answer.json()["error"]["message"]


def test_what_is_too_large_or_no_json_or_nowhere_is_refused(http: httpx.Client) -> None:
    for data, status in ((b"x" * 300_000, 413), (b"{", 400), (b"[]", 400)):
        assert http.post("/v1/chat/completions", content=data).status_code == status
    assert http.post("/v1/completions", content=b"{}").status_code == 404


def test_words_at_most_end_an_answer_as_length(http: httpx.Client) -> None:
    answer = http.post("/v1/chat/completions", json=body(red(), max_tokens=3)).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3


def test_the_house_s_request_is_honoured_and_answered(http: httpx.Client) -> None:
    request = ask(workload="explanation", tier="conversational")
    plain = wire.to_plain(request)
    answer = http.post("/v1/chat/completions", json=body(red(), roadloop=plain)).json()
    reply = wire.from_plain(InferenceReply, answer["roadloop"])
    assert reply.request_id == request.request_id
    assert reply.model_set == "tiny@1"
    again = http.post("/v1/chat/completions", json=body(red(), roadloop=plain))
    assert again.json()["error"]["code"] == "ReplayedRequestError"
    for changes, name in (
        ({"lasts_s": 1.0, "age_s": 2.0, "freshness_s": 9.0}, "LateRequestError"),
        ({"age_s": 3.0, "freshness_s": 1.0}, "StaleInputError"),
        ({"age_s": -60.0}, "ClockError"),
    ):
        late = body(red(), roadloop=wire.to_plain(ask(**changes)))
        assert http.post("/v1/chat/completions", json=late).json()["error"]["code"] == name


def test_who_hangs_up_frees_the_slot_and_is_counted() -> None:
    with opened(slots=1) as site:
        before = site.door.stats.gone
        for _ in range(4):
            with (
                httpx.Client(base_url=f"http://127.0.0.1:{site.port}") as client,
                client.stream("POST", "/v1/chat/completions", json=body(red(), stream=True)) as got,
            ):
                next(got.iter_lines())
        with httpx.Client(base_url=f"http://127.0.0.1:{site.port}") as client:
            assert client.post("/v1/chat/completions", json=body(red())).status_code == 200
        assert site.engine.active == 0
        assert site.door.stats.gone + sum(site.door.stats.answered.values()) == before + 5


def test_the_client_hears_it_piece_by_piece_and_is_told_why_not(site: Explaining) -> None:
    async def use() -> None:
        url = f"http://127.0.0.1:{site.port}"
        async with ExplainClient(url, model="tiny") as client:
            assert await client.models() == ["tiny@1"]
            pieces = [p async for p in client.explain(red(), ask(tier="conversational"))]
            assert "".join(pieces).endswith("therefore stop and keep the lane.")
            assert client.reply is not None
            with pytest.raises(SiteRefusedError) as refused:
                [p async for p in client.explain(red(), ask(age_s=3.0, freshness_s=1.0))]
            assert refused.value.name == "StaleInputError"
        async with ExplainClient("http://127.0.0.1:1") as client:
            with pytest.raises(UnreachableSiteError):
                [p async for p in client.explain(red())]

    asyncio.run(use())


def test_openai_s_own_client_hears_the_same(site: Explaining) -> None:
    request = ask(workload="explanation", tier="conversational", lasts_s=30, freshness_s=60.0)
    record = wire.to_bytes(red()).decode()
    told = interop(
        Path(__file__).parent / "openai_peer.py",
        f"http://127.0.0.1:{site.port}",
        record,
        wire.to_bytes(request).decode(),
    )
    heard = json.loads(told)
    assert "".join(heard["pieces"]) == heard["whole"]
    assert heard["whole"].startswith("because the light is red")
    assert len(heard["pieces"]) >= 3
    assert (heard["model"], heard["site"]) == ("tiny@1", "edge-1")
    assert heard["refused"] == "UnknownModelError"


def test_policy_and_receipts_hold_for_explanations_too(tmp_path: Path) -> None:
    path = tmp_path / "receipts.jsonl"
    with (
        Receipts(path, site="edge-1", clock=SystemClock()) as receipts,
        opened(policy=Policy.default(), receipts=receipts) as site,
        httpx.Client(base_url=f"http://127.0.0.1:{site.port}") as http,
    ):
        undeclared = http.post("/v1/chat/completions", json=body(red()))
        assert undeclared.json()["error"]["code"] == "PolicyRefusedError"
        request = ask(workload="explanation", tier="conversational")
        good = http.post(
            "/v1/chat/completions", json=body(red(), roadloop=wire.to_bytes(request).decode())
        )
        assert good.status_code == 200
        assert good.json()["roadloop"]["receipt"]
    assert check(path).count == 2


def test_without_certificates_only_this_machine_may_ask() -> None:
    async def use() -> None:
        model = ExplainModel(tiny_explainer())
        with pytest.raises(OpenDoorError):
            async with serve_explain(model, site=EDGE, host="0.0.0.0"):
                pass

    asyncio.run(use())
