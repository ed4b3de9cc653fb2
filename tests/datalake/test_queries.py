"""Every named question over constructed rows: what it must find, in order, and what it must not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from datalake.mine import sql_of
from datalake.patterns import compiled
from datalake.queries import NotFramesError, UnknownQueryError, all_queries, named
from datalake.tables import SQL_TYPES, TABLES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "queries.md"
Rows = dict[str, list[dict[str, Any]]]
STEP_NS = 100_000_000


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """The lake's tables without a lake: their columns, empty."""
    with duckdb.connect() as connection:
        for table in TABLES.values():
            connection.execute(f'CREATE TABLE "{table.name}" ({table.create_sql})')
        yield connection


@pytest.fixture
def ask(database: duckdb.DuckDBPyConnection) -> Iterator[Any]:
    """Put rows into the tables, ask a question by name, return its rows as dicts."""

    def answer(name: str, rows: Rows, **numbers: float) -> list[dict[str, Any]]:
        for table, given in rows.items():
            arrow = TABLES[table].rows(given)
            database.register("given", arrow)
            database.execute(f'INSERT INTO "{table}" BY NAME SELECT * FROM given')
            database.unregister("given")
        query = named(name)
        found = database.execute(query.sql(**numbers)).to_arrow_table().to_pylist()
        if query.text and query.when:
            same = database.execute(compiled(query.expression(**numbers)).sql).fetchall()
            assert {(r["clip_id"], r["frame_id"]) for r in found} == {r[:2] for r in same}
        return found

    yield answer
    for table in TABLES:
        database.execute(f'DELETE FROM "{table}"')


def ticks(*values: dict[str, Any], clip: str = "a", **same: Any) -> list[dict[str, Any]]:
    """Return a clip's ticks at 10 Hz; `same` holds for all of them, `values` for one each."""
    return [
        {"clip_id": clip, "car_id": "car-1", "route_id": "r", "frame_id": i, "mono_ns": i * STEP_NS}
        | {"n_tracks": 1, "fresh": 1, "rung": "full", "yaw_rad": 0.0, "curvature_1pm": 0.0}
        | same
        | value
        for i, value in enumerate(values)
    ]


def track(frame: int, x_m: float, y_m: float = 0.0, **also: Any) -> dict[str, Any]:
    """Return a row of `tracks`: a car of 4 x 2 m that stands unless told otherwise."""
    return {
        **{"clip_id": "a", "frame_id": frame, "track_id": 7, "kind": "car", "x_m": x_m, "y_m": y_m},
        **{"length_m": 4.0, "width_m": 2.0, "vx_mps": 0.0, "vy_mps": 0.0, "score_prob": 0.9},
        **{"range_m": (x_m**2 + y_m**2) ** 0.5, "age_ticks": 50, "coasted_ticks": 0},
        **also,
    }


def clip(name: str = "a", **also: Any) -> dict[str, Any]:
    facts = {"car_id": "car-1", "route_id": "r", "rate_hz": 10.0, "size_bytes": 100}
    return {"clip_id": name, **facts, "duration_s": 10.0, "model": "base@2", **also}


def event(frame: int, trigger: str = "ttc", clip: str = "a", **also: Any) -> dict[str, Any]:
    facts = {"campaign_id": "c", "car_id": "car-1", "mono_ns": frame * STEP_NS, "value": 1.0}
    return {"clip_id": clip, "trigger": trigger, "frame_id": frame, **facts, **also}


def frames(answer: list[dict[str, Any]]) -> list[int]:
    return [row["frame_id"] for row in answer]


