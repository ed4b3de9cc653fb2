"""A site behind real sockets: what is answered by gRPC and by HTTP, and in which words."""

import json

import httpx
import numpy as np
import pytest
from site_parts import Echo, ask, client, site, tensors

from fleet.inference.client import SiteRefusedError
from fleet.inference.server import OpenDoorError
from vehicle.contracts import wire
from vehicle.contracts.inference import PARAMETER, InferenceReply


def test_request_is_answered_with_its_reply() -> None:
    request = ask()
    with site(Echo()) as served, client(served) as open_client:
        outputs, reply = open_client.infer("echo", tensors(), request, 5.0)
    assert outputs["x"].tolist() == [0.0, 1.0, 2.0]
    assert outputs["words"].tolist() == tensors()["words"].tolist()
    assert reply is not None
    assert reply.request_id == request.request_id
    assert (reply.site, reply.context, reply.model_set) == ("edge-1", "edge", "echo@1")
    assert reply.valid_until_utc_ns == request.deadline_utc_ns
    assert set(reply.timings_us) == {"queue", "compute"}


def test_open_protocol_alone_is_answered_without_a_reply() -> None:
    with site(Echo()) as served, client(served) as open_client:
        outputs, reply = open_client.infer("echo", tensors(), timeout_s=5.0)
    assert reply is None
    assert outputs["x"].tolist() == [0.0, 1.0, 2.0]


def test_http_with_written_out_tensors_answers_the_same() -> None:
    body = {
        "id": "7",
        "parameters": {PARAMETER: wire.to_bytes(ask()).decode()},
        "inputs": [
            {"name": "x", "shape": [2], "datatype": "FP32", "data": [0.5, 1.5]},
            {"name": "words", "shape": [1], "datatype": "BYTES", "data": ["hü"]},
        ],
    }
    with site(Echo()) as served:
        url = f"http://127.0.0.1:{served.http_port}/v2/models/echo/infer"
        answer = httpx.post(url, json=body)
    plain = answer.json()
    assert answer.status_code == 200
    assert [o["data"] for o in plain["outputs"]] == [[0.5, 1.5], ["hü"]]
    assert plain["id"] == "7"
    reply = wire.from_bytes(InferenceReply, plain["parameters"][PARAMETER].encode())
    assert reply.model_set == "echo@1"


def test_http_with_binary_tensors_answers_the_same() -> None:
    x, word = np.array([0.5, 1.5], np.float32).tobytes(), b"\x02\0\0\0hi"
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "shape": [2],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": len(x)},
                },
                {
                    "name": "words",
                    "shape": [1],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": len(word)},
                },
            ],
            "outputs": [
                {"name": "x", "parameters": {"binary_data": True}},
                {"name": "words"},
            ],
        }
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    with site(Echo()) as served:
        url = f"http://127.0.0.1:{served.http_port}/v2/models/echo/versions/1/infer"
        answer = httpx.post(url, content=head + x + word, headers=headers)
    size = int(answer.headers["Inference-Header-Content-Length"])
    outputs = json.loads(answer.content[:size])["outputs"]
    assert answer.content[size:] == x
    assert outputs[0]["parameters"] == {"binary_data_size": len(x)}
    assert outputs[1]["data"] == ["hi"]


def test_site_says_what_it_is_and_what_it_serves() -> None:
    with (
        site(Echo()) as served,
        httpx.Client(base_url=f"http://127.0.0.1:{served.http_port}") as http,
    ):
        assert http.get("/v2/health/live").json() == {"live": True}
        assert http.get("/v2/health/ready").json() == {"ready": True}
        assert "binary_tensor_data" in http.get("/v2").json()["extensions"]
        told = http.get("/v2/models/echo").json()
        assert told["inputs"][1] == {"name": "words", "datatype": "BYTES", "shape": [-1]}
        assert http.get("/v2/models/echo/config").json()["max_batch_size"] == 0
        missing = http.get("/v2/models/nobody/ready")
        assert missing.status_code == 404
        assert missing.json()["error"].startswith("UnknownModelError: ")


def test_unknown_model_is_refused_by_name() -> None:
    with site(Echo()) as served, client(served) as open_client:
        with pytest.raises(SiteRefusedError, match=r"no model 'nobody' here") as refused:
            open_client.infer("nobody", tensors(), ask(), 5.0)
        assert (refused.value.status, refused.value.name) == ("NOT_FOUND", "UnknownModelError")
        assert served.stats.refusals() == {"UnknownModelError": 1}


def test_site_without_certificates_is_open_to_this_machine_alone() -> None:
    with pytest.raises(OpenDoorError), site(Echo(), host="0.0.0.0"):
        pass
