"""OpenAI's own client, run by the Python of .venv-interop.

openai_peer.py URL RECORD REQUEST    asks for the models and for one explanation, streamed and
                                     whole, and prints what it heard, as JSON
"""

import json
import sys

from openai import NotFoundError, OpenAI


def main(url: str, record: str, request: str) -> None:
    """Ask a site as OpenAI's client does."""
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    [model] = [m.id for m in client.models.list()]
    messages = [{"role": "user", "content": record}]
    pieces, reply, usage = [], None, None
    stream = client.chat.completions.create(
        model=model,
        messages=messages,
        stream=True,
        stream_options={"include_usage": True},
        temperature=0.0,
        extra_body={"roadloop": json.loads(request)},
    )
    for chunk in stream:
        pieces += [c.delta.content for c in chunk.choices if c.delta.content]
        usage = chunk.usage or usage
        reply = getattr(chunk, "roadloop", None) or reply
    whole = client.chat.completions.create(model=model, messages=messages)
    try:
        client.chat.completions.create(model="gpt-9", messages=messages)
        refused = ""
    except NotFoundError as error:
        refused = error.code
    facts = {
        "model": model,
        "pieces": pieces,
        "whole": whole.choices[0].message.content,
        "tokens": usage.total_tokens,
        "site": reply["site"],
        "refused": refused,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
