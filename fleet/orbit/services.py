"""What travels over the relay: clips and questions up, releases and answers down.

Each is one bundle whose payload is a parcel. A clip lands through the gateway's own landing code; a
question is answered at the desk that answers every other wire; a release is installed by the car's
own installer. All of them may come twice, and have their effect once.

Source: own work.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from fleet.inference.call import Answer, Call, Tensor
from fleet.inference.oip_tensors import datatype_of, from_raw, to_raw
from fleet.landing import DigestMismatchError, IncompleteClipError
from fleet.store import LocalStore
from vehicle.contracts import parcel, wire
from vehicle.contracts.clip import ClipManifest
from vehicle.contracts.inference import MAX_TENSOR_BYTES, InferenceReply, InferenceRequest
from vehicle.contracts.parcel import ParcelError
from vehicle.contracts.uplink import PartDigest, UploadAsk, UploadParts, checksum_of, cut
from vehicle.contracts.wire import RefusedError

CLIPS: Final = 1
"""Service of home's node that takes clips."""

RELEASES: Final = 2
"""Service of a car's node that takes signed releases."""

QUESTIONS: Final = 3
"""Service of a satellite's or home's node that answers questions."""

ANSWERS: Final = 4
"""Service of a car's node that takes answers."""

MAX_CLIP_BYTES: Final = 64 << 20
MANIFEST: Final = "manifest.json"
_CALL: Final = "call.json"
_REPLY: Final = "reply.json"


class UnprovenError(RefusedError):
    """Nothing proves who sent it, and it would have an effect."""


class SiteSaysNoError(RefusedError):
    """The site that was asked refuses; the message begins with the refusal's name there."""

    def __init__(self, said: str, request_id: str = "") -> None:
        super().__init__(said)
        self.request_id = request_id


def clip_parcel(folder: Path) -> bytes:
    """Return a clip of a car's outbox as one parcel.

    Raises:
        IncompleteClipError: a file of its manifest is not there.
    """
    raw = (folder / MANIFEST).read_bytes()
    manifest = wire.from_bytes(ClipManifest, raw, strict=False)
    missing = [f"{e.name} is not here" for e in manifest.files if not (folder / e.name).is_file()]
    if missing:
        raise IncompleteClipError(missing)
    files = {entry.name: (folder / entry.name).read_bytes() for entry in manifest.files}
    return parcel.pack({MANIFEST: raw, **{f"files/{n}": data for n, data in files.items()}})


def land(store: LocalStore, car_id: str, data: bytes) -> bool:
    """Land a clip that came in a parcel, as the gateway lands one; False when it had landed before.

    Args:
        car_id: the car that is proven to have sent it.
    Raises:
        ParcelError, ContractError: the bytes are no clip.
        ForeignClipError, IncompleteClipError, DigestMismatchError: see `fleet.landing`.
    """
    contents = parcel.unpack(data, MAX_CLIP_BYTES)
    manifest = wire.from_bytes(ClipManifest, contents.get(MANIFEST, b""))
    for entry in manifest.files:
        content = contents.get(f"files/{entry.name}")
        if content is None:
            raise IncompleteClipError([f"{entry.name} is not in the parcel"])
        if wire.digest(content) != entry.sha256:
            raise DigestMismatchError(
                f"{entry.name} is {wire.digest(content)}, the manifest says {entry.sha256}"
            )
    if store.manifest(manifest.clip_id) is None:
        for entry in manifest.files:
            _put(store, car_id, contents[f"files/{entry.name}"], entry.sha256)
    return store.commit(car_id, manifest)


def _put(store: LocalStore, car_id: str, content: bytes, sha256: str) -> None:
    """Put a content part by part by the grants that a car would be given."""
    pieces = [content[at : at + size] for _, at, size in cut(len(content), store.part_bytes)]
    digests = tuple(wire.digest(piece) for piece in pieces)
    ask = UploadAsk(size_bytes=len(content), part_bytes=store.part_bytes, parts=digests)
    upload = store.grant(car_id, sha256, ask)
    for part in upload.parts:
        if part.url:
            grant = store.open(car_id, part.url.rpartition("/")[2])
            store.put(grant, pieces[part.number - 1], checksum_of(digests[part.number - 1]))
    if not upload.complete:
        named = (PartDigest(number=i, sha256=d) for i, d in enumerate(digests, start=1))
        store.complete(car_id, sha256, UploadParts(parts=tuple(named)))


