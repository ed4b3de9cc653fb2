"""The lake's tables: every column with its unit, in types that can never need changing.

Only BIGINT, DOUBLE, VARCHAR and FLOAT[] occur: a type promotion in DuckLake 1.5.5 breaks every
later read of the column, so yes/no columns are BIGINT 0 or 1 and every count is 64 bits wide. A
value that was not recorded is NULL, never a number that looks like one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from vehicle.contracts.vocabulary import SIGNALS

SQL_TYPES: Final = {
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.list_(pa.float32()): "FLOAT[]",
}
"""The only column types there are."""

INT, REAL, TEXT, VECTOR = SQL_TYPES

LAKE_SCHEMA: Final = 2
"""Number of the set of tables, written into every lake. Columns and tables may be added under the
same number; it rises when what an older roadloop writes would be wrong."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: name with unit suffix, type, meaning."""

    name: str
    kind: pa.DataType
    about: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table: what a row is, and its columns in order."""

    name: str
    row: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """Return the Arrow schema that rows are appended in."""
        return pa.schema([pa.field(c.name, c.kind) for c in self.columns])

    @property
    def create_sql(self) -> str:
        """Return the column list of CREATE TABLE."""
        return ", ".join(f'"{c.name}" {SQL_TYPES[c.kind]}' for c in self.columns)

    def rows(self, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
        """Return rows as Arrow; a column that a row leaves out is NULL.

        Raises:
            KeyError: a row has a column that the table has not.
        """
        rows = list(rows)
        names = [c.name for c in self.columns]
        strange = {key for row in rows for key in row} - set(names)
        if strange:
            raise KeyError(f"table {self.name} has no column {sorted(strange)[0]!r}")
        data = {n: [row.get(n) for row in rows] for n in names}
        return pa.table(data, schema=self.schema)


_CLIP = Column("clip_id", TEXT, "sha256 of the clip's MCAP file; key of `clips`")
_FRAME = Column(
    "frame_id", INT, "tick of the route, counted from 0; with clip_id the key of `ticks`"
)
_BOX = (
    Column("kind", TEXT, "car, pedestrian, truck, cyclist, ...: KINDS of contracts/scene.py"),
    Column("x_m", REAL, "centre on the ground, ego frame, forward"),
    Column("y_m", REAL, "centre on the ground, ego frame, left"),
    Column("yaw_rad", REAL, "heading in the ego frame, positive to the left"),
    Column("length_m", REAL, "along its heading"),
    Column("width_m", REAL, "across its heading"),
    Column("height_m", REAL, "above the ground"),
)

COMPUTED: Final = ("ttc_s", "lateral_accel_mps2", "rung_index", "mrm")
"""Signals that ingest works out (datalake/rows.py) for a log whose car did not write them."""


def _signal(name: str) -> Column:
    """Return the column of what the car computed in each tick."""
    word = SIGNALS[name]
    kind = INT if word.unit in ("", "0/1", "0..4") else REAL
    about = word.meaning + ("; where the log has none: computed here" * (name in COMPUTED))
    return Column(name, kind, about)


CLIPS: Final = Table(
    "clips",
    "a clip that was ingested",
    (
        _CLIP,
        Column("car_id", TEXT, "the car that sent it"),
        Column("route_id", TEXT, "the drive it was cut from"),
        Column("source", TEXT, "simulator, comma2k19, kitti, ...; tag `source` of the manifest"),
        Column("jurisdiction", TEXT, "ISO 3166 code of where it was recorded; ZZ in simulation"),
        Column("model", TEXT, "bundle that drove, name@version"),
        Column("rig_digest", TEXT, "sha256 of the cameras' calibration; empty without cameras"),
        Column("cameras", INT, "cameras in the clip"),
        Column("rate_hz", REAL, "ticks per second"),
        Column("frame_first", INT, "first frame_id"),
        Column("frame_last", INT, "last frame_id"),
        Column("frames", INT, "ticks recorded"),
        Column("start_mono_ns", INT, "first tick on the route's monotonic clock"),
        Column("end_mono_ns", INT, "last tick on the route's monotonic clock"),
        Column("duration_s", REAL, "end minus start"),
        Column("created_utc_ns", INT, "when the car closed the clip, nanoseconds since 1970 UTC"),
        Column("size_bytes", INT, "of the MCAP file"),
        Column("luma", REAL, "mean of the ticks' luma; NULL without pictures"),
        Column("triggers", TEXT, "names of the triggers that fired, sorted, joined by commas"),
        Column("tags", TEXT, "the manifest's tags as JSON: json_extract_string(tags, '$.town')"),
        Column("object", TEXT, "path of the MCAP file under the lake's folder"),
        Column("object_sha256", TEXT, "of that file: not the clip_id where pictures were blurred"),
        Column("scrub", TEXT, "detector@version that looked for faces and plates; none: nobody"),
        Column("scrubbed", INT, "regions blurred, over all pictures"),
        Column("light", TEXT, "day, dusk, night; tag `light`, NULL where nobody said"),
        Column("weather", TEXT, "clear, rain, fog, ...; tag `weather`, NULL where nobody said"),
        Column("whole", INT, "0: what could be recovered of a cut or damaged clip"),
    ),
)

TICKS: Final = Table(
    "ticks",
    "one pass of the in-car loop",
    (
        _CLIP,
        Column("car_id", TEXT, "as in `clips`, repeated so that most questions need no join"),
        Column("route_id", TEXT, "as in `clips`"),
        _FRAME,
        Column("mono_ns", INT, "end of exposure on the route's monotonic clock"),
        Column("x_m", REAL, "ego position in the local frame (east of the route's start)"),
        Column("y_m", REAL, "ego position in the local frame (north of the route's start)"),
        Column("yaw_rad", REAL, "ego heading, counter-clockwise from east"),
        Column("speed_mps", REAL, "along ego x"),
        Column("accel_mps2", REAL, "longitudinal, negative when braking"),
        Column("yaw_rate_radps", REAL, "positive to the left"),
        Column("curvature_1pm", REAL, "path curvature, positive to the left"),
        Column("latitude_deg", REAL, "WGS84, where known"),
        Column("longitude_deg", REAL, "WGS84, where known"),
        Column("rung", TEXT, "degrade ladder: full, fewer_cameras, coast, hold_plan, mrm"),
        Column("proposal", TEXT, "the planner's winning proposal"),
        Column("command_accel_mps2", REAL, "what the actuators were asked for"),
        Column("command_curvature_1pm", REAL, "what the actuators were asked for"),
        Column("limited_by", TEXT, "safety rules that limited the command, joined by commas"),
        Column("n_tracks", INT, "road users the car believed in; NULL when it did not look"),
        Column("fresh", INT, "1: the network ran on this frame; 0: tracks were only predicted"),
        Column("uncertainty_ratio", REAL, "0..1; over 0.5: beyond 99 % of the training frames"),
        Column("luma", REAL, "mean luminance of the first camera, 0..255; NULL if not decoded"),
        Column("preprocess_us", INT, "stage time"),
        Column("inference_us", INT, "stage time"),
        Column("track_us", INT, "stage time"),
        Column("plan_us", INT, "stage time"),
        Column("control_us", INT, "stage time"),
        Column("trigger_us", INT, "stage time"),
        Column("publish_us", INT, "stage time"),
        Column("total_us", INT, "scheduled release of the frame to command"),
        Column("cancelled", INT, "1: late inference was cut off"),
        *(_signal(name) for name, word in SIGNALS.items() if word.logged),
        Column("h3_cell", INT, "H3 cell of resolution 9 (about 0.1 km2); NULL without position"),
    ),
)

EMBEDDINGS: Final = Table(
    "embeddings",
    "a network's summary of one frame",
    (
        _CLIP,
        _FRAME,
        Column("model", TEXT, "bundle that wrote it, name@version; only the same compare"),
        Column("embedding", VECTOR, "of one length per model"),
    ),
)

TRACKS: Final = Table(
    "tracks",
    "a road user as the car perceived it in one tick",
    (
        _CLIP,
        _FRAME,
        Column("track_id", INT, "the same road user keeps its id along the route; 0: no track yet"),
        *_BOX,
        Column("vx_mps", REAL, "velocity over ground along ego x"),
        Column("vy_mps", REAL, "velocity over ground along ego y"),
        Column("range_m", REAL, "distance of the centre from the ego origin"),
        Column("score_prob", REAL, "detection score"),
        Column("age_ticks", INT, "since first seen"),
        Column("coasted_ticks", INT, "since last seen"),
    ),
)

EVENTS: Final = Table(
    "events",
    "a trigger that fired in the car",
    (
        _CLIP,
        Column("car_id", TEXT, "as in `clips`"),
        Column("trigger", TEXT, "name of the trigger"),
        Column("campaign_id", TEXT, "the campaign that carries it"),
        _FRAME,
        Column("mono_ns", INT, "when, on the route's monotonic clock"),
        Column("value", REAL, "what was measured"),
        Column("threshold", REAL, "what it was measured against"),
        Column("priority", INT, "of its campaign, 0..9; higher went home first"),
    ),
)

LABELLED: Final = Table(
    "labelled",
    "a frame that somebody labelled, with or without boxes in it; each source once",
    (
        _CLIP,
        _FRAME,
        Column("boxes", INT, "boxes drawn: the cost of the frame"),
        Column("source", TEXT, "who labelled: simulator, or teacher:name@version"),
        Column(
            "bev_sha256",
            TEXT,
            "of the frame's raster in labels/<clip_id>.npz (a teacher's: .<name@version>.npz)",
        ),
        Column("road_sha256", TEXT, "of its light and lanes there; NULL where nobody told them"),
    ),
)

LABELS: Final = Table(
    "labels",
    "a labelled box of a bought frame",
    (
        _CLIP,
        _FRAME,
        Column("box", INT, "order of the box in its frame, from 0"),
        *_BOX,
        Column(
            "visible_px", INT, "pixels over all cameras; under 6 it is neither wanted nor punished"
        ),
        Column("actor_id", INT, "the road user in the world, the same along the route; 0: unknown"),
        Column("vx_mps", REAL, "velocity over ground along ego x; NULL where nobody knows it"),
        Column("vy_mps", REAL, "velocity over ground along ego y; NULL where nobody knows it"),
        Column("source", TEXT, "who labelled, as in `labelled`; NULL: the simulator"),
    ),
)

CAPTIONS: Final = Table(
    "captions",
    "why the car decided so in a frame, as an explainer says; each explainer once",
    (
        _CLIP,
        _FRAME,
        Column("model", TEXT, "explainer that said it, name@version"),
        Column("text", TEXT, "the sentence; `no explanation` where it expected another decision"),
        Column("explained", INT, "1: there is one"),
        Column("decision", TEXT, "actuated: stop, slow down, speed up, ..."),
        Column("lateral_decision", TEXT, "actuated: keep the lane, move left, change lane left"),
        Column("factors", TEXT, "what the sentence names, sorted: light, pedestrian, hides car"),
    ),
)

PINS: Final = Table(
    "pins",
    "a dataset, and the snapshot of the lake that must stay readable for it",
    (
        Column("name", TEXT, "folder under datasets/"),
        Column("snapshot", INT, "the lake as the dataset saw it"),
        Column("digest", TEXT, "sha256 of the dataset's manifest"),
        Column("query", TEXT, "the SQL that chose its frames"),
        Column("frames", INT, "frames in it"),
        Column("clips", INT, "clips they came from"),
    ),
)

SUMMARIES: Final = Table(
    "summaries",
    "what a car told of a clip before, or instead of, sending it",
    (
        _CLIP,
        Column("car_id", TEXT, "the car that told it"),
        Column("route_id", TEXT, "the drive it was cut from"),
        Column("jurisdiction", TEXT, "ISO 3166 code of where it was recorded; ZZ in simulation"),
        Column("created_utc_ns", INT, "when the car closed the clip, nanoseconds since 1970 UTC"),
        Column("size_bytes", INT, "of the clip's files"),
        Column("triggers", TEXT, "names of the triggers that fired, sorted, joined by commas"),
        Column("campaigns", TEXT, "their campaigns, sorted, joined by commas"),
        Column("events", INT, "how often they fired"),
        Column("value", REAL, "what the car ranked the clip by"),
        Column("facts", TEXT, "the summary's numbers as JSON: json_extract(facts, '$.ttc_s')"),
        Column("tags", TEXT, "the manifest's tags as JSON"),
    ),
)

MODELS: Final = Table(
    "models",
    "a trained bundle, and the dataset it was trained on",
    (
        Column("name", TEXT, "of the bundle"),
        Column("version", INT, "name@version is what `clips.model` holds"),
        Column("digest", TEXT, "sha256 of the bundle's manifest; key of `models`"),
        Column("recipe", TEXT, "function of training/recipes.py"),
        Column("dataset", TEXT, "name of the pinned dataset; NULL when the lake has none such"),
        Column("dataset_digest", TEXT, "of the dataset's manifest, as in `pins`"),
        Column("parent_digest", TEXT, "of the bundle it was fine-tuned from; NULL: of none"),
        Column("odd", TEXT, "where it was trained to work, as JSON"),
        Column("seed", INT, "of the training run"),
        Column("steps", INT, "of the training run"),
    ),
)

TABLES: Final = {
    t.name: t
    for t in (
        *(CLIPS, TICKS, TRACKS, EVENTS, EMBEDDINGS, SUMMARIES, LABELLED, LABELS, CAPTIONS),
        *(PINS, MODELS),
    )
}
"""Every table of the lake by name."""
