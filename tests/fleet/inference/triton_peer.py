"""NVIDIA's client of the Open Inference Protocol, run by the Python of .venv-interop.

triton_peer.py messages                          prints field numbers of its messages, as JSON
triton_peer.py ask {grpc,http} PORT IN OUT [PEM [MODEL]]
                                                 asks a model (base) with the arrays of IN, and
                                                 writes what it says and answers to OUT
"""

import json
import sys
from pathlib import Path


def messages() -> None:
    """Print message -> field -> [number, type, repeated]."""
    from tritonclient.grpc import model_config_pb2, service_pb2

    found = {}

    def walk(message, prefix=""):
        name = prefix + message.name
        found[name] = {f.name: [f.number, f.type, f.is_repeated] for f in message.fields}
        for inner in message.nested_types:
            walk(inner, f"{name}.")

    for module in (service_pb2, model_config_pb2):
        for message in module.DESCRIPTOR.message_types_by_name.values():
            walk(message)
    kinds = model_config_pb2.DESCRIPTOR.enum_types_by_name["DataType"].values
    print(json.dumps({"messages": found, "kinds": {v.name: v.number for v in kinds}}))


def ask(
    wire: str, port: str, inputs: str, outputs: str, folder: str = "", model: str = "base"
) -> None:
    """Ask a site as NVIDIA's client does."""
    import numpy as np
    from tritonclient.utils import np_to_triton_dtype

    client = _client(wire, port, folder)
    module = sys.modules[type(client).__module__.rpartition("._client")[0]]
    said = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(model),
        "nobody_ready": client.is_model_ready("nobody"),
        "server": _plain(client.get_server_metadata()),
        "model": _plain(client.get_model_metadata(model)),
        "config": _plain(client.get_model_config(model)),
    }
    asked = []
    with np.load(inputs, allow_pickle=False) as arrays:
        for name in arrays.files:
            array = arrays[name]
            tensor = module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            asked.append(tensor.set_data_from_numpy(array))
    parameters = json.loads(Path(inputs).with_suffix(".json").read_text())
    result = client.infer(model, asked, request_id="41", parameters=parameters)
    plain = _plain(result.get_response())
    said["id"], said["parameters"] = plain.get("id"), plain.get("parameters", {})
    names = [o["name"] for o in plain["outputs"]]
    np.savez(outputs, said=json.dumps(said), **{n: result.as_numpy(n) for n in names})


def _plain(answer):
    if isinstance(answer, dict):
        return answer
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(answer, preserving_proto_field_name=True)


def _client(wire, port, folder):
    if wire == "grpc":
        import tritonclient.grpc as module

        tls = {}
        if folder:
            names = {
                "root_certificates": "home.crt",
                "private_key": "car.key",
                "certificate_chain": "car.crt",
            }
            tls = {"ssl": True} | {k: str(Path(folder) / n) for k, n in names.items()}
        return module.InferenceServerClient(f"localhost:{port}", **tls)
    import tritonclient.http as module

    if not folder:
        return module.InferenceServerClient(f"localhost:{port}")
    import gevent.ssl

    def context():
        made = gevent.ssl.create_default_context(cafile=str(Path(folder) / "home.crt"))
        made.load_cert_chain(Path(folder) / "car.crt", Path(folder) / "car.key")
        return made

    return module.InferenceServerClient(f"localhost:{port}", ssl=True, ssl_context_factory=context)


if __name__ == "__main__":
    {"messages": messages, "ask": ask}[sys.argv[1]](*sys.argv[2:])
