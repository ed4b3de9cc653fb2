"""Which frames a dataset holds: a question, a snapshot, and what was left out of the answer.

A manifest keeps all of it, so the frames of a dataset can be told again from the lake at any time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from datalake.duplicates import thin
from datalake.jurisdiction import only, require_open
from datalake.lake import Lake
from vehicle.contracts import wire
from vehicle.contracts.home import Home
from vehicle.contracts.sample import DatasetManifest, read_manifest

Chosen = dict[str, list[int]]
"""clip_id -> frame_ids, both in order."""

_NO_DUPLICATES: Final = "no_duplicates"
_LEFT_OUT: Final = "duplicates_left_out"
_JURISDICTIONS: Final = "jurisdictions"

RESERVED_TAGS: Final = frozenset((_NO_DUPLICATES, _LEFT_OUT, _JURISDICTIONS))
"""Tags of a manifest that say how its frames were chosen."""


class DatasetQueryError(wire.RefusedError):
    """The query does not yield clip_id and frame_id of frames that the lake holds."""


class EmptyDatasetError(wire.RefusedError):
    """The query chose no frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How the frames of a dataset are chosen.

    Args:
        sql: must yield clip_id and frame_id; order and repetitions do not matter.
        jurisdictions: only clips recorded there; none named: all.
        no_duplicates: leave out frames that look like one that stays, at this cosine; None: none.
    """

    sql: str
    jurisdictions: tuple[str, ...] = ()
    no_duplicates: float | None = None

    @classmethod
    def of(cls, manifest: DatasetManifest) -> "Choice":
        """Return how a dataset was chosen."""
        tags = manifest.tags
        return cls(
            sql=manifest.query,
            jurisdictions=tuple(filter(None, tags.get(_JURISDICTIONS, "").split(","))),
            no_duplicates=float(tags[_NO_DUPLICATES]) if _NO_DUPLICATES in tags else None,
        )

    def frames(self, lake: Lake) -> tuple[Chosen, dict[str, str]]:
        """Return the frames, and the tags by which a manifest tells how they were chosen.

        Raises:
            DatasetQueryError, EmptyDatasetError, ClosedJurisdictionError, ThresholdError: by name.
        """
        chosen, tags = only(lake, choose(lake, self.sql), self.jurisdictions), dict[str, str]()
        if not chosen:
            raise EmptyDatasetError(f"no frame was recorded in {', '.join(self.jurisdictions)}")
        require_open(lake, chosen)
        if self.jurisdictions:
            tags[_JURISDICTIONS] = ",".join(self.jurisdictions)
        if self.no_duplicates is not None:
            thinned = thin(lake, chosen, self.no_duplicates)
            chosen = thinned.kept
            tags[_NO_DUPLICATES] = repr(self.no_duplicates)
            tags[_LEFT_OUT] = str(thinned.same_tick + thinned.alike)
        return chosen, tags


def choose(lake: Lake, sql: str) -> Chosen:
    """Return the frames that a query yields.

    Raises:
        DatasetQueryError, EmptyDatasetError: by name.
    """
    answer = lake.sql(sql)
    for column, is_kind in (("clip_id", pa.types.is_string), ("frame_id", pa.types.is_integer)):
        if column not in answer.column_names or not is_kind(answer[column].type):
            raise DatasetQueryError(
                f"the query yields {', '.join(answer.column_names)}; expected among them a "
                "clip_id (text) and a frame_id (integer), as `ticks` has them"
            )
    pairs = set(zip(answer["clip_id"].to_pylist(), answer["frame_id"].to_pylist(), strict=True))
    if not pairs:
        raise EmptyDatasetError(
            f"the query chose no frame at snapshot {lake.snapshot()}; try it with "
            "`roadloop datalake sql`"
        )
    if any(clip is None or frame is None for clip, frame in pairs):
        raise DatasetQueryError("the query yields a NULL clip_id or frame_id")
    chosen: Chosen = {}
    for clip, frame in sorted(pairs):
        chosen.setdefault(clip, []).append(frame)
    return chosen


def frames_of(home: Home, manifest: DatasetManifest) -> Mapping[str, list[int]]:
    """Return the frames of a dataset of this home, chosen again as they were.

    Raises:
        UnknownSnapshotError, QueryError: the lake is not the one it was made from.
    """
    with Lake(home) as lake, lake.at(manifest.snapshot) as then:
        return Choice.of(manifest).frames(then)[0]


def named(home: Home, name: str) -> DatasetManifest | None:
    """Return the manifest of the dataset called so, None where there is none."""
    folder = home.datasets / name
    plain = "/" not in name and not name.startswith(".")
    return read_manifest(folder) if plain and (folder / "dataset.json").is_file() else None