@pytest.mark.parametrize(
    ("name", "column", "values", "found"),
    [
        ("hard_brakes", "accel_mps2", [-3.4, -3.5, None, -6.0], [3, 1]),
        ("harsh_steers", "lateral_accel_mps2", [2.9, -3.5, None, 3.0], [1, 3]),
        ("low_ttc", "ttc_s", [1.6, 1.5, None, 0.2], [3, 1]),
        ("near_misses", "rss_margin_m", [0.0, -0.1, None, -5.0], [3, 1]),
        ("crowded", "n_tracks", [19, 20, None, 40], [3, 1]),
        ("uncertain", "uncertainty_ratio", [0.49, 0.5, None, 0.9], [3, 1]),
        ("novel", "novelty", [1.3, 1.4, None, 5.0], [3, 1]),
        ("shadow_disagreements", "shadow_disagreement", [0.4, 0.5, None, 1.0], [3, 1]),
        ("planner_against_driver", "human_gap_m", [1.9, 2.0, None, 4.0], [3, 1]),
        ("late_ticks", "missed", [0, 1, None, 1], [1, 3]),
        ("takeovers", "takeover", [0, 1, None, 1], [1, 3]),
        ("bookmarks", "bookmark", [0, 1, None, 1], [1, 3]),
        ("degraded", "rung", ["full", "coast", None, "mrm"], [3, 1]),
        ("overruled", "limited_by", ["", "rss", None, "rss,curve"], [1, 3]),
        ("mrms", "mrm", [0, 1, 1, None, 1], [1, 4]),
    ],
)
def test_a_threshold_finds_what_is_over_it_and_nothing_unknown(
    ask: Any, name: str, column: str, values: list[Any], found: list[int]
) -> None:
    assert frames(ask(name, {"ticks": ticks(*({column: v} for v in values))})) == found


def test_a_network_that_did_not_run_is_not_uncertain(ask: Any) -> None:
    given = ticks({"fresh": 1}, {"fresh": 0}, uncertainty_ratio=0.9)
    assert frames(ask("uncertain", {"ticks": given})) == [0]


def test_cut_ins_are_those_who_came_from_beside_and_are_close(ask: Any) -> None:
    came = [track(f, 12.0, y, vx_mps=10.0) for f, y in enumerate([3.5, 2.5, 1.5, 0.5])]
    always = [track(f, 12.0, 0.0, vx_mps=10.0, track_id=8) for f in range(4)]
    oncoming = [
        track(f, 12.0, y, vx_mps=-9.0, track_id=9) for f, y in enumerate([3.5, 2.5, 1.5, 0.5])
    ]
    far = [track(f, 40.0, y, vx_mps=10.0, track_id=10) for f, y in enumerate([3.5, 2.5, 1.5, 0.5])]
    given = {"ticks": ticks({}, {}, {}, {}, speed_mps=10.0)}
    answer = ask("cut_ins", {**given, "tracks": came + always + oncoming + far})
    assert [(r["frame_id"], r["track_id"], round(r["seconds"], 2)) for r in answer] == [
        (2, 7, 0.63),
        (3, 7, 0.63),
    ]


def test_a_cut_in_of_long_ago_is_following(ask: Any) -> None:
    sides = [3.5, *[0.0] * 40]
    given = {"ticks": ticks(*({} for _ in sides), speed_mps=10.0)}
    came = [track(f, 12.0, y, vx_mps=10.0) for f, y in enumerate(sides)]
    assert max(frames(ask("cut_ins", {**given, "tracks": came}))) == 20


def turn(rate: float, clip: str = "a") -> list[dict[str, Any]]:
    """Six seconds, heading through the seam at pi."""
    wrapped = [(3.0 + rate * i * 0.1 + 3.141592653589793) % 6.283185307179586 for i in range(60)]
    return ticks(*({"yaw_rad": y - 3.141592653589793} for y in wrapped), clip=clip)


def test_unprotected_turns_have_somebody_crossing(ask: Any) -> None:
    crossing = {"kind": "pedestrian", "vy_mps": -1.2}
    people = [
        track(30, 8.0, 4.0, **crossing),
        track(31, 8.0, -4.0, **crossing),  # walks away
        track(32, 8.0, 4.0, kind="pedestrian"),  # stands
        track(33, 8.0, 4.0, kind="car", vy_mps=-1.2),
        track(34, -8.0, 4.0, **crossing),  # behind
        track(35, 30.0, 4.0, **crossing),  # far
        track(30, 8.0, 4.0, clip_id="b", **crossing),  # straight on
    ]
    answer = ask("unprotected_turns", {"ticks": turn(0.25) + turn(0.01, "b"), "tracks": people})
    assert [(r["clip_id"], r["frame_id"], r["side"]) for r in answer] == [("a", 30, "left")]
    assert answer[0]["turn_rad"] == pytest.approx(0.25 * 5.9)


