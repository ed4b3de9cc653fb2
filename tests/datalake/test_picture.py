import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_bundle
from lake_parts import land, tick
from typer.testing import CliRunner

from datalake import land as landing
from datalake.cli import app
from datalake.ingest import ingest
from datalake.lake import Lake
from datalake.picture import REFERENCES, of_picture
from datalake.similar import similar
from datalake.stills import stills
from datalake.vectors import NoEmbeddingsError
from vehicle.config import RIG_R
from vehicle.contracts.frame import FrameSet, Observation
from vehicle.contracts.home import Home
from vehicle.embed import Eye, PictureError, read
from vehicle.route import RouteReader, RouteWriter

FRAMES = 30
LEVELS = [60 + 4 * i for i in range(FRAMES)]


def pictures(level: int) -> dict[str, np.ndarray]:
    return {
        c.name: np.full((c.height_px, c.width_px, 3), level + 3 * n, np.uint8)
        for n, c in enumerate(RIG_R.cameras)
    }


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    tiny_bundle.make(folder)
    return folder


@pytest.fixture(scope="module")
def lake(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Return a lake of one drive that grows brighter, seen by the bundle, and of other cameras."""
    folder = tmp_path_factory.mktemp("home")
    home, route = Home(folder), folder / "drive.mcap"
    with Eye(bundle, RIG_R) as eye:
        about = {"model": eye.model, "car_id": "car-1", "source": "simulator"}
        with RouteWriter(route, RIG_R, rate_hz=10.0, metadata=about) as writer:
            for frame_id, level in enumerate(LEVELS):
                images = pictures(level)
                frame = FrameSet(frame_id=frame_id, mono_ns=frame_id * 10**8, images=images)
                made = tick(Observation(frame=frame))
                scene = dataclasses.replace(made.scene, embedding=eye.embed(images))
                writer.write(Observation(frame=frame), dataclasses.replace(made, scene=scene))
    landing.land(home, route)
    land(home)
    ingest(home)
    with Lake(home) as lake:
        yield lake


def written(folder: Path, images: dict[str, np.ndarray]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, image in images.items():
        cv2.imwrite(str(folder / f"{name}.png"), image[:, :, ::-1])
    return folder


def test_a_still_is_the_picture_of_that_frame(lake: Lake) -> None:
    rows = lake.sql("SELECT * FROM ticks WHERE frame_id IN (0, 9, 11) ORDER BY ALL").to_pylist()
    for row in rows:
        clip_id, frame_id = row["clip_id"], row["frame_id"]
        rig, images = stills(lake.home, clip_id, frame_id, row["mono_ns"])
        reader = RouteReader(lake.home.lake / "clips" / clip_id[:2] / f"{clip_id}.mcap")
        whole = next(o for o in reader.observations() if o.frame.frame_id == frame_id)
        assert rig == reader.rig
        assert list(images) == [c.name for c in reader.rig.cameras]
        for name, image in images.items():
            np.testing.assert_array_equal(image, whole.frame.images[name])
    _, one = stills(
        lake.home, clip_id, frame_id, row["mono_ns"], cameras=[next(iter(images)), "none"]
    )
    assert list(one) == [next(iter(images))]
    assert stills(lake.home, clip_id, 999, row["mono_ns"])[1] == {}


def test_pictures_of_all_cameras_find_their_own_frame(
    lake: Lake, bundle: Path, tmp_path: Path
) -> None:
    query = of_picture(lake, written(tmp_path / "all", pictures(LEVELS[7])), bundle)
    assert "8 of 8 cameras" in query.about
    with Eye(bundle, RIG_R) as eye:
        seen = eye.embed(pictures(LEVELS[7]))
    np.testing.assert_allclose(query.unit_E, seen / np.linalg.norm(seen), atol=0.02)
    assert similar(lake, query, k=3, per_clip=0).num_rows == 3


def test_one_picture_is_freed_of_what_the_grey_cameras_add(
    lake: Lake, bundle: Path, tmp_path: Path
) -> None:
    front = RIG_R.cameras[0]
    folder = written(tmp_path / "one", {front.name: pictures(LEVELS[7])[front.name]})
    query = of_picture(lake, folder / f"{front.name}.png", bundle)
    assert f"less what {REFERENCES} frames" in query.about
    again = of_picture(lake, folder, bundle)
    np.testing.assert_array_equal(query.unit_E, again.unit_E)


def test_a_lake_that_cannot_correct_a_picture_says_so(
    bundle: Path, tmp_path: Path, home: Home
) -> None:
    land(home)
    ingest(home)
    with Lake(home) as other:
        query = of_picture(other, written(tmp_path / "all", pictures(90)), bundle)
        assert "not corrected" in query.about
        with pytest.raises(NoEmbeddingsError, match="it holds those of: base@1"):
            similar(other, query)


def test_a_picture_of_another_shape_needs_its_field_of_view(bundle: Path, tmp_path: Path) -> None:
    tall = tmp_path / "tall.png"
    cv2.imwrite(str(tall), np.full((300, 200, 3), 90, np.uint8))
    with pytest.raises(PictureError, match="--hfov-deg"):
        read(tall, RIG_R)
    rig, images = read(tall, RIG_R, hfov_deg=50.0)
    with Eye(bundle, rig) as eye:
        assert eye.fed[:1] == (RIG_R.cameras[0].name,)
        assert np.isfinite(eye.embed(images)).all()
    with pytest.raises(PictureError, match="10 to 170"):
        read(tall, RIG_R, hfov_deg=5.0)
    half = tmp_path / "half.png"
    cv2.imwrite(str(half), np.full((64, 128, 3), 90, np.uint8))
    assert read(half, RIG_R)[1][RIG_R.cameras[0].name].shape == (128, 256, 3)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"PNG, honestly")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name in ("no.png", "empty.png", "gone.png", "folder"):
        with pytest.raises(PictureError):
            read(tmp_path / name, RIG_R)


def test_the_verb_answers_for_people_and_for_programs(
    lake: Lake, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROADLOOP_HOME", str(lake.home.root))
    words = ["similar", str(written(tmp_path / "all", pictures(100)))]
    words += ["--bundle", str(bundle), "--k", "2", "--per-clip", "0"]
    shown = CliRunner().invoke(app, words)
    assert "8 of 8 cameras" in shown.stdout, shown.output
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    by_index = json.loads(CliRunner().invoke(app, [*words, "--json", "--index", "faiss"]).stdout)
    assert len(found) == len(by_index) == 2
    query = CliRunner().invoke(app, [*words, "--sql"]).stdout
    asked = json.loads(CliRunner().invoke(app, ["sql", query, "--json"]).stdout)
    assert [r["frame_id"] for r in asked] == [r["frame_id"] for r in found]
