"""A trained explainer as a graph with kept keys and values: what fleet serves without torch."""

import tempfile
import warnings
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch

from training.deploy import ParityError, session
from training.explain import read_run
from training.explain_net import Decoder
from training.export import without_traces
from vehicle.contracts import wire
from vehicle.contracts.explainer import GRAPH, MANIFEST, Explainer
from vehicle.contracts.explanation import NUMBERS, VOCABULARY

INPUTS: Final = ("words", "slots", "places", "numbers", "past", "kept")
OUTPUTS: Final = ("logits", "present")
PARITY_LIMIT: Final = 1e-3


def export(run_folder: Path, out: Path, *, name: str = "explainer", version: int = 1) -> Explainer:
    """Write graph and manifest of a finished run into `out`, the manifest last.

    Raises:
        RecordsError: the run has not ended.
        ParityError: the graph does not compute what torch computes.
    """
    run, net = read_run(run_folder)
    data = graph_of(net)
    config = net.config
    manifest = Explainer(
        name=name,
        version=version,
        layers=config.layers,
        heads=config.heads,
        size=config.width // config.heads,
        parameters=net.parameters_count,
        records=run.records,
        records_digest=run.records_digest,
        recipe=run.config.recipe,
        steps=run.config.steps,
        seed=run.config.seed,
        graph_sha256=wire.digest(data),
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / MANIFEST).unlink(missing_ok=True)
    wire.atomic_write(out / GRAPH, data)
    wire.atomic_write(out / MANIFEST, wire.to_bytes(manifest))
    return manifest


def graph_of(net: Decoder) -> bytes:
    """Return the graph; it reads scenes and goes on with answers alike, and has been checked."""
    inputs = _example(net, batch=2, count=5, room=7)
    row = {0: "batch", 1: "count"}
    axes = dict.fromkeys((*INPUTS[:4], "logits"), row)
    axes |= {"past": {0: "batch", 4: "room"}, "present": {0: "batch", 4: "count"}}
    axes |= {"kept": {0: "batch"}}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = Path(folder) / "graph.onnx"
        # by tracing: a third of a second where the newer exporter takes ten, and the same graph
        torch.onnx.export(
            net.eval(),
            tuple(inputs),
            str(graph),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes=axes,
            opset_version=18,
            dynamo=False,
        )
        data = without_traces(onnx.load(graph)).SerializeToString()
    _check(net, data)
    return bytes(data)


def _check(net: Decoder, data: bytes) -> None:
    graph = session(data)
    for batch, count, room in ((1, 19, 1), (8, 1, 36), (3, 4, 9)):
        inputs = _example(net, batch=batch, count=count, room=room)
        said = graph.run(list(OUTPUTS), dict(zip(INPUTS, (t.numpy() for t in inputs), strict=True)))
        with torch.no_grad():
            meant = net(*inputs)
        for name, one, other in zip(OUTPUTS, said, meant, strict=True):
            gap = float(np.abs(one - other.numpy()).max())
            if gap > PARITY_LIMIT:
                raise ParityError(f"output {name!r} differs from torch by {gap:.2g}")


def _example(net: Decoder, *, batch: int, count: int, room: int) -> list[torch.Tensor]:
    random, c = np.random.default_rng(0), net.config
    words = random.integers(VOCABULARY, size=(batch, count))
    small = random.integers(3, size=(2, batch, count))
    numbers = random.normal(size=(batch, count, NUMBERS)).astype(np.float32)
    shape = (batch, c.layers, 2, c.heads, room, c.width // c.heads)
    past = random.normal(size=shape).astype(np.float32)
    kept = random.integers(room + 1, size=batch)
    return [torch.from_numpy(a) for a in (words, small[0], small[1], numbers, past, kept)]
