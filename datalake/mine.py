"""Named questions: what is worth labelling, written once, documented, and usable everywhere.

Every question yields clip_id, frame_id and the value it was chosen by, worst first, so that the
same text works in `sql`, `mine`, `label` and `dataset create`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from datalake.lake import Lake
from vehicle.contracts.wire import RefusedError


class UnknownQueryError(RefusedError):
    """There is no named question of that name, or it has no such number to set."""


@dataclass(frozen=True, slots=True)
class Query:
    """A named question.

    Args:
        name: what it is called by.
        about: what it finds, and why one would want that.
        text: SQL with the defaults' names in braces.
        defaults: the numbers that may be set.
    """

    name: str
    about: str
    text: str
    defaults: Mapping[str, float]

    def sql(self, **values: float) -> str:
        """Return the SQL with its numbers filled in; only numbers ever enter the text.

        Raises:
            UnknownQueryError: a name that the question does not have.
        """
        for key in values:
            if key not in self.defaults:
                known = ", ".join(self.defaults) or "none"
                raise UnknownQueryError(f"{self.name} has no number {key!r}; it has: {known}")
        filled = {k: repr(float(v)) for k, v in {**self.defaults, **values}.items()}
        return self.text.format(**filled)


_ALL: Final = (
    Query(
        "hard_brakes",
        "Frames where the car braked hard: somebody, or the car itself, was surprised.",
        "SELECT clip_id, frame_id, accel_mps2 FROM ticks WHERE accel_mps2 <= -{brake_mps2} "
        "ORDER BY accel_mps2, clip_id, frame_id",
        {"brake_mps2": 3.5},
    ),
    Query(
        "low_ttc",
        "Frames where a track in the car's path was seconds away.",
        "SELECT clip_id, frame_id, ttc_s FROM ticks WHERE ttc_s <= {ttc_s} "
        "ORDER BY ttc_s, clip_id, frame_id",
        {"ttc_s": 1.5},
    ),
    Query(
        "uncertain",
        "Frames unlike what the network was trained on (0.5 is its 99th percentile).",
        "SELECT clip_id, frame_id, uncertainty_ratio FROM ticks "
        "WHERE uncertainty_ratio >= {uncertainty_ratio} AND fresh = 1 "
        "ORDER BY uncertainty_ratio DESC, clip_id, frame_id",
        {"uncertainty_ratio": 0.5},
    ),
    Query(
        "night",
        "Frames of dark clips.",
        "SELECT t.clip_id, t.frame_id, c.luma FROM ticks t JOIN clips c USING (clip_id) "
        "WHERE c.luma < {luma} ORDER BY c.luma, t.clip_id, t.frame_id",
        {"luma": 70.0},
    ),
    Query(
        "night_uncertain",
        "Frames of dark clips that are unlike the training set: what night training lacks.",
        "SELECT t.clip_id, t.frame_id, t.uncertainty_ratio, c.luma FROM ticks t "
        "JOIN clips c USING (clip_id) WHERE c.luma < {luma} AND t.fresh = 1 "
        "AND t.uncertainty_ratio >= {uncertainty_ratio} "
        "ORDER BY t.uncertainty_ratio DESC, t.clip_id, t.frame_id",
        {"luma": 70.0, "uncertainty_ratio": 0.5},
    ),
    Query(
        "slow_ticks",
        "Ticks that came close to their deadline or missed it, with where the time went.",
        "SELECT clip_id, frame_id, total_us, preprocess_us, inference_us, track_us, plan_us, "
        "control_us, rung, cancelled FROM ticks WHERE total_us >= {total_us} OR cancelled = 1 "
        "ORDER BY total_us DESC, clip_id, frame_id",
        {"total_us": 8_000.0},
    ),
    Query(
        "degraded",
        "Ticks below the top of the degrade ladder.",
        "SELECT clip_id, frame_id, rung, total_us FROM ticks WHERE rung != 'full' "
        "ORDER BY clip_id, frame_id",
        {},
    ),
    Query(
        "flickering",
        "Frames with a young track that was already lost once: detections that come and go.",
        "SELECT clip_id, frame_id, count(*) AS tracks FROM tracks "
        "WHERE age_ticks <= {age_ticks} AND coasted_ticks > 0 GROUP BY ALL "
        "ORDER BY tracks DESC, clip_id, frame_id",
        {"age_ticks": 10.0},
    ),
    Query(
        "unlabelled_events",
        "Frames at which a trigger fired and whose label nobody has bought.",
        'SELECT e.clip_id, e.frame_id, e."trigger", e.value FROM events e '
        "ANTI JOIN labelled l ON l.clip_id = e.clip_id AND l.frame_id = e.frame_id "
        "ORDER BY e.clip_id, e.frame_id",
        {},
    ),
)

QUERIES: Final = {query.name: query for query in _ALL}
"""Every named question."""


def named(name: str) -> Query:
    """Return the question called `name`.

    Raises:
        UnknownQueryError: there is none.
    """
    if name not in QUERIES:
        raise UnknownQueryError(f"no question is called {name!r}; there are: {', '.join(QUERIES)}")
    return QUERIES[name]


def mine(lake: Lake, name: str, **values: float) -> pa.Table:
    """Return the answer to a named question, worst first."""
    return lake.sql(named(name).sql(**values))
