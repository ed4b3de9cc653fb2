"""NVIDIA's tritonclient asks a site and times each answer.

Run by the Python of `.venv-interop` (`make interop`), never imported by the house, and importing
nothing of it:

    .venv-interop/bin/python -P sim/benches/serving_peers.py {grpc,http} PORT MODEL SIZE COUNT

Prints a JSON list of milliseconds, from the call until the arrays are there.
"""

import json
import sys
import time

import numpy as np


def main(wire: str, port: str, model: str, size: str, count: str) -> None:
    """Ask COUNT times with SIZE bytes, after ten that do not count."""
    if wire == "grpc":
        import tritonclient.grpc as module
    else:
        import tritonclient.http as module
    client = module.InferenceServerClient(f"127.0.0.1:{port}")
    array = np.zeros(int(size), np.uint8)
    tensor = module.InferInput("x", list(array.shape), "UINT8")
    took_ms = []
    for _ in range(int(count) + 10):
        began = time.perf_counter()
        tensor.set_data_from_numpy(array)
        client.infer(model, [tensor]).as_numpy("y")
        took_ms.append((time.perf_counter() - began) * 1e3)
    print(json.dumps(took_ms[10:]))


if __name__ == "__main__":
    main(*sys.argv[1:])