def test_right_turns_are_turns(ask: Any) -> None:
    person = track(30, 8.0, -1.0, kind="cyclist", vx_mps=2.0)
    answer = ask("unprotected_turns", {"ticks": turn(-0.25), "tracks": [person]})
    assert [r["side"] for r in answer] == ["right"]


def test_night_rain_and_somebody_vulnerable_all_at_once(ask: Any) -> None:
    clips = [
        clip("a", light="night", weather="rain"),
        clip("b", light="day", weather="rain", luma=20.0),
        clip("c", light="night", weather="clear"),
        clip("d", luma=20.0, weather="rain"),
    ]
    people = [track(0, 10.0, kind="pedestrian", clip_id=c) for c in "abcd"]
    people += [track(1, 21.0, kind="cyclist"), track(2, 5.0), track(3, 5.0, kind="cyclist")]
    answer = ask("night_rain_vru", {"clips": clips, "tracks": people})
    assert [(r["clip_id"], r["frame_id"]) for r in answer] == [("a", 3), ("a", 0), ("d", 0)]


def test_late_vrus_are_close_when_first_seen(ask: Any) -> None:
    young = {"kind": "pedestrian", "age_ticks": 1}
    people = [
        track(0, 14.0, **young),
        track(1, 15.0, **young),
        track(2, 5.0, kind="pedestrian", age_ticks=9),
        track(3, 5.0, kind="car", age_ticks=1),
        track(4, -5.0, **young),
        track(5, 3.0, kind="cyclist", age_ticks=0),
    ]
    given = {"ticks": ticks(*({} for _ in range(6))), "tracks": people}
    assert frames(ask("late_vrus", given)) == [5, 0]


def test_tailgating_is_held(ask: Any) -> None:
    gaps = [20.0] * 5 + [14.0] * 35  # 8 m of gap at 10 m/s
    given = {
        "ticks": ticks(*({} for _ in gaps), speed_mps=10.0),
        "tracks": [track(f, x, vx_mps=10.0) for f, x in enumerate(gaps)],
    }
    assert frames(ask("tailgating", given)) == list(range(35, 40))


def test_who_stands_at_a_light_does_not_tailgate(ask: Any) -> None:
    given = {
        "ticks": ticks(*({} for _ in range(40)), speed_mps=0.0),
        "tracks": [track(f, 8.0, vx_mps=0.0) for f in range(40)],
    }
    assert ask("tailgating", given) == []


def test_stop_and_go_is_more_than_one_stop(ask: Any) -> None:
    speeds = [5, 0, 0, 5, 5, 0, 5, 5]
    given = ticks(*({"speed_mps": float(v)} for v in speeds))
    once = ticks(*({"speed_mps": float(v)} for v in [5, 0, 0, 0, 5]), clip="b")
    assert frames(ask("stop_and_go", {"ticks": given + once})) == [5, 6, 7]


def lane_change(shift_m: float, clip: str) -> list[dict[str, Any]]:
    """Ten seconds at 10 m/s; between the 3rd and the 6th, `shift_m` to the left."""
    rows = []
    for i in range(100):
        part = min(max((i - 30) / 30, 0.0), 1.0)
        rate = shift_m / 30 * 0.1 if 30 < i <= 60 else 0.0
        rows.append({"x_m": float(i), "y_m": shift_m * part, "yaw_rad": rate * 10})
    return ticks(*rows, clip=clip)


def test_lane_changes_end_with_the_old_heading(ask: Any) -> None:
    bend = ticks(
        *({"x_m": float(i), "y_m": i * i / 400, "yaw_rad": i / 200} for i in range(100)), clip="c"
    )
    given = lane_change(3.5, "a") + lane_change(1.0, "b") + bend
    answer = ask("lane_changes", {"ticks": given})
    assert [r["clip_id"] for r in answer] == ["a"]
    assert 50 < answer[0]["frame_id"] <= 61
    assert answer[0]["left_m"] > 2.5