def question(model: str, inputs: Mapping[str, np.ndarray], request: InferenceRequest) -> bytes:
    """Return a question as a parcel: what the open protocol carries, written down."""
    tensors, raws = _written(inputs)
    head = {"model": model, "parameter": wire.to_bytes(request).decode(), "tensors": tensors}
    return parcel.pack({_CALL: wire.canonical(head), **raws})


def read_question(data: bytes) -> Call:
    """Return the call in a parcel.

    Raises:
        ParcelError: it is none; what the call asks for is checked at the desk.
    """
    contents = parcel.unpack(data, 2 * MAX_TENSOR_BYTES)
    head = _head(contents, _CALL)
    try:
        tensors = tuple(
            Tensor(t["name"], t["datatype"], tuple(t["shape"]), contents[f"tensors/{i}"])
            for i, t in enumerate(head["tensors"])
        )
        model, parameter = head["model"], head["parameter"]
        texts = (model, parameter, *(x for t in tensors for x in (t.name, t.datatype)))
        whole = all(isinstance(text, str) for text in texts)
    except (KeyError, TypeError) as error:
        raise ParcelError(f"{_CALL} says no call: {error!r}") from error
    sizes = [n for tensor in tensors for n in tensor.shape]
    if not whole or any(type(n) is not int for n in sizes):
        raise ParcelError(f"{_CALL} says no call: a name is no text, or a size is no number")
    return Call(
        model=model,
        version="",
        id="",
        parameter=parameter,
        tensors=tensors,
        size_bytes=len(data),
    )


def answer(found: Answer) -> bytes:
    """Return what a desk answered as a parcel."""
    tensors, raws = _written(found.outputs)
    head = {"reply": wire.to_plain(found.reply), "tensors": tensors}
    return parcel.pack({_REPLY: wire.canonical(head), **raws})


def refusal(request_id: str, error: RefusedError) -> bytes:
    """Return a refusal as a parcel."""
    said = f"{type(error).__name__}: {error}"
    return parcel.pack({_REPLY: wire.canonical({"refused": said, "request_id": request_id})})


def read_answer(data: bytes) -> tuple[dict[str, np.ndarray], InferenceReply]:
    """Return outputs and reply of a parcel.

    Raises:
        SiteSaysNoError: it is a refusal.
        ParcelError, ContractError, MalformedRequestError: it is no answer.
    """
    contents = parcel.unpack(data, 2 * MAX_TENSOR_BYTES)
    head = _head(contents, _REPLY)
    if "refused" in head:
        raise SiteSaysNoError(str(head["refused"])[:400], str(head.get("request_id", "")))
    reply = wire.from_plain(InferenceReply, head.get("reply"))
    try:
        outputs = {
            t["name"]: from_raw(t["name"], t["datatype"], t["shape"], contents[f"tensors/{i}"])
            for i, t in enumerate(head["tensors"])
        }
    except (KeyError, TypeError) as error:
        raise ParcelError(f"{_REPLY} says no answer: {error!r}") from error
    return outputs, reply


def _head(contents: Mapping[str, bytes], name: str) -> dict[str, Any]:
    try:
        head = json.loads(contents[name])
    except (KeyError, ValueError, RecursionError) as error:
        raise ParcelError(f"no readable {name} in the parcel ({error!r:.80})") from error
    if not isinstance(head, dict):
        raise ParcelError(f"{name} is no object")
    return head


def _written(arrays: Mapping[str, np.ndarray]) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Return what is said of arrays, and their bytes."""
    named = sorted(arrays.items())
    said = [{"name": n, "datatype": datatype_of(a), "shape": list(a.shape)} for n, a in named]
    return said, {f"tensors/{i}": to_raw(a) for i, (_, a) in enumerate(named)}
