"""The truth of one drive, kept in the simulator until somebody buys its labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from vehicle.contracts.sample import BOX_COLUMNS

if TYPE_CHECKING:
    from sim.run.episode import Episode


_NO_BOXES: Final = np.zeros((0, len(BOX_COLUMNS)), np.float32)


class TruthLog:
    """The truth of one drive: labels by frame, kept in the simulator until a clip is bought.

    Args:
        path: <car folder>/truth/<route_id>.npz; arrays frame_id, bev, boxes, box_start, light
            and lanes as in vehicle.contracts.sample.SHARD_ARRAYS.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._frames: list[int] = []
        self._bev: list[np.ndarray] = []
        self._boxes: list[np.ndarray] = []
        self._light: list[np.ndarray] = []
        self._lanes: list[np.ndarray] = []

    def add(self, episode: "Episode") -> None:
        """Keep the truth of the episode's current frame."""
        boxes, bev = episode.truth()
        self._frames.append(episode.frame_id)
        self._boxes.append(boxes)
        self._bev.append(bev)
        light, lanes = episode.road_truth()
        self._light.append(light)
        self._lanes.append(lanes)

    def close(self) -> None:
        """Write the file, all or nothing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        counts = [len(b) for b in self._boxes]
        temp = self.path.with_name(f".{self.path.name}.part")
        try:
            with temp.open("wb") as file:
                np.savez_compressed(
                    file,
                    frame_id=np.array(self._frames, np.int64),
                    bev=np.array(self._bev, np.uint8).reshape(-1, 100, 64),
                    boxes=np.concatenate(
                        [np.zeros((0, len(BOX_COLUMNS)), np.float32), *self._boxes]
                    ),
                    light=np.array(self._light, np.float32).reshape(-1, 2),
                    lanes=np.array(self._lanes, np.float32).reshape(-1, 4, 50),
                    box_start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
                )
            temp.replace(self.path)
        finally:
            temp.unlink(missing_ok=True)
