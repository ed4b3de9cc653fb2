"""The chat protocol in which explanations are asked for: OpenAI's, as far as it makes sense here.

A record of a decision is the one message of the user, as JSON; the answer streams. What the
protocol knows and an explainer does not (tools, several answers, pictures) is refused by name;
settings of sampling are taken and mean nothing: the likeliest word is always said.

Source: OpenAI API reference, "Create chat completion" and "Streaming" (platform.openai.com/docs).
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from fleet.inference.refusals import MalformedRequestError, UnsupportedError
from vehicle.contracts import wire
from vehicle.contracts.decision import DecisionRecord
from vehicle.contracts.explanation import MAX_ANSWER
from vehicle.contracts.inference import PARAMETER, InferenceReply, InferenceRequest

MAX_BODY_BYTES: Final = 256 << 10
WORKLOAD: Final = "explanation"

_MEANINGLESS: Final = (
    *("temperature", "top_p", "seed", "user", "frequency_penalty", "presence_penalty"),
    *("metadata", "store", "stop", "reasoning_effort", "safety_identifier"),
)
_TAKEN: Final = (
    *("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens"),
    *("n", PARAMETER, *_MEANINGLESS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCall:
    """One request.

    Args:
        model: asked for. record: the decision to explain.
        stream: word by word; usage: with the counts at its end.
        most: words at most.
        request: the house's own contract, where it was sent along.
        size_bytes: of the body.
    """

    model: str
    record: DecisionRecord
    stream: bool
    usage: bool
    most: int
    request: InferenceRequest | None
    size_bytes: int


def read_call(body: bytes) -> ChatCall:
    """Return a request.

    Raises:
        MalformedRequestError, ContractError: not JSON, or a field is missing or wrong; it is named.
        UnsupportedError: something that an explainer does not do.
    """
    try:
        plain = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedRequestError(f"the body is not JSON ({error})") from error
    if not isinstance(plain, dict):
        raise MalformedRequestError(f"the body is {type(plain).__name__}, expected an object")
    for key in plain:
        if key not in _TAKEN:
            raise UnsupportedError(f"{key[:64]!r} is nothing that an explainer does")
    if plain.get("n") not in (None, 1):
        raise UnsupportedError(f"n is {plain['n']!r}: one answer is given")
    most = plain.get("max_completion_tokens", plain.get("max_tokens"))
    most = MAX_ANSWER if most is None else most
    options = plain.get("stream_options") or {}
    for name, value, kind in (
        ("model", plain.get("model"), str),
        ("stream", plain.get("stream") or False, bool),
        ("stream_options", options, dict),
    ):
        if not isinstance(value, kind):
            raise MalformedRequestError(f"{name} is {value!r:.64}, expected {kind.__name__}")
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise MalformedRequestError(f"max_tokens is {most!r:.64}, expected 1 or more")
    return ChatCall(
        model=plain["model"],
        record=_record(plain.get("messages")),
        stream=bool(plain.get("stream")),
        usage=bool(options.get("include_usage")),
        most=min(MAX_ANSWER, most),
        request=_request(plain.get(PARAMETER)),
        size_bytes=len(body),
    )


def _record(messages: Any) -> DecisionRecord:
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise MalformedRequestError("messages is no list of objects")
    asked = [m.get("content") for m in messages if m.get("role") == "user"]
    if len(asked) != 1:
        raise MalformedRequestError(
            f"{len(asked)} messages of the user, expected one: a decision record as JSON"
        )
    content = asked[0]
    if isinstance(content, list):  # parts, as newer clients send them
        if not all(isinstance(p, dict) and p.get("type") == "text" for p in content):
            raise UnsupportedError("a part of the message is no text")
        content = "".join(str(p.get("text", "")) for p in content)
    if not isinstance(content, str):
        raise MalformedRequestError("the user's message has no text")
    return wire.from_bytes(DecisionRecord, content.encode(errors="surrogatepass"))


def _request(plain: Any) -> InferenceRequest | None:
    if plain is None:
        return None
    if isinstance(plain, str):
        return wire.from_bytes(InferenceRequest, plain.encode(errors="surrogatepass"), strict=False)
    return wire.from_plain(InferenceRequest, plain, strict=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """How one answer is put into the protocol's objects.

    Args:
        id: of the answer. model: name@version. created_s: seconds since 1970.
    """

    id: str
    model: str
    created_s: int

    def chunk(self, text: str, finish: str = "", *, first: bool = False) -> bytes:
        """Return a piece of a stream."""
        delta: dict[str, str] = {"content": text} if text or first else {}
        if first:
            delta["role"] = "assistant"
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish or None}
        return event({**self._head("chat.completion.chunk"), "choices": [choice]})

    def last(self, usage: dict[str, int], reply: InferenceReply | None) -> bytes:
        """Return the piece after the last word: the counts, and the house's own reply."""
        return event(
            {
                **self._head("chat.completion.chunk"),
                "choices": [],
                "usage": usage,
                **_reply(reply),
            }
        )

    def whole(
        self, text: str, finish: str, usage: dict[str, int], reply: InferenceReply | None
    ) -> bytes:
        """Return an answer that was not streamed."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        body = {**self._head("chat.completion"), "choices": [choice], "usage": usage}
        return json.dumps({**body, **_reply(reply)}).encode()

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created_s, "model": self.model}


DONE: Final = b"data: [DONE]\n\n"


def event(plain: dict[str, Any]) -> bytes:
    """Return one server-sent event."""
    return b"data: " + json.dumps(plain).encode() + b"\n\n"


def usage_of(scene: int, words: int) -> dict[str, int]:
    """Return the counts of an answer: positions read, words said."""
    return {
        "prompt_tokens": scene,
        "completion_tokens": words,
        "total_tokens": scene + words,
    }


def error_body(words: str, status: int) -> dict[str, Any]:
    """Return a refusal as the protocol's clients read it; its name is the `code`."""
    name, _, _ = words.partition(":")
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": words, "type": kind, "param": None, "code": name}}


def models_body(tag: str, created_s: int) -> dict[str, Any]:
    """Return the list of models there are: one."""
    model = {"id": tag, "object": "model", "created": created_s, "owned_by": "roadloop"}
    return {"object": "list", "data": [model]}


def _reply(reply: InferenceReply | None) -> dict[str, Any]:
    return {} if reply is None else {PARAMETER: wire.to_plain(reply)}
