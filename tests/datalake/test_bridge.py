"""A question becomes a trigger and a trigger a question, and nothing changes its meaning."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from datalake.bridge import NotATriggerError, expression_of
from datalake.campaign_file import add_trigger, read_campaign, trigger_of
from datalake.forecast import Held, fired, forecast, poisson_interval
from datalake.lake import Lake
from datalake.patterns import compiled
from datalake.queries import all_queries
from datalake.tables import CLIPS, EVENTS, TABLES, TICKS
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN, Campaign, TriggerSpec
from vehicle.contracts.campaign_file import CampaignFileError
from vehicle.contracts.home import Home

SPEC = TriggerSpec(name="close", kind="expression", when="ttc_s <= 1")


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """Ticks with every mixture of values and gaps."""
    values: list[float | None] = [None, -4.0, 0.0, 1.5, 30.0]
    mixed = [(a, s, r) for a in values for s in values for r in (None, "full", "coast")]
    with duckdb.connect() as connection:
        for name in ("ticks", "tracks"):
            connection.execute(f'CREATE TABLE "{name}" ({TABLES[name].create_sql})')
        given = TICKS.rows(
            {
                "clip_id": "a",
                "frame_id": i,
                "mono_ns": i,
                "accel_mps2": a,
                "speed_mps": s,
                "rung": r,
            }
            for i, (a, s, r) in enumerate(mixed)
        )
        connection.register("given", given)
        connection.execute("INSERT INTO ticks BY NAME SELECT * FROM given")
        yield connection


@pytest.mark.parametrize(
    ("where", "expression"),
    [
        ("accel_mps2 <= -3.5", "accel_mps2 <= -3.5"),
        ("NOT accel_mps2 > 0", "accel_mps2 <= 0"),
        ("NOT (speed_mps > 1 OR accel_mps2 < 0)", "speed_mps <= 1 and accel_mps2 >= 0"),
        ("NOT (speed_mps > 1 AND NOT accel_mps2 < 0)", "speed_mps <= 1 or accel_mps2 < 0"),
        ("speed_mps BETWEEN 0 AND 2", "speed_mps >= 0 and speed_mps <= 2"),
        ("speed_mps NOT BETWEEN 0 AND 2", "speed_mps < 0 or speed_mps > 2"),
        ("rung IN ('full', 'coast')", "rung == 'full' or rung == 'coast'"),
        ("rung NOT IN ('full', 'mrm')", "rung != 'full' and rung != 'mrm'"),
        ("t.rung <> 'full'", "rung != 'full'"),
        ("speed_mps IS NULL", "not speed_mps == speed_mps"),
        ("rung IS NOT NULL AND ticks.speed_mps < 1e1", "rung == rung and speed_mps < 10"),
        ("abs(accel_mps2) - speed_mps / 4 > 0.5", "abs(accel_mps2) - speed_mps / 4 > 0.5"),
        ("-speed_mps < -1", "-speed_mps < -1"),
        ("speed_mps", "speed_mps != 0"),
        ("NOT speed_mps", "speed_mps == 0"),
        ("(speed_mps > 1 AND rung = 'full') OR accel_mps2 = 0",
         "speed_mps > 1 and rung == 'full' or accel_mps2 == 0"),
        ("CAST(speed_mps AS DOUBLE) >= 30", "speed_mps >= 30"),
    ],
)  # fmt: skip
def test_sql_becomes_an_expression_that_finds_the_same_ticks(
    database: duckdb.DuckDBPyConnection, where: str, expression: str
) -> None:
    table = "ticks t" if "t.rung" in where else "ticks"
    sql = f"SELECT clip_id, frame_id FROM {table} WHERE {where} ORDER BY 2"
    assert expression_of(sql) == expression
    expected = database.execute(sql).fetchall()
    found = [row[:2] for row in database.execute(compiled(expression).sql).fetchall()]
    assert found == expected
    assert found


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("SELECT * FROM tracks WHERE range_m < 9", "no tracks"),
        ("SELECT * FROM ticks JOIN clips USING (clip_id) WHERE luma < 9", "no JOIN"),
        ("SELECT * FROM ticks, clips WHERE true", "no JOIN"),
        ("SELECT * FROM (SELECT * FROM ticks) WHERE true", "no SUBQUERY"),
        ("SELECT clip_id FROM ticks WHERE speed_mps > 1 GROUP BY clip_id", "GROUP BY"),
        ("SELECT * FROM ticks WHERE speed_mps > 1 QUALIFY row_number() OVER () = 1", "QUALIFY"),
        ("SELECT * FROM ticks WHERE speed_mps > 1 LIMIT 3", "LIMIT"),
        ("SELECT DISTINCT clip_id FROM ticks WHERE speed_mps > 1", "DISTINCT"),
        ("WITH x AS (SELECT 1) SELECT * FROM ticks WHERE speed_mps > 1", "WITH"),
        ("SELECT 1 FROM ticks WHERE speed_mps > 1 UNION SELECT 2", "SET OPERATION"),
        ("SELECT * FROM ticks", "no WHERE"),
        ("SELECT * FROM ticks WHERE luma < 60", "no car knows luma"),
        ("SELECT * FROM ticks WHERE sqrt(speed_mps) > 3", r"sqrt\(\)"),
        ("SELECT * FROM ticks WHERE rung LIKE 'c%'", "LIKE"),
        ("SELECT * FROM ticks WHERE speed_mps > (SELECT avg(speed_mps) FROM ticks)", "SUBQUERY"),
        ("SELECT * FROM ticks WHERE speed_mps IS DISTINCT FROM 3", "DISTINCT"),
        ("SELECT * FROM ticks WHERE speed_mps = NULL", "never true"),
        ("SELECT * FROM ticks WHERE rung = 'fulll'", "fulll"),
        ("SELECT * FROM ticks WHERE speed_mps > 'a'", "expected"),
        ("SELECT * FROM ticks WHERE CASE WHEN true THEN speed_mps > 1 END", "CASE"),
        ("SELECT FROM ticks WHERE", "does not parse"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("coverage", "coverage reads clips, labelled in a way no car can"),
        ("speed_mps >", "at character"),
    ],
)
def test_what_no_car_can_run_is_refused_by_name(sql: str, named: str) -> None:
    with pytest.raises(NotATriggerError, match=named):
        expression_of(sql)


def test_named_questions_with_a_triggers_form_become_one() -> None:
    assert expression_of("low_ttc", ttc_s=0.5) == "ttc_s <= 0.5"
    watchable = [name for name, query in all_queries().items() if query.when]
    assert len(watchable) >= 15
    for name in watchable:
        spec = TriggerSpec(name=name, kind="expression", when=expression_of(name))
        assert expression_of(spec.when) == spec.when


def test_a_trigger_is_added_to_a_file_and_the_rest_of_it_stays(tmp_path: Path) -> None:
    path = tmp_path / "braking.toml"
    assert add_trigger(path, SPEC).campaign_id == "braking"
    path.write_text(f"# mine\n{path.read_text()}")
    second = TriggerSpec(name='lost "it"', kind="expression", when="rung == 'coast'", hold_s=0.5)
    campaign = add_trigger(path, second)
    assert campaign.triggers == (SPEC, second)
    assert path.read_text().startswith("# mine\n")
    with pytest.raises(CampaignFileError, match="--name"):
        add_trigger(path, SPEC)
    with pytest.raises(CampaignFileError, match=r"\.toml"):
        add_trigger(tmp_path / "braking.json", SPEC)
    assert read_campaign(Home(tmp_path), str(path)) == campaign


def test_what_home_signs_is_the_campaign_as_it_was_written(home: Home, tmp_path: Path) -> None:
    from fleet.campaign import Campaigns
    from fleet.campaign_example import EXAMPLE
    from vehicle.contracts.campaign_file import read

    path = tmp_path / "example.toml"
    path.write_text(EXAMPLE)
    campaign = add_trigger(path, SPEC)
    assert read(path) == campaign
    Campaigns(home).put(campaign)
    assert trigger_of(read_campaign(home, "example"), "close") == SPEC


@pytest.mark.parametrize("text", ["x = ", "[[triggers]]\nname = 3", "campaign_id = 'a'\ncars = 3"])
def test_a_file_that_is_no_campaign_stays_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(CampaignFileError, match="is no campaign"):
        add_trigger(path, SPEC)
    assert path.read_text() == text


def test_a_campaign_that_home_keeps_is_found_by_name(home: Home) -> None:
    from fleet.campaign import Campaigns

    Campaigns(home).put(DEFAULT_CAMPAIGN)
    campaign = read_campaign(home, "default")
    assert trigger_of(campaign, "ttc").expression == "ttc_s <= 1.5"
    with pytest.raises(CampaignFileError, match="it has: hard_brake"):
        trigger_of(campaign, "no")
    with pytest.raises(CampaignFileError, match="home keeps: default"):
        read_campaign(home, "other")


def held(*seconds: float, drive: str = "d", tick_s: float = 0.1) -> list[Held]:
    return [
        Held(
            drive=drive, n=round(s / tick_s), mono_ns=round(s * 1e9), clip_id="a",
            frame_id=round(s / tick_s), fair=True, tick_ns=round(tick_s * 1e9),
        )
        for s in seconds
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "given", "frames"),
    [
        ({"min_interval_s": 0.0}, [0.0, 0.1], [0, 1]),
        ({"min_interval_s": 1.0}, [0.0, 0.1, 1.0, 1.1], [0, 10]),
        ({"hold_s": 0.2, "min_interval_s": 0.0}, [0.0, 0.1, 0.2, 0.4, 0.5], [2]),
        ({"hold_s": 0.2, "debounce_s": 0.1, "min_interval_s": 0.0}, [0.0, 0.2, 0.3], [2, 3]),
    ],
)
def test_a_trigger_fires_as_in_the_car(
    fields: dict[str, Any], given: list[float], frames: list[int]
) -> None:
    from vehicle.trigger import Triggers

    spec = TriggerSpec(name="x", kind="expression", when="speed_mps > 0", **fields)
    assert [tick.frame_id for tick in fired(held(*given), spec)] == frames
    car = Triggers((Campaign(campaign_id="c", triggers=(spec,), max_clips_per_hour=3600.0),), 10.0)
    in_car = [
        n
        for n in range(20)
        if car.evaluate(
            {"speed_mps": float(n in {round(s * 10) for s in given})}, None, n, n * 10**8
        )
    ]
    assert in_car == frames


def test_a_forecast_is_drawn_from_what_chance_chose(home: Home) -> None:
    """An hour in 6 clips of 10 min; two of the random sample, one of them with one event."""
    step_ns, per_clip = 10**9, 600
    with Lake(home) as lake:
        lake.append("clips", CLIPS.rows(
            {"clip_id": str(c), "car_id": "car", "route_id": str(c), "rate_hz": 1.0,
             "duration_s": 600.0, "size_bytes": 600_000} for c in range(6)
        ))  # fmt: skip
        lake.append("events", EVENTS.rows(
            {"clip_id": str(c), "trigger": "random" if c < 2 else "ttc"} for c in range(6)
        ))  # fmt: skip
        lake.append("ticks", TICKS.rows(
            {"clip_id": str(c), "car_id": "car", "route_id": str(c), "frame_id": i,
             "mono_ns": i * step_ns, "ttc_s": 0.5 if i == 300 and c != 1 else 3.0}
            for c in range(6) for i in range(per_clip + 1)
        ))  # fmt: skip
        told = forecast(lake, SPEC)
    assert (told.fair.hours, told.every.hours) == (pytest.approx(1 / 3), pytest.approx(1.0))
    assert (told.fair.events, told.fair.clips) == (1, 1)
    assert told.every.per_hour[1] == pytest.approx(5.0)
    assert told.fair.per_hour[1] == pytest.approx(3.0)
    assert told.fair.per_hour[0] < 1.0 < 15.0 < told.fair.per_hour[2]
    assert told.every.bytes_per_hour == pytest.approx(5 * 5.0 * 1_000)
    assert told.frames == tuple((str(c), 300) for c in (0, 2, 3, 4, 5))


def test_intervals_of_counts_are_those_of_the_tables() -> None:
    """Exact (Garwood) intervals: 0: 0..3.69, 1: 0.025..5.57, 10: 4.80..18.39."""
    assert poisson_interval(0) == (0.0, 0.0, pytest.approx(3.69, abs=0.1))
    low, _, high = poisson_interval(10)
    assert (low, high) == (pytest.approx(4.80, abs=0.02), pytest.approx(18.39, abs=0.02))