def test_stationary_in_the_way_and_not_beside_it(ask: Any) -> None:
    given = {
        "ticks": ticks({}, {}, {}, {}, {"curvature_1pm": 0.02}, speed_mps=10.0),
        "tracks": [
            track(0, 25.0),
            track(1, 25.0, 3.0),
            track(2, 25.0, vx_mps=5.0),
            track(3, 60.0),
            track(4, 25.0, 6.25),  # in the way round the bend
        ],
    }
    assert frames(ask("stationary_in_way", given)) == [0, 4]


def test_oncoming_in_the_own_way(ask: Any) -> None:
    oncoming = {"vx_mps": -10.0}
    given = {
        "ticks": ticks({}, {}, {}, {}, speed_mps=10.0),
        "tracks": [
            track(0, 40.0, **oncoming),
            track(1, 40.0, 3.5, **oncoming),
            track(2, 40.0),
            track(3, 90.0, **oncoming),
        ],
    }
    assert frames(ask("oncoming_in_way", given)) == [0]


def test_a_brake_soon_after_somebody_came_close(ask: Any) -> None:
    accel = [0.0] * 10 + [-4.0] * 20
    near = [20.0] * 5 + [10.0] * 25
    given = {
        "ticks": ticks(*({"accel_mps2": a} for a in accel)),
        "tracks": [track(f, x) for f, x in enumerate(near)],
    }
    assert frames(ask("brake_after_close", given, within_s=1.0)) == [10, 11, 12, 13, 14, 15]


def test_lost_close_and_flickering_and_doubtful(ask: Any) -> None:
    given = {
        "ticks": ticks({}, {}, {}, {}, {}, {}),
        "tracks": [
            track(0, 10.0, coasted_ticks=3),
            track(1, 10.0, coasted_ticks=2, age_ticks=10),
            track(2, 30.0, coasted_ticks=5),
            track(3, 10.0, kind="pedestrian", score_prob=0.3),
            track(4, 10.0, kind="pedestrian", score_prob=0.9),
            track(5, 10.0, kind="car", score_prob=0.3, age_ticks=11, coasted_ticks=1),
        ],
    }
    assert frames(ask("lost_close", given)) == [0]
    assert frames(ask("flickering", {})) == [1]
    assert frames(ask("doubtful_vrus", {})) == [3]


def test_rare_kinds_are_counted_by_road_user_not_by_frame(ask: Any) -> None:
    cars = [track(f, 10.0, track_id=n) for n in range(1, 31) for f in (0, 1)]
    animals = [track(f, 10.0, track_id=99, kind="animal") for f in range(5)]
    doubt = [track(9, 10.0, track_id=98, kind="debris", score_prob=0.1)]
    answer = ask("rare_kinds", {"tracks": cars + animals + doubt})
    assert frames(answer) == [0, 1, 2, 3, 4]
    assert answer[0]["kind"] == "animal"
    assert answer[0]["share_ratio"] == pytest.approx(1 / 32)


def test_night_is_dark_and_uncertain_night_is_both(ask: Any) -> None:
    given = {
        "clips": [clip("a", luma=30.0), clip("b", luma=90.0), clip("c")],
        "ticks": [
            *ticks({"uncertainty_ratio": 0.6}, {"uncertainty_ratio": 0.1}),
            *ticks({"uncertainty_ratio": 0.9}, clip="b"),
            *ticks({"uncertainty_ratio": 0.9}, clip="c"),
        ],
    }
    assert [(r["clip_id"], r["frame_id"]) for r in ask("night", given)] == [("a", 0), ("a", 1)]
    assert [(r["clip_id"], r["frame_id"]) for r in ask("night_uncertain", {})] == [("a", 0)]


def test_what_the_triggers_miss_is_far_from_their_events(ask: Any) -> None:
    given = {
        "ticks": ticks(*({} for _ in range(80)), uncertainty_ratio=0.9)
        + ticks({}, clip="b", uncertainty_ratio=0.9),
        "events": [event(40), event(0, "random", "b")],
    }
    given["ticks"][5]["random_prob"] = 1.0  # the value of the event: it was drawn
    given["events"].append(event(5, "control group"))
    answer = ask("uncertain_untriggered", given)
    assert [(r["clip_id"], r["frame_id"]) for r in answer] == [
        *(("a", f) for f in (*range(10), *range(71, 80))),
        ("b", 0),
    ]


