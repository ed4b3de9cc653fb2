"""Captions: from a clip's event to a sentence that finds it, exactly once."""

import json
from dataclasses import replace
from pathlib import Path

import lake_parts
import numpy as np
import pytest
from typer.testing import CliRunner

from datalake.captions import (
    CaptionFileError,
    UnknownFrameError,
    read_captions,
    search_sql,
    take_captions,
    uncaptioned,
)
from datalake.cli import app
from datalake.ingest import ingest
from datalake.lake import Lake, QueryError
from vehicle.contracts import wire
from vehicle.contracts.caption import Caption
from vehicle.contracts.frame import Observation
from vehicle.contracts.home import Home
from vehicle.contracts.plan import Plan, Trajectory
from vehicle.contracts.tick import Tick


def planned(obs: Observation, events: tuple[object, ...] = ()) -> Tick:
    """Return a tick of the lake's small clips in which somebody planned to stop."""
    states = np.zeros((41, 7))
    states[:, 0] = np.arange(41) * 0.1
    states[:, 4] = np.maximum(10.0 - 2.0 * states[:, 0] * 2.0, 0.0)
    states[:, 1] = np.cumsum(states[:, 4]) * 0.1
    plan = Plan(
        frame_id=obs.frame.frame_id,
        mono_ns=obs.frame.mono_ns,
        trajectory=Trajectory(states=states),
        rung="full",
        proposal="mid/speed20",
        scores={},
    )
    return replace(TICK(obs), plan=plan)


TICK = lake_parts.tick


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(lake_parts, "tick", planned)
    made = Home(tmp_path)
    lake_parts.land(made, rig=None)
    ingest(made)
    return made


def captions(
    home: Home, text: str = "because car 7 stands 6 m ahead therefore stop"
) -> list[Caption]:
    with Lake(home) as lake:
        [record] = uncaptioned(home, lake).records
    return [
        Caption(
            clip_id=record.source,
            frame_id=record.frame_id,
            model="explainer@1",
            text=text,
            explained=True,
            longitudinal=record.decision.longitudinal,
            lateral=record.decision.lateral,
            factors=("car",),
        )
    ]


def test_the_decision_at_an_event_is_read_out_of_the_clip(home: Home) -> None:
    with Lake(home) as lake:
        found = uncaptioned(home, lake)
    [record] = found.records
    assert (record.frame_id, record.decision.longitudinal) == (3, "stop")
    assert [a.kind for a in record.actors] == ["car"]
    assert found.silent == 0


def test_a_caption_finds_its_frame_and_is_taken_once(home: Home) -> None:
    told = captions(home)
    with Lake(home) as lake:
        assert take_captions(lake, told).captions == 1
        again = take_captions(lake, [*told, *told])
        assert (again.captions, again.already) == (0, 2)
        [row] = lake.sql(search_sql(["Car", "stands"])).to_pylist()
        assert (row["frame_id"], row["text"]) == (3, told[0].text)
        assert lake.sql(search_sql(["pedestrian"])).num_rows == 0
        assert uncaptioned(home, lake).records == []
        assert len(uncaptioned(home, lake, model="explainer@2").records) == 1


def test_words_are_only_ever_words(home: Home) -> None:
    with Lake(home) as lake:
        take_captions(lake, captions(home, text="because it's o'clock; DROP TABLE captions"))
        assert lake.sql(search_sql(["o'clock;", "drop"])).num_rows == 1
        assert lake.sql(search_sql(["' OR 1=1 --"])).num_rows == 0
    with pytest.raises(QueryError, match="0 words"):
        search_sql([])


def test_a_caption_of_a_frame_that_is_not_there_is_refused(home: Home) -> None:
    told = captions(home)
    for strange in (replace(told[0], frame_id=99), replace(told[0], clip_id="f" * 64)):
        with Lake(home) as lake, pytest.raises(UnknownFrameError, match="is not in the lake"):
            take_captions(lake, [*told, strange])
    with Lake(home) as lake:
        assert lake.sql("SELECT count(*) AS n FROM captions")["n"][0].as_py() == 0


def test_a_line_that_is_no_caption_is_named(tmp_path: Path, home: Home) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_bytes(wire.to_bytes(captions(home)[0]) + b'\n{"schema":"caption/1"}\n')
    with pytest.raises(CaptionFileError, match=r"captions\.jsonl:2"):
        read_captions(path)


def test_a_clip_in_which_nobody_planned_has_nothing_to_explain(tmp_path: Path) -> None:
    home = Home(tmp_path)
    lake_parts.land(home, rig=None)
    ingest(home)
    with Lake(home) as lake:
        found = uncaptioned(home, lake)
    assert (found.records, found.silent) == ([], 1)


def test_the_three_verbs_lead_from_an_event_to_the_frame_it_is_found_by(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROADLOOP_HOME", str(home.root))
    out, said = tmp_path / "events.jsonl", tmp_path / "captions.jsonl"

    def run(*words: object) -> str:
        done = CliRunner().invoke(app, [str(w) for w in words])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert json.loads(run("uncaptioned", out, "--json"))["decisions"] == 1
    said.write_bytes(wire.to_bytes(captions(home)[0]))
    assert json.loads(run("caption", said, "--json"))["captions"] == 1
    [row] = json.loads(run("because", "car", "stands", "--json"))
    assert row["frame_id"] == 3
    assert "FROM captions" in run("because", "car", "--sql")
