"""The float weights of a network as plain arrays: what a fine-tune starts from."""

import io
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from training.model import NetConfig, NetR
from vehicle.config import RIG_R
from vehicle.contracts import wire
from vehicle.contracts.bundle import ModelBundle
from vehicle.contracts.wire import RefusedError

WEIGHTS: Final = "weights.npz"


class ParentBundleError(RefusedError):
    """A bundle cannot be trained further: no weights, tampered, or for other cameras."""


def write_weights(path: Path, net: nn.Module, *, half: bool = False) -> None:
    """Write every learned number of a network, atomically.

    Args:
        half: as float16, half the size; a fine-tune does not feel the difference.
    """
    buffer, dtype = io.BytesIO(), np.float16 if half else np.float32
    state = {
        k: v.float().numpy().astype(dtype)
        for k, v in net.state_dict().items()
        if v.is_floating_point()
    }
    np.savez(buffer, **{k: np.ascontiguousarray(v) for k, v in sorted(state.items())})
    wire.atomic_write(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a weights file as float32; no pickle is ever read."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name].astype(np.float32) for name in archive.files}


def read_weights(folder: Path) -> tuple[ModelBundle, dict[str, np.ndarray]]:
    """Return the manifest and the verified weights of a bundle folder.

    Raises:
        ParentBundleError: no bundle, no weights in it, other bytes than its manifest names, or
            built for other cameras.
    """
    manifest, path = folder / "bundle.json", folder / WEIGHTS
    if not manifest.is_file():
        raise ParentBundleError(f"{folder} is not a bundle: it has no bundle.json")
    bundle = wire.from_bytes(ModelBundle, manifest.read_bytes())
    entry = next((f for f in bundle.files if f.name == WEIGHTS), None)
    if entry is None or not path.is_file():
        raise ParentBundleError(f"{folder} has no {WEIGHTS}: it cannot be trained further")
    if wire.digest_file(path) != entry.sha256:
        raise ParentBundleError(f"{path} is not the file its manifest names; fetch it again")
    if bundle.rig.digest != RIG_R.digest:
        raise ParentBundleError(f"{folder} is built for rig {bundle.rig.name!r}, expected 'R'")
    return bundle, read_arrays(path)


def network_of(kinds: tuple[str, ...], weights: dict[str, np.ndarray]) -> NetR:
    """Return the network these weights belong to; its sizes are read off them.

    Raises:
        ParentBundleError: a weight is missing or has a shape that fits no network R.
    """
    try:
        net = NetR(kinds, _config(weights))
        state = {k: torch.from_numpy(v.copy()) for k, v in weights.items()}
        missing, unexpected = net.load_state_dict(state, strict=False)
    except (KeyError, RuntimeError) as error:
        raise ParentBundleError(f"weights fit no network R: {error}") from error
    lacking = [k for k in missing if not k.endswith("num_batches_tracked")]
    if lacking or unexpected:
        raise ParentBundleError(f"weights fit no network R: {(lacking or unexpected)[0]!r}")
    return net


def grown(
    kinds: tuple[str, ...],
    config: NetConfig,
    parent_kinds: tuple[str, ...],
    weights: dict[str, np.ndarray],
) -> NetR:
    """Return a network that begins with the weights of a parent that has other or fewer parts.

    What only the network has begins anew, what only the parent has is left behind. Heat channels
    are matched by kind; a new kind begins as half of its nearest of kin. A wider network listens to
    no new channel at first, so that it begins as good as its parent (Chen et al., "Net2Net", 2016).

    Raises:
        ParentBundleError: a weight of the parent is larger than the network's.
    """
    net = NetR(kinds, config)
    state = net.state_dict()
    for name, value in weights.items():
        if name in _PER_KIND:
            _lend(state[name], value, kinds, parent_kinds, relate=name == "heat.1.weight")
        elif name in state:
            _widen(name, state[name], value)
    net.load_state_dict(state)
    return net


def meaned(net: NetR, parent: Path) -> NetR:
    """Return a network halfway between itself and the bundle it grew from.

    A short run learns what is new and forgets some of what was known; halfway back it has most of
    both.

    Raises:
        ParentBundleError: the bundle is none that it can have grown from.
    Source: Wortsman et al., "Robust fine-tuning of zero-shot models" (2022): means of weights.
    """
    bundle, weights = read_weights(parent)
    before = grown(net.kinds, net.config, bundle.kinds, weights).state_dict()
    state = net.state_dict()
    for name, value in state.items():
        if name in weights:
            known = slice(len(weights[name])) if value.ndim else ...  # what is new stays as learned
            value[known] = 0.5 * (value[known] + before[name][known])
    copy = NetR(net.kinds, net.config)
    copy.load_state_dict(state)
    return copy.eval()


def _widen(name: str, own: torch.Tensor, value: np.ndarray) -> None:
    """Copy a parent's weight into the first rows and columns; those rows hear no others."""
    shape = tuple(own.shape)
    if len(shape) != value.ndim or any(n < m for n, m in zip(shape, value.shape, strict=True)):
        raise ParentBundleError(
            f"weight {name!r} of the parent is {value.shape}, the network has {shape}"
        )
    if value.ndim:
        own[: len(value)] = 0.0
    own[tuple(slice(n) for n in value.shape)] = torch.from_numpy(value)


_PER_KIND: Final = ("heat.1.weight", "heat.1.bias", "heat_scale", "heat_offset")
_KIN: Final = {
    **dict.fromkeys(("truck", "bus", "trailer", "emergency"), "car"),
    **dict.fromkeys(("cyclist", "motorcycle", "animal", "cone", "debris", "other"), "pedestrian"),
}


def _lend(
    own: torch.Tensor,
    value: np.ndarray,
    kinds: tuple[str, ...],
    parent_kinds: tuple[str, ...],
    *,
    relate: bool,
) -> None:
    for row, kind in enumerate(kinds):
        kin = _KIN.get(kind)
        if kind in parent_kinds:
            own[row] = torch.tensor(value[parent_kinds.index(kind)])
        elif relate and kin in parent_kinds:
            own[row] += 0.5 * torch.tensor(value[parent_kinds.index(kin)])


def _config(weights: dict[str, np.ndarray]) -> NetConfig:
    def width(name: str) -> int:
        return int(weights[name].shape[0])

    return NetConfig(
        stem=width("backbone.stem.0.weight"),
        quarter=width("backbone.quarter.0.0.weight"),
        eighth=width("backbone.eighth.0.0.weight"),
        sixteenth=width("backbone.sixteenth.0.0.weight"),
        features=width("backbone.feature.weight"),
        depth_bins=width("backbone.depth.weight"),
        bev=width("encoder.enter.0.weight"),
        bev_half=width("encoder.far.0.0.weight"),
        head=width("heat.0.0.weight"),
        memory=width("keep.weight") + 1,
    )
