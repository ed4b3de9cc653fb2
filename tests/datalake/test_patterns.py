"""One language, two compilers: what fires in the car is what the SQL finds in the lake."""

from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datalake.patterns import PatternError, compiled
from datalake.tables import TABLES, TICKS, TRACKS
from vehicle.contracts import expression_tree as tree
from vehicle.contracts.expression import format, parse
from vehicle.contracts.plan import RUNGS
from vehicle.contracts.scene import KINDS, TRACK, Scene
from vehicle.trigger_code import Compiled

# Values, seconds and steps of time are few and exact in binary, so that comparisons meet, windows
# end on ticks, and sums do not depend on their order.
VALUES = [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0]
SECONDS = [0.125, 0.25, 0.5, 1.0]
STEPS_NS = [62_500_000, 125_000_000, 250_000_000]
PLAIN = ["speed_mps", "accel_mps2", "ttc_s", "missed"]
KEPT = ["limited_by", "rung", "total_us"]
NUMBERS = [*PLAIN, "n_tracks", "fresh", "uncertainty_ratio", "rung_index", "total_us"]
TRACK_NUMBERS = ["range_m", "speed_mps", "x_m", "vy_mps", "age_ticks", "track_id"]
TRACK_KINDS = ["car", "pedestrian"]


def literal(values: list[float]) -> st.SearchStrategy[tree.Expr]:
    return st.sampled_from(values).map(tree.Number)


def negated(node: tree.Expr) -> tree.Expr:
    return tree.Number(-node.value) if isinstance(node, tree.Number) else tree.Negate(node)


def reckoned(base: st.SearchStrategy[tree.Expr]) -> st.SearchStrategy[tree.Expr]:
    return st.recursive(
        base,
        lambda n: (
            st.builds(tree.Arithmetic, st.sampled_from("+-*/"), n, n)
            | n.map(negated)
            | st.builds(tree.Call, st.just("abs"), n)
        ),
        max_leaves=3,
    )


def joined(kind: Any, parts: list[tree.Expr]) -> tree.Expr:
    return kind(tuple(n for p in parts for n in (p.of if isinstance(p, kind) else (p,))))


def combined(base: st.SearchStrategy[tree.Expr]) -> st.SearchStrategy[tree.Expr]:
    pairs = st.lists(base, min_size=2, max_size=2)
    return (
        base
        | base.map(tree.Not)
        | pairs.map(lambda p: joined(tree.And, p))
        | pairs.map(lambda p: joined(tree.Or, p))
    )


def compared(number: st.SearchStrategy[tree.Expr], name: str, texts: list[str]) -> Any:
    return st.builds(
        tree.Compare, st.sampled_from(tree.COMPARISONS), number, number | literal(VALUES)
    ) | st.builds(
        tree.Compare,
        st.sampled_from(["==", "!="]),
        st.just(tree.Name(name)),
        st.sampled_from(texts).map(tree.Text),
    )


ABOUT_TRACKS = combined(
    compared(
        reckoned(st.sampled_from(TRACK_NUMBERS).map(tree.Name) | literal([1.0, 3.0, 5.0])),
        "kind",
        TRACK_KINDS,
    )
)
LEAVES = (
    st.sampled_from(NUMBERS).map(tree.Name)
    | literal(VALUES)
    | st.builds(tree.TrackCall, st.sampled_from(tree.TRACK_CALLS), ABOUT_TRACKS)
)


def windowed(number: Any, condition: Any) -> st.SearchStrategy[tree.Expr]:
    return st.builds(
        tree.Window,
        st.sampled_from(["lowest", "highest", "average", "change"]),
        number,
        st.sampled_from(SECONDS),
    ) | st.builds(tree.Window, st.just("times"), condition, st.sampled_from(SECONDS))


def lasting(condition: Any) -> st.SearchStrategy[tree.Expr]:
    return st.builds(
        tree.Window, st.sampled_from(["held", "seen"]), condition, st.sampled_from(SECONDS)
    ) | st.builds(tree.Call, st.just("rises"), condition)


LEVEL_0 = compared(reckoned(LEAVES), "rung", list(RUNGS[:3])) | compared(
    LEAVES, "limited_by", ["", "rss"]
)
LEVEL_1 = combined(
    LEVEL_0 | lasting(LEVEL_0) | compared(windowed(LEAVES, LEVEL_0), "rung", ["mrm"])
)
LEVEL_2 = combined(
    LEVEL_1
    | lasting(LEVEL_1)
    | compared(windowed(windowed(LEAVES, LEVEL_1), LEVEL_1), "rung", ["full"])
)
PATTERNS = st.builds(
    tree.Pattern,
    LEVEL_2,
    st.lists(st.builds(tree.Then, LEVEL_1, st.sampled_from(SECONDS)), max_size=2).map(tuple),
)

