"""The memory of a recorded frame, made as the car makes it: from the frame just before."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from training.frames import Frames
from training.warp import warp

See = Callable[[dict[str, np.ndarray]], np.ndarray]
"""Runs a graph on the inputs of one frame and returns its `memory_out`."""


def inputs_of(
    data: Frames,
    index: int,
    see: See | None,
    memory_shape: tuple[int, ...] | None,
    stretch: float = 1.0,
) -> dict[str, np.ndarray]:
    """Return the inputs of a graph for one frame of a dataset.

    Args:
        see: None forgets: the memory is zeros.
        memory_shape: of the graph's input, None for a graph without memory.
        stretch: of the motion that is told, 1 for the truth.
    """
    inputs = {
        "front": np.ascontiguousarray(data.front[index]),
        "side": np.ascontiguousarray(data.side[index]),
    }
    if memory_shape is None:
        return inputs
    inputs["memory"] = np.zeros(memory_shape, np.float32)
    earlier = data.before(index)
    if see is None or earlier is None:
        return inputs
    kept = torch.from_numpy(see(inputs_of(data, earlier, None, memory_shape)))
    moved = warp(kept, torch.from_numpy(stretch * data.motion[index : index + 1, :3]))
    return {**inputs, "memory": moved.numpy()}


def spread_over(frames: Sequence[Frames], limit: int) -> Iterator[tuple[Frames, int]]:
    """Yield up to `limit` frames spread evenly over each dataset; those with a memory come first
    where a dataset has any."""
    each = max(limit // len(frames), 1)
    for data in frames:
        known = np.array([i for i in range(len(data)) if data.before(i) is not None])
        places = known if len(known) else np.arange(len(data))
        for i in np.unique(np.linspace(0, len(places) - 1, min(each, len(places))).astype(int)):
            yield data, int(places[i])
