"""NVIDIA's tritonclient, unchanged, against a site: gRPC and HTTP, with and without certificates.

Skipped where the client is not installed (`make interop`).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes_gateway import enrol_car
from interop_parts import interop
from site_parts import EDGE, ask, site

from fleet.inference.oip_messages import CLASSES, DATA_TYPES
from fleet.inference.oip_model import EngineModel
from fleet.inference.policy import Policy
from fleet.inference.server import SiteTls
from fleet.inference.tenants import Tenant
from vehicle import bundles
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.inference import PARAMETER, InferenceReply, InferenceRequest
from vehicle.engine import Engine

PEER = Path(__file__).parent / "triton_peer.py"


def ask_as_triton(
    tmp_path: Path, kind: str, request: InferenceRequest | None, **options: Any
) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return what NVIDIA's client was told, what it was answered, and what the engine answers."""
    model, rng = EngineModel(bundles.base_folder()), np.random.default_rng(5)
    inputs = {s.name: rng.integers(0, 200, s.shape).astype(s.dtype) for s in model.inputs}
    np.savez(tmp_path / "in.npz", **inputs)
    parameters = {PARAMETER: wire.to_bytes(request).decode()} if request else {}
    (tmp_path / "in.json").write_text(json.dumps(parameters))
    identity = options.pop("identity", "")
    with site(model, **options) as served:
        port = served.grpc_port if kind == "grpc" else served.http_port
        files = (tmp_path / "in.npz", tmp_path / "out.npz")
        interop(PEER, "ask", kind, port, *files, *([identity] if identity else []))
    model.close()
    with np.load(tmp_path / "out.npz", allow_pickle=False) as archive:
        found = {n: archive[n] for n in archive.files}
    with Engine(bundles.base_folder() / bundles.MODEL) as engine:
        wanted = {n: a.copy() for n, a in engine.run(inputs).items()}
    return json.loads(str(found.pop("said"))), found, wanted


@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_tritonclient_gets_bit_for_bit_what_the_engine_answers(tmp_path: Path, kind: str) -> None:
    said, found, wanted = ask_as_triton(tmp_path, kind, None)
    assert (said["live"], said["ready"], said["model_ready"]) == (True, True, True)
    assert said["nobody_ready"] is False
    assert said["server"]["name"] == "roadloop"
    assert said["model"]["inputs"][0]["datatype"] == "UINT8"
    assert said["id"] == "41"
    assert sorted(found) == sorted(wanted)
    assert all(found[n].tobytes() == wanted[n].tobytes() for n in wanted)
    assert all(found[n].shape == wanted[n].shape for n in wanted)


@pytest.mark.parametrize("kind", ["grpc", "http"])
def test_tritonclient_carries_our_request_over_mutual_tls(tmp_path: Path, kind: str) -> None:
    home = Home(tmp_path / "home")
    identity, tls = enrol_car(home), SiteTls.of_home(home)
    tenant = Tenant(name="home", authority=str(tls.authorities), home=str(home.root))
    said, found, wanted = ask_as_triton(
        tmp_path,
        kind,
        request := ask(lasts_s=60, freshness_s=60.0),
        identity=identity,
        tls=tls,
        tenants=[tenant],
        policy=Policy.default(),
    )
    parameter = said["parameters"][PARAMETER]
    text = parameter["string_param"] if kind == "grpc" else parameter
    reply = wire.from_bytes(InferenceReply, text.encode())
    assert (reply.request_id, reply.site) == (request.request_id, EDGE.name)
    assert all(found[n].tobytes() == wanted[n].tobytes() for n in wanted)


def test_messages_agree_with_nvidias_field_by_field() -> None:
    theirs = json.loads(interop(PEER, "messages"))
    assert {f"TYPE_{n}": i for i, n in enumerate(DATA_TYPES)} == theirs["kinds"]
    for name, kind in CLASSES.items():
        for field in kind.DESCRIPTOR.fields:
            number, wire_type, repeated = theirs["messages"][name][field.name]
            found = (field.number, field.type, field.is_repeated)
            assert found == (number, wire_type, repeated), f"{name}.{field.name}"