ROAD_USERS = st.fixed_dictionaries(
    {
        "track_id": st.integers(0, 3),
        "kind": st.sampled_from(TRACK_KINDS),
        "x_m": st.sampled_from([-3.0, 0.0, 3.0]),
        "y_m": st.sampled_from([0.0, 4.0]),
        "vx_mps": st.just(0.0),
        "vy_mps": st.sampled_from([-1.0, 0.0, 2.0]),
        "age_ticks": st.integers(0, 3),
    }
)
UNKNOWN = st.none() | st.sampled_from(VALUES)
TICK = st.fixed_dictionaries(
    {
        "step_ns": st.sampled_from(STEPS_NS),
        "rung": st.sampled_from(RUNGS[:3]),
        "limited_by": st.sampled_from([None, "", "rss"]),
        "fresh": st.booleans(),
        "uncertainty_ratio": UNKNOWN,
        "seen": st.none() | st.lists(ROAD_USERS, max_size=3),
        **dict.fromkeys(PLAIN[:-1], UNKNOWN),
        "missed": st.none() | st.integers(0, 1),
        "total_us": st.integers(0, 3),
    }
)
HISTORY = st.lists(TICK, min_size=1, max_size=12)


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        for table in (TICKS, TRACKS):
            connection.execute(f'CREATE TABLE "{table.name}" ({table.create_sql})')
        yield connection


def in_the_car(pattern: tree.Pattern, history: list[dict[str, Any]]) -> list[int]:
    """Return the ticks on which the car's function fires."""
    car, now_ns, fired = Compiled([pattern]), 0, []
    for frame, tick in enumerate(history):
        now_ns += tick["step_ns"]
        values = {k: tick[k] for k in (*PLAIN, "limited_by") if tick[k] is not None}
        values |= {"rung": tick["rung"], "rung_index": float(RUNGS.index(tick["rung"]))}
        if tick["missed"] is not None:  # somebody waits for the ticks
            values["total_us"] = float(tick["total_us"])
        scene = None
        if tick["seen"] is not None:
            scene = scene_of(frame, tick["seen"])
            values |= {"n_tracks": float(len(tick["seen"])), "fresh": float(tick["fresh"])}
            if tick["fresh"] and tick["uncertainty_ratio"] is not None:
                values["uncertainty_ratio"] = tick["uncertainty_ratio"]
        if car.of(values, scene, now_ns):
            fired.append(frame)
    return fired


def scene_of(frame: int, seen: list[dict[str, Any]]) -> Scene:
    tracks = np.zeros(len(seen), TRACK)
    for row, user in zip(tracks, seen, strict=True):
        for name, value in user.items():
            row[name] = KINDS.index(value) if name == "kind" else value
    nothing = np.zeros(0, np.float32)
    return Scene(
        frame_id=frame, mono_ns=0, tracks=tracks, embedding=nothing,
        uncertainty_ratio=0.0, fresh=True,
    )  # fmt: skip