def test_unlabelled_events_and_clips(ask: Any) -> None:
    given = {
        "clips": [clip("a"), clip("b", size_bytes=5), clip("c", size_bytes=9)],
        "events": [event(1), event(2), event(1, clip="b")],
        "labelled": [{"clip_id": "a", "frame_id": 1, "boxes": 2}],
    }
    answer = ask("unlabelled_events", given)
    assert [(r["clip_id"], r["frame_id"]) for r in answer] == [("a", 2), ("b", 1)]
    assert [r["clip_id"] for r in ask("never_labelled", {})] == ["c", "b"]


def caption(frame: int, decision: str = "stop", **also: Any) -> dict[str, Any]:
    """Return a caption that explains, by a pedestrian."""
    facts = {"model": "explainer@1", "text": "because ...", "explained": 1}
    said = {"decision": decision, "factors": "limit, pedestrian"}
    return {"clip_id": "a", "frame_id": frame, **facts, **said, **also}


def test_unexplained_is_what_no_explainer_explains(ask: Any) -> None:
    missed = {"text": "no explanation", "explained": 0, "factors": ""}
    told = [caption(1, **missed), caption(2, **missed), caption(2, model="explainer@2"), caption(3)]
    found = ask("unexplained", {"captions": told})
    assert [r["frame_id"] for r in found] == [1]


def test_people_are_found_as_causes_and_not_as_passers_by(ask: Any) -> None:
    passed = caption(2, decision="speed up")
    told = [caption(1), caption(1, model="explainer@2"), passed, caption(3, factors="car, light")]
    found = ask("stopped_for_people", {"captions": told})
    assert [r["frame_id"] for r in found] == [1]


def test_slow_ticks_name_the_stage_that_took_longest(ask: Any) -> None:
    given = ticks(
        {"total_us": 8_500, "inference_us": 5_000, "plan_us": 2_000},
        {"total_us": 7_999},
        {"total_us": 9_000, "inference_us": 1_000, "plan_us": 6_000, "cancelled": 1},
        {"total_us": 100, "cancelled": 1},
    )
    answer = ask("slow_ticks", {"ticks": given})
    assert [(r["frame_id"], r["longest"]) for r in answer[:2]] == [(2, "plan"), (0, "inference")]
    assert frames(answer) == [2, 0, 3]


def test_missing_ticks_are_holes_in_time(ask: Any) -> None:
    given = ticks({}, {}, {}, {})
    given[3]["mono_ns"] += 5 * STEP_NS
    answer = ask("missing_ticks", {"clips": [clip()], "ticks": given})
    assert [(r["frame_id"], round(r["gap_s"], 3)) for r in answer] == [(3, 0.6)]


def test_clips_that_were_cut_or_not_scrubbed(ask: Any) -> None:
    clips = [
        clip("a", whole=0, cameras=1, scrub="none", jurisdiction="DE"),
        clip("b", whole=1, cameras=1, scrub="yunet@1", jurisdiction="DE"),
        clip("c", cameras=0, jurisdiction="DE"),
        clip("d", cameras=2, jurisdiction="AT"),
    ]
    assert [r["clip_id"] for r in ask("cut_clips", {"clips": clips})] == ["a"]
    assert [r["clip_id"] for r in ask("unscrubbed", {})] == ["d", "a"]


CELL = 0x891F1D48177FFFF
SAME_AT_8 = 0x891F1D48163FFFF
ELSEWHERE = 0x891F1D48067FFFF
PARENT_AT_8 = 0x881F1D4817FFFFF


