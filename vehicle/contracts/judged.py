"""What a network said about clips at home: labels or embeddings, as files that the lake takes in.

A folder holds this manifest (JUDGED, written last) and one npz file per clip. Of labels:
`frame_id`, `bev`, `boxes` and `box_start` as in contracts/sample.py; of embeddings: `frame_id` and
`embedding` float32 [N, E].
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from vehicle.contracts.clip import FileEntry
from vehicle.contracts.wire import require

JUDGED: Final = "judged.json"

_TAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}@[0-9]{1,9}")
_FILE: Final = re.compile(r"[0-9a-f]{64}\.npz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The manifest of such a folder.

    Args:
        what: what the files hold.
        model: name@version of the network; `model_digest` the sha256 of its bundle.
        frames: in all files.
        files: <clip_id>.npz each.
    """

    SCHEMA: ClassVar[str] = "judged/1"
    what: Literal["labels", "embeddings"]
    model: str
    model_digest: str
    frames: int
    files: tuple[FileEntry, ...]

    def __post_init__(self) -> None:
        require(self.what in ("labels", "embeddings"), f"what is {self.what!r}")
        require(bool(_TAG.fullmatch(self.model)), f"model is {self.model!r}, expected name@version")
        strange = [f.name for f in self.files if not _FILE.fullmatch(f.name)]
        require(not strange, f"file {strange[:1]} is no <clip_id>.npz")