def rows_of(clip: str, history: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Return a history as the lake keeps it."""
    ticks, tracks, now_ns = [], [], 0
    for frame, tick in enumerate(history):
        now_ns += tick["step_ns"]
        key = {"clip_id": clip, "frame_id": frame}
        row = {**key, "mono_ns": now_ns, **{k: tick[k] for k in (*PLAIN, *KEPT)}}
        if tick["seen"] is not None:
            row |= {"n_tracks": len(tick["seen"]), "fresh": int(tick["fresh"])}
            row["uncertainty_ratio"] = tick["uncertainty_ratio"]
            tracks += [
                {**key, **user, "range_m": float(np.hypot(user["x_m"], user["y_m"]))}
                for user in tick["seen"]
            ]
        ticks.append(row)
    return ticks, tracks


def in_the_lake(
    database: duckdb.DuckDBPyConnection, text: str, histories: list[list[dict[str, Any]]]
) -> list[list[int]]:
    """Return the ticks that the SQL finds, history by history."""
    found: list[list[int]] = [[] for _ in histories]
    parts = [rows_of(str(n), history) for n, history in enumerate(histories)]
    for table, rows in zip((TICKS, TRACKS), zip(*parts, strict=True), strict=True):
        arrow = table.rows(row for part in rows for row in part)
        database.execute(f'DELETE FROM "{table.name}"')
        database.register("given", arrow)
        database.execute(f'INSERT INTO "{table.name}" BY NAME SELECT * FROM given')
    for clip, frame, *_ in database.execute(compiled(text).sql).fetchall():
        found[int(clip)].append(frame)
    return found


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(pattern=PATTERNS, histories=st.lists(HISTORY, min_size=1, max_size=4))
def test_car_and_lake_fire_on_the_same_ticks(
    database: duckdb.DuckDBPyConnection, pattern: tree.Pattern, histories: list[Any]
) -> None:
    text = format(pattern)
    assert parse(text) == pattern
    expected = [in_the_car(pattern, history) for history in histories]
    assert in_the_lake(database, text, histories) == expected


EASY = {
    "step_ns": 125_000_000,
    "rung": "full",
    "limited_by": None,
    "fresh": True,
    "total_us": 0,
} | {
    **dict.fromkeys([*PLAIN, "uncertainty_ratio"]),
    "seen": [],
}


def history(column: str, *values: Any) -> list[dict[str, Any]]:
    return [{**EASY, column: value} for value in values]


def user(track_id: int, x_m: float, kind: str = "car") -> dict[str, Any]:
    place = {"track_id": track_id, "kind": kind, "x_m": x_m, "y_m": 0.0}
    return {**place, "vx_mps": 0.0, "vy_mps": 0.0, "age_ticks": 0}


@pytest.mark.parametrize(
    ("text", "given", "fires"),
    [
        ("speed_mps > 1", history("speed_mps", 1.0, 2.0, None), [1]),
        ("not speed_mps > 1", history("speed_mps", 1.0, 2.0, None), [0, 2]),
        ("speed_mps != 1", history("speed_mps", 1.0, 2.0, None), [1]),
        ("speed_mps / 0 != 1", history("speed_mps", 1.0), []),
        ("speed_mps * speed_mps > 1", history("speed_mps", 1e200), [0]),
        ("speed_mps * speed_mps - speed_mps * speed_mps >= 0", history("speed_mps", 1e200), []),
        ("average(speed_mps * speed_mps, 1) >= 4", history("speed_mps", 1e200, 2.0), [1]),
        ("held(speed_mps > 1, 0.125)", history("speed_mps", 0.0, 2.0, 2.0, 2.0), [2, 3]),
        ("rises(speed_mps > 1)", history("speed_mps", 2.0, 0.0, 2.0, 2.0), [2]),
        ("times(rises(speed_mps > 1), 1) >= 2", history("speed_mps", 0, 2, 0, 2, 0), [3, 4]),
        ("change(speed_mps, 0.25) >= 2", history("speed_mps", 0.0, None, 2.0, 2.0), [2]),
        ("average(speed_mps, 0.25) >= 2", history("speed_mps", 3.0, None, 1.0, 0.0), [0, 1, 2]),
        (
            "speed_mps > 1 then speed_mps < 0 within 0.25 s",
            history("speed_mps", 2.0, 0.0, -1.0, -1.0),
            [2],
        ),
        ("tracks(kind == 'car') == 0", [{**EASY, "seen": None}, EASY], [1]),
        (
            "appears(x_m < 5) >= 1",
            history("seen", [user(1, 4)], [user(1, 4), user(2, 9)], [user(2, 4), user(0, 4)], None),
            [2],
        ),
        (
            "nearest(kind == 'car') < 4",
            history("seen", [user(1, 3)], [user(1, 3, "pedestrian")]),
            [0],
        ),
    ],
)  # fmt: skip
def test_meaning_by_example(
    database: duckdb.DuckDBPyConnection, text: str, given: list[Any], fires: list[int]
) -> None:
    assert in_the_car(parse(text), given) == fires
    assert in_the_lake(database, text, [given]) == [fires]


def test_a_deep_pattern_is_as_many_layers_as_it_has_windows_inside_windows() -> None:
    sql = compiled("highest(average(lowest(speed_mps, 1), 1), 1) > 2 and held(missed == 1, 1)").sql
    assert "layer_3 AS" in sql
    assert "layer_4 AS" not in sql


def test_what_was_compared_is_shown(database: duckdb.DuckDBPyConnection) -> None:
    found = compiled("tracks(range_m < 5) >= 1 and speed_mps >= 0")
    in_the_lake(database, "speed_mps >= 0", [[{**EASY, "speed_mps": 2.0, "seen": [user(1, 3)]}]])
    table = database.execute(found.sql).to_arrow_table().to_pylist()
    shown = {"speed_mps": 2.0, "tracks(range_m < 5)": 1}
    assert table == [{"clip_id": "0", "frame_id": 0, **shown}]


def test_no_text_gets_out_of_its_quotes() -> None:
    with pytest.raises(PatternError):
        compiled("limited_by == 'x' OR 1=1 --'")
    assert "''" not in compiled("limited_by == 'a \" b'").sql


@pytest.mark.parametrize("text", ["", "speed_mps", "luma > 3", "held(speed_mps > 1)", "x" * 3000])
def test_what_is_no_expression_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(PatternError, match="expected"):
        compiled(text)


def test_tables_of_the_test_are_those_of_the_lake() -> None:
    assert {TICKS.name, TRACKS.name} <= set(TABLES)