def test_hot_spots_are_cells_by_share_and_can_be_coarser(ask: Any) -> None:
    here = {"h3_cell": CELL, "latitude_deg": 52.5, "longitude_deg": 13.4}
    given = [
        *ticks(*({"shadow_disagreement": v} for v in [0.9, 0.1, 0.1, 0.1]), **here),
        *ticks(*({"shadow_disagreement": 0.8} for _ in range(4)), clip="b", h3_cell=SAME_AT_8),
        *ticks({"shadow_disagreement": 0.9}, clip="c"),
        *ticks(*({"shadow_disagreement": 0.1} for _ in range(4)), clip="d", h3_cell=ELSEWHERE),
    ]
    fine = ask("disagreement_hot_spots", {"ticks": given}, ticks=4)
    assert [(r["cell"], r["share_ratio"]) for r in fine] == [(SAME_AT_8, 1.0), (CELL, 0.25)]
    coarse = ask("disagreement_hot_spots", {}, ticks=4, resolution=8)
    assert (coarse[0]["cell"], coarse[0]["ticks"]) == (PARENT_AT_8, 8)


def test_parents_of_cells_are_those_of_the_h3_library(ask: Any) -> None:
    h3 = pytest.importorskip("h3")
    cell = h3.latlng_to_cell(48.137, 11.575, 9)
    given = ticks({"shadow_disagreement": 0.9, "h3_cell": h3.str_to_int(cell)})
    for resolution in range(10):
        found = ask("disagreement_hot_spots", {"ticks": given}, ticks=1, resolution=resolution)
        assert found[0]["cell"] == h3.str_to_int(h3.cell_to_parent(cell, resolution))
        given = []


def test_brakes_cluster_by_manoeuvre_not_by_tick(ask: Any) -> None:
    once = [{"accel_mps2": a} for a in (0.0, -4.0, -5.0, -4.0, 0.0)]
    given = [
        *ticks(*once, h3_cell=CELL),
        *ticks(*once, {"accel_mps2": -6.0}, clip="b", h3_cell=CELL, car_id="car-2"),
        *ticks(*once, clip="c", h3_cell=SAME_AT_8),
        *ticks(*once, clip="d"),
    ]
    answer = ask("hard_brake_clusters", {"ticks": given})
    assert [(r["cell"], r["brakes"], r["cars"], r["hardest_mps2"]) for r in answer] == [
        (CELL, 3, 2, -6.0)
    ]


def test_campaigns_cost_what_their_clips_weigh(ask: Any) -> None:
    given = {
        "clips": [clip("a"), clip("b", size_bytes=1_000, car_id="car-2"), clip("c")],
        "events": [event(1), event(2), event(1, clip="b"), event(3, clip="b", campaign_id="d")],
        "labelled": [{"clip_id": "a", "frame_id": f, "boxes": 1} for f in (1, 5)],
    }
    answer = ask("campaign_costs", given)
    shown = [
        (r["campaign_id"], r["cars"], r["clips"], r["events"], r["bytes"], r["labelled_frames"])
        for r in answer
    ]
    assert shown == [("c", 2, 2, 3, 1_100, 2), ("d", 1, 1, 1, 1_000, 0)]


def test_triggers_yield_events_clips_and_labels(ask: Any) -> None:
    given = {
        "events": [event(1), event(2, value=3.0), event(1, "brake", "b")],
        "labelled": [{"clip_id": "a", "frame_id": 2, "boxes": 1}],
    }
    answer = ask("trigger_yield", given)
    assert [(r["trigger"], r["events"], r["median_value"], r["labelled"]) for r in answer] == [
        ("ttc", 2, 2.0, 1),
        ("brake", 1, 1.0, 0),
    ]


def test_the_control_group_is_what_only_chance_sent(ask: Any) -> None:
    given = {
        "clips": [clip("a"), clip("b"), clip("c", tags='{"taken": "whole"}'), clip("d")],
        "events": [
            event(0, clip="c"),
            event(0),
            event(0, "random"),
            event(0, "random_1", "b"),
            event(0, clip="d"),
        ],
        "ticks": [
            *ticks({"uncertainty_ratio": 0.9, "accel_mps2": -9.0}, {"uncertainty_ratio": 0.9}),
            *ticks({"uncertainty_ratio": 0.1}, clip="b"),
            *ticks({"uncertainty_ratio": 0.6, "ttc_s": 1.0}, clip="c"),
        ],
        "tracks": [track(0, 5.0, kind="cyclist"), track(1, 5.0, kind="pedestrian", track_id=8)],
    }
    answer = ask("random_against_triggered", given)
    shown = [(r["chosen"], r["clips"], r["uncertain_ratio"], r["vrus_per_tick"]) for r in answer]
    assert shown == [("triggered", 1, 1.0, 1.0), ("random", 2, 0.5, 0.0)]


