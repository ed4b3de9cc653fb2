import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from lake_parts import FRAMES, land, write_truth
from typer.testing import CliRunner

from datalake import sheet as sheets
from datalake import shots
from datalake.birdseye import birdseye
from datalake.clips import clip_object
from datalake.config import ScrubPolicy
from datalake.ingest import ingest
from datalake.lake import Lake, QueryError
from datalake.sheet import NoFramesError, SheetWriteError, Tile, sheet
from vehicle.contracts.home import Home

TTC = "SELECT clip_id, frame_id, ttc_s FROM ticks ORDER BY frame_id DESC, clip_id"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Return a lake of two clips with cameras and one without."""
    home = Home(tmp_path_factory.mktemp("home"))
    for seed in range(3):
        land(home, seed=seed, **({"rig": None} if seed == 2 else {}))
    ingest(home)
    with Lake(home) as lake:
        yield lake


def test_every_clip_is_shown_once_before_any_is_shown_twice(lake: Lake) -> None:
    found, chosen = shots.shots(lake, TTC, 3)
    assert chosen == 3 * FRAMES
    assert len({s.clip_id for s in found}) == 3
    assert {s.frame_id for s in found} == {11}
    more, _ = shots.shots(lake, TTC, 6)
    assert sorted(s.frame_id for s in more) == [1, 1, 1, 11, 11, 11]
    assert [s.frame_id for s in more] == sorted((s.frame_id for s in more), reverse=True)
    assert len(shots.shots(lake, TTC, 99)[0]) == 3 * FRAMES


def test_a_shot_knows_what_was_noticed_and_where_the_car_went(lake: Lake) -> None:
    (shot,), _ = shots.shots(lake, "SELECT clip_id FROM clips ORDER BY cameras DESC LIMIT 1", 5)
    assert (shot.frame_id, shot.facts["fired"], shot.value) == (3, "ttc", None)
    np.testing.assert_allclose(shot.past_P2, [[-3, 0], [-2, 0], [-1, 0], [0, 0]])
    assert len(shot.ahead_P2) == FRAMES - 3
    assert shot.tracks[0]["kind"] == "car"
    (of_value, *_), _ = shots.shots(lake, TTC, 1)
    assert of_value.value is not None
    assert of_value.value[0] == "ttc_s"


def test_a_sheet_is_a_picture_that_opens(lake: Lake, tmp_path: Path) -> None:
    report = sheet(lake, TTC, tmp_path / "deep" / "a.png", limit=7)
    assert (report.tiles, report.chosen, report.pictures) == (7, 3 * FRAMES, 5)
    assert report.without == {"no cameras": 2}
    page = cv2.imread(report.out)
    assert page.shape[1] % (sheets.WIDE_PX + 10) == 10
    again = sheet(lake, TTC, tmp_path / "b.png", limit=7)
    assert Path(again.out).read_bytes() == Path(report.out).read_bytes()


def test_road_users_are_drawn_only_where_wanted(lake: Lake) -> None:
    (shot, *_), _ = shots.shots(lake, "SELECT clip_id FROM clips WHERE cameras > 0", 1)
    picture = shots.picture_of(lake, shot, None, ScrubPolicy())
    bare, drawn = sheets._small(picture, ()), sheets._small(picture, shot.tracks)
    assert bare is not None
    assert drawn is not None
    assert not np.array_equal(bare, drawn)


def test_a_frame_from_above_shows_who_is_where() -> None:
    track = {"kind": "pedestrian", "x_m": 20.0, "y_m": 10.0, "yaw_rad": 0.0, "length_m": 2.0}
    track |= {"width_m": 2.0, "height_m": 1.7, "vx_mps": None, "vy_mps": None}
    nothing = np.zeros((0, 2))
    empty = birdseye([], nothing, nothing, 300, 260)
    picture = birdseye([track], nothing, nothing, 300, 260)
    rows, columns = np.nonzero((picture != empty).any(axis=2))
    assert abs(rows.mean() - (50 - 20) * 4) < 1
    assert abs(columns.mean() - (150 - 10 * 4)) < 1
    far = birdseye([track | {"x_m": 1e9}], nothing, nothing, 300, 260)
    np.testing.assert_array_equal(far, empty)


def test_what_nobody_scrubbed_is_not_shown(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    (shot, *_), _ = shots.shots(lake, "SELECT clip_id FROM clips WHERE cameras > 0", 1)
    shot.facts["scrub"] = "none"
    somebody = ScrubPolicy(detectors={"*": ("tracks",)})
    assert shots.picture_of(lake, shot, None, somebody).why == "not scrubbed"
    nobody = ScrubPolicy(detectors={"*": ()})
    assert shots.picture_of(lake, shot, None, nobody).image is not None
    shot.facts["scrub"] = "tracks@1"
    assert shots.picture_of(lake, shot, "roof", ScrubPolicy()).why == "no picture of roof"


def test_a_clip_that_is_gone_or_damaged_is_seen_from_above(home: Home, tmp_path: Path) -> None:
    for seed in range(2):
        land(home, seed=seed)
    ingest(home)
    with Lake(home) as lake:
        gone, damaged = lake.sql("SELECT clip_id FROM clips ORDER BY 1")["clip_id"].to_pylist()
        clip_object(home, gone).unlink()
        path = clip_object(home, damaged)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        report = sheet(lake, "SELECT clip_id FROM clips", tmp_path / "a.html")
    assert report.without == {"clip erased": 1, "clip damaged": 1}


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_hostile_words_stay_words_in_a_page_that_fetches_nothing() -> None:
    evil = "\"'><script>alert(1)</script><img src=//x onerror=alert(2)>&amp;\x00"
    image = np.zeros((20, 30, 3), np.uint8)
    tile = Tile(image=image, title=evil, value=evil, noticed=evil, conditions=evil)
    page = Tags()
    page.feed(sheets._html([tile, tile], evil, evil))
    tags = [tag for tag, _ in page.seen]
    assert "script" not in tags
    pictures = [attrs for tag, attrs in page.seen if tag == "img"]
    assert len(pictures) == 2
    assert all(set(p) == {"alt", "src"} for p in pictures)
    assert all(str(p["src"]).startswith("data:image/jpeg;base64,") for p in pictures)
    assert page.words.count("<script>alert(1)</script>") == 2 * 4 + 3
    assert "default-src 'none'" in json.dumps([a for t, a in page.seen if t == "meta"])


def test_words_are_cut_to_their_place_and_never_fail() -> None:
    tile = Tile(
        image=np.zeros((160, sheets.WIDE_PX, 3), np.uint8),
        title="夜 \x00\n" + "long " * 200,
        value="ttc_s 1e-300",
        noticed="",
        conditions="\N{PILE OF POO}",
    )
    page = sheets._page([tile] * 3, "SELECT " * 300, "")
    assert page.shape[1] % (sheets.WIDE_PX + 10) == 10


def test_what_cannot_be_drawn_is_named(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(SheetWriteError, match=r"\.png or \.html"):
        sheet(lake, TTC, tmp_path / "a.pdf")
    with pytest.raises(SheetWriteError, match=r"1\.\.400"):
        sheet(lake, TTC, tmp_path / "a.png", limit=1000)
    with pytest.raises(NoFramesError):
        sheet(lake, f"{TTC} LIMIT 0", tmp_path / "a.png")
    with pytest.raises(QueryError, match="expected a clip_id"):
        sheet(lake, "SELECT 1 AS one", tmp_path / "a.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(SheetWriteError, match="cannot write"):
        sheet(lake, TTC, tmp_path / "file" / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_verb_takes_a_question_by_name(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datalake.cli import app

    monkeypatch.setenv("ROADLOOP_HOME", str(lake.home.root))
    words = ["sheet", "low_ttc", "--out", str(tmp_path / "a.html"), "--limit", "2"]
    shown = CliRunner().invoke(app, words)
    assert "2 of 36 frames" in shown.stdout, shown.output
    assert "<h1>low_ttc</h1>" in (tmp_path / "a.html").read_text()


def test_a_dataset_is_shown_by_its_name(
    tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datalake import dataset, label
    from datalake.cli import app

    clip = land(home)
    write_truth(home)
    ingest(home)
    with Lake(home) as lake:
        label.label(home, lake, [clip], every=4)
    dataset.create(home, "few", "SELECT clip_id, frame_id FROM labelled")
    out = tmp_path / "few.png"
    shown = CliRunner().invoke(app, ["sheet", "few", "--out", str(out), "--json"])
    assert json.loads(shown.stdout)["chosen"] == 3, shown.output