def test_coverage_counts_minutes_by_light_weather_and_town(ask: Any) -> None:
    told = {"light": "night", "weather": "rain", "tags": '{"town": "3"}'}
    given = {
        "clips": [clip("a", **told), clip("b", **told), clip("c", duration_s=60.0, tags="{}")],
        "labelled": [{"clip_id": "a", "frame_id": 1, "boxes": 2}],
    }
    answer = ask("coverage", given)
    assert [tuple(r.values())[:4] for r in answer] == [
        ("night", "rain", "3", 2),
        ("?", "?", "?", 1),
    ]
    assert [r["labelled_frames"] for r in answer] == [1, 0]


def test_uncertainty_drifts_day_by_day(ask: Any) -> None:
    day = 86_400_000_000_000
    given = {
        "clips": [clip("a", created_utc_ns=day), clip("b", created_utc_ns=2 * day)],
        "ticks": [
            *ticks({"uncertainty_ratio": 0.2}, {"uncertainty_ratio": 0.4}, {"fresh": 0}),
            *ticks({"uncertainty_ratio": 0.6}, clip="b"),
        ],
    }
    answer = ask("uncertainty_by_day", given)
    assert [(str(r["day"]), r["ticks"], round(r["median_ratio"], 3)) for r in answer] == [
        ("1970-01-02", 2, 0.3),
        ("1970-01-03", 1, 0.6),
    ]


def test_models_and_their_stages_stand_side_by_side(ask: Any) -> None:
    given = {
        "clips": [clip("a"), clip("b", model="base@3")],
        "ticks": [
            *ticks({"total_us": 6_000, "inference_us": 4_000, "takeover": 1, "missed": 0}),
            *ticks(
                {"total_us": 8_000, "inference_us": 5_000, "missed": 0},
                {"total_us": 9_000, "inference_us": 7_000, "rung": "coast", "missed": 1},
                clip="b",
            ),
        ],
    }
    compared = ask("models_compared", given)
    shown = [
        (r["model"], r["ticks"], r["p50_us"], r["missed_ratio"], r["degraded_ratio"])
        for r in compared
    ]
    assert shown == [("base@2", 1, 6_000.0, 0.0, 0.0), ("base@3", 2, 8_500.0, 0.5, 0.5)]
    stages = ask("stage_times", {})
    assert [(r["model"], r["stage"], r["max_us"]) for r in stages] == [
        ("base@2", "total", 6_000),
        ("base@2", "inference", 4_000),
        ("base@3", "total", 9_000),
        ("base@3", "inference", 7_000),
    ]


def test_cars_that_fell_silent_come_first(ask: Any) -> None:
    given = {
        "clips": [
            clip("a", created_utc_ns=2_000_000_000),
            clip("b", created_utc_ns=3_000_000_000, route_id="r2"),
            clip("c", created_utc_ns=1_000_000_000, car_id="car-2"),
        ],
        "ticks": ticks({}, {}, speed_mps=20.0),
    }
    answer = ask("cars", given)
    assert [(r["car_id"], r["drives"], r["clips"], r["km"]) for r in answer] == [
        ("car-2", 1, 1, None),
        ("car-1", 2, 2, 0.2),
    ]


def test_kinds_and_the_bill_for_labels(ask: Any) -> None:
    given = {
        "tracks": [track(0, 5.0), track(1, 4.0), track(0, 9.0, kind="animal", track_id=8)],
        "labels": [{"clip_id": "a", "frame_id": 0, "box": b, "kind": "car"} for b in (0, 1)],
        "clips": [clip("a", triggers="ttc")],
        "labelled": [{"clip_id": "a", "frame_id": f, "boxes": f, "source": "s"} for f in (1, 3)],
    }
    kinds = ask("kinds_seen", given)
    assert [(r["kind"], r["tracks"], r["nearest_m"], r["boxes"]) for r in kinds] == [
        ("animal", 1, 9.0, 0),
        ("car", 1, 4.0, 2),
    ]
    bill = ask("label_bill", {})
    assert [(r["source"], r["triggers"], r["frames"], r["boxes"]) for r in bill] == [
        ("s", "ttc", 2, 4)
    ]


def test_every_question_is_asked_above() -> None:
    source = Path(__file__).read_text()
    assert [name for name in all_queries() if f'"{name}"' not in source] == []
    assert len(all_queries()) == 52  # docs/how-to/ask-the-lake.md says fifty-two


@pytest.mark.parametrize("name", all_queries())
def test_a_question_says_what_it_yields_and_needs(
    database: duckdb.DuckDBPyConnection, name: str
) -> None:
    query = named(name)
    columns = database.execute(query.sql()).to_arrow_table().column_names
    if query.yields == "frames":
        assert columns[:2] == ["clip_id", "frame_id"]
        assert len(columns) > 2
    else:
        assert (columns[0] == "clip_id") == (query.yields == "clips")
        assert not query.when
    plan = database.execute(
        "SELECT json_serialize_sql(?)", [query.sql().replace("\n", " ")]
    ).fetchone()
    assert plan is not None
    used = {t for t in TABLES if f'"table_name":"{t}"' in plan[0]}
    assert used == set(query.needs)
    assert query.about.endswith(".")
    assert query.why.endswith(".") or query.why.endswith("?")


def test_numbers_are_numbers_and_never_anything_else() -> None:
    brakes = named("hard_brakes")
    assert "--" not in brakes.sql(brake_mps2=-3.0)
    with pytest.raises(UnknownQueryError, match="it has: brake_mps2"):
        brakes.sql(brake=1.0)
    with pytest.raises(UnknownQueryError, match="finite"):
        brakes.sql(brake_mps2=float("nan"))
    with pytest.raises(UnknownQueryError, match="whole"):
        named("crowded").sql(tracks=2.5)
    with pytest.raises(UnknownQueryError, match="did you mean hard_brakes"):
        named("hard_break")


def test_a_question_that_counts_chooses_no_frames() -> None:
    assert sql_of("low_ttc") == named("low_ttc").sql()
    assert sql_of("SELECT 1") == "SELECT 1"
    assert sql_of("never_labelled", clips=True) == named("never_labelled").sql()
    with pytest.raises(NotFramesError, match="yields facts"):
        sql_of("coverage")
    with pytest.raises(NotFramesError, match="yields clips"):
        sql_of("never_labelled")


def written() -> str:
    """Return the reference page of the library, from the library."""
    lines = [
        "# Named questions",
        "",
        "Written from `datalake/queries*.py` by `pytest tests/datalake --update-refs`; in the",
        "terminal: `roadloop datalake queries`. Ask one with `roadloop datalake mine NAME`, set",
        "its numbers with `--set`. Questions of frames yield `clip_id`, `frame_id` and the value",
        "they chose by, worst first, and can be given to `label`, `dataset create` and `sheet`;",
        "those of clips can be given to `label`; those of facts count and choose nothing. What has",
        "a trigger can be asked of cars: `roadloop datalake to-trigger NAME`.",
    ]
    for query in all_queries().values():
        lines += ["", f"## {query.name}", "", f"{query.about} {query.why}", ""]
        lines += [f"- yields {query.yields}; reads {', '.join(f'`{t}`' for t in query.needs)}"]
        lines += [f"- `{k}` = {n.default:g}: {n.about}" for k, n in query.numbers.items()]
        if query.when:
            lines += [f"- trigger: `{query.expression()}`"]
        if query.text:
            lines += ["", "```sql", query.sql(), "```"]
    return "\n".join(lines) + "\n"


def test_page_of_questions_is_up_to_date(request: pytest.FixtureRequest) -> None:
    page = written()
    if request.config.getoption("--update-refs"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page, "run pytest tests/datalake --update-refs and look"


def test_types_of_the_tables_are_those_of_the_lake(database: duckdb.DuckDBPyConnection) -> None:
    for table in TABLES.values():
        found = database.execute(f'DESCRIBE "{table.name}"').fetchall()
        assert [row[1] for row in found] == [SQL_TYPES[c.kind] for c in table.columns]
