"""Weather and light: pictures change as the world would, truth does not, and runs repeat."""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sim.cli import app
from sim.look.air import reflect
from sim.look.render import make_light
from sim.look.weather import CLEAR, LIGHTS, WEATHERS, UnknownWeatherError, Weather, kind_of
from sim.run.episode import Episode
from sim.sense.generate import generate
from sim.sense.sensors import Shot
from vehicle.config import RIG_R
from vehicle.contracts.scenario import Scenario
from vehicle.geometry import project, unproject


@cache
def shot_in(weather: str, light: str = "day", seed: int = 7, town: int = 1) -> Shot:
    episode = Episode(town=town, seed=seed, light=light, weather=weather)
    for _ in range(4):
        episode.step(None)
    return episode.shot()


def digest_of(weather: str, light: str, ticks: int, threads: int = 1) -> str:
    episode = Episode(town=2, seed=4, light=light, weather=weather, threads=threads)
    digest = hashlib.sha256()
    for _ in range(ticks):
        for name, image in episode.observe().frame.images.items():
            digest.update(image.tobytes())
            digest.update(episode.shot().depths_m[name].tobytes())
            digest.update(episode.shot().ids[name].tobytes())
        episode.step(None)
    return digest.hexdigest()


@pytest.mark.parametrize("weather", WEATHERS)
def test_two_runs_and_two_threads_give_the_same_images(weather: str) -> None:
    once = digest_of(weather, "night", 2)
    assert digest_of(weather, "night", 2) == once
    assert digest_of(weather, "night", 2, threads=2) == once


@pytest.mark.slow
@pytest.mark.parametrize(("light", "weather"), [("day", "clear"), ("dusk", "rain")])
def test_two_hundred_ticks_repeat_on_one_thread_and_on_two(light: str, weather: str) -> None:
    once = digest_of(weather, light, 200)
    assert digest_of(weather, light, 200) == once
    assert digest_of(weather, light, 200, threads=2) == once


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("weather", WEATHERS)
def test_weather_changes_no_depth_and_no_id(weather: str, light: str) -> None:
    clear, other = shot_in("clear"), shot_in(weather, light)
    for camera in RIG_R.cameras:
        assert np.array_equal(clear.depths_m[camera.name], other.depths_m[camera.name])
        assert np.array_equal(clear.ids[camera.name], other.ids[camera.name])


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("weather", [w for w in WEATHERS if w != "clear"])
def test_every_weather_changes_every_camera(weather: str, light: str) -> None:
    for camera in RIG_R.cameras:
        clear, other = (shot_in(w, light).images[camera.name] for w in ("clear", weather))
        assert np.abs(clear.astype(int) - other).mean() > 0.5, camera.name


@pytest.mark.parametrize("weather", WEATHERS)
def test_dusk_lies_between_day_and_night(weather: str) -> None:
    day, dusk, night = (
        np.mean([image.mean() for image in shot_in(weather, light).images.values()])
        for light in LIGHTS
    )
    assert day > 1.2 * dusk > 1.2 * 1.2 * night


def test_fog_takes_contrast_the_more_the_farther() -> None:
    clear, fog = shot_in("clear"), shot_in("fog")
    kept = []
    for near, far in ((2.0, 8.0), (12.0, 25.0), (30.0, 60.0), (90.0, 400.0)):
        spread = []
        for shot in (clear, fog):
            pixels = [
                shot.images[c.name][
                    (shot.depths_m[c.name] > near) & (shot.depths_m[c.name] < far)
                ].mean(axis=-1)
                for c in RIG_R.cameras
            ]
            spread.append(np.std(np.concatenate(pixels)))
        kept.append(spread[1] / spread[0])
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > 0.5
    assert kept[-1] < 0.35  # of a contrast that was small already, with the sensor's noise


def test_a_point_is_mirrored_where_geometry_says() -> None:
    camera = RIG_R.cameras[0]
    h, w = camera.height_px, camera.width_px
    depth, who = np.full((h, w), 50.0, np.float32), np.zeros((h, w), np.int32)
    colour, mirrored = np.zeros((h, w, 3), np.float32), np.zeros((h, w, 3), np.float32)
    lens = np.array([camera.fx_px, camera.fy_px, camera.cx_px, camera.cy_px, w, h])
    lamp = np.array([14.0, 2.0, 2.2])
    uv, z = project(camera, lamp)
    u, v = np.round(uv).astype(int)
    depth[v, u], who[v, u], colour[v, u] = z, 3, (200.0, 50.0, 20.0)
    reflect(
        lens, camera.matrix, np.zeros(10), colour, depth, who, np.zeros((h, w), np.uint8), mirrored
    )
    point = unproject(camera, np.array([[u, v]], float), np.array([float(z)]))[0]
    expected, _ = project(camera, point * (1.0, 1.0, -1.0))
    rows, columns = np.nonzero(mirrored[..., 0] > 100.0)
    assert np.abs(rows - expected[1]).max() <= 1.0
    assert np.abs(columns - expected[0]).max() <= 0.5


def test_a_wet_road_by_night_shows_lights_below_what_shines() -> None:
    below = []
    for seed in (1, 2, 7):
        wet, dry = (shot_in(w, "night", seed=seed, town=3) for w in ("wet", "clear"))
        for camera in RIG_R.cameras:
            name = camera.name
            ground = (dry.ids[name] == 0) & np.isfinite(dry.depths_m[name])
            gain = wet.images[name].astype(int).mean(-1) - dry.images[name].mean(-1)
            lights = (dry.images[name].max(-1) > 180) & (dry.ids[name] != 0)
            for y, x in zip(*np.nonzero(ground & (gain > 45.0)), strict=True):
                below.append(lights[:y, max(x - 2, 0) : x + 3].any())
    assert len(below) > 20
    assert np.mean(below) > 0.8  # the others lie in a halo


def test_a_wet_road_mirrors_the_sky_less_below_the_camera() -> None:
    wet, dry = shot_in("wet"), shot_in("clear")
    camera = RIG_R.cameras[0].name
    road = (dry.ids[camera] == 0) & np.isfinite(dry.depths_m[camera])
    change = wet.images[camera].mean(-1) - dry.images[camera].mean(-1)
    near, far = (road & (dry.depths_m[camera] < 6.0)), (road & (dry.depths_m[camera] > 25.0))
    assert change[near].mean() < -5.0
    assert change[far].mean() > change[near].mean() + 5.0


def test_rain_falls_anew_on_each_tick_and_camera_and_faster_as_the_car_does() -> None:
    episode = Episode(town=1, seed=7, light="day", weather="rain")
    table, pose, light = episode.actors.table, episode.pose, episode.light

    def images(tick: int, speed_mps: float = 0.0) -> dict[str, np.ndarray]:
        shot = episode.sensors.shoot(table, pose, light, 7, tick, speed_mps=speed_mps)
        return {k: v.astype(int) for k, v in shot.images.items()}

    here, next_tick, fast = images(3), images(4), images(3, speed_mps=20.0)
    for name, image in here.items():
        assert np.abs(image - next_tick[name]).max() > 25
        assert (np.abs(image - fast[name]) > 8).any()


def test_a_low_sun_blinds_the_front_camera_and_leaves_the_rear() -> None:
    clear, glare = shot_in("clear"), shot_in("glare")
    white = {n: np.mean(glare.images[n].min(-1) > 235) for n in ("front_wide", "rear_left")}
    assert white["front_wide"] > 0.02
    assert white["rear_left"] < 0.005
    assert np.mean(clear.images["front_wide"].min(-1) > 235) < 0.01


@pytest.mark.parametrize("light", LIGHTS)
def test_exposure_and_noise_do_what_they_are_called(light: str) -> None:
    under, right, over, noisy = (
        shot_in(w, light).images["left_rear"].astype(float)
        for w in ("underexposed", "clear", "overexposed", "noisy")
    )
    assert under.mean() < 0.6 * right.mean()
    assert over.mean() > 1.25 * right.mean()
    assert np.abs(np.diff(noisy, axis=1)).mean() > 2.0 * np.abs(np.diff(right, axis=1)).mean()


def test_dirt_stays_where_it_is_and_every_lens_has_its_own() -> None:
    dirty = {"weather": "dirty_lens", "light": "day"}
    change = {}
    for ticks in (0, 6):
        pair = []
        for weather in ("dirty_lens", "clear"):
            episode = Episode(town=1, seed=7, **{**dirty, "weather": weather})
            for _ in range(ticks):
                episode.step(None)
            pair.append(episode.shot().images)
        for name in ("front_wide", "front_narrow"):
            change[ticks, name] = (pair[0][name].astype(int) - pair[1][name])[:40].mean(-1).ravel()
    same = np.corrcoef(change[0, "front_wide"], change[6, "front_wide"])[0, 1]
    other = np.corrcoef(change[0, "front_wide"], change[0, "front_narrow"])[0, 1]
    assert same > 0.7
    assert abs(other) < 0.5


@pytest.mark.parametrize("weather", WEATHERS)
def test_a_draw_stays_within_its_ranges_and_follows_its_seed(weather: str) -> None:
    kind = kind_of(weather)
    one, two = (kind.draw(np.random.default_rng(3)) for _ in range(2))
    assert one == two
    for name, (low, high) in kind.ranges.items():
        assert low <= getattr(one, name) <= high
    untouched = set(Weather._fields) - set(kind.ranges)
    assert all(getattr(one, name) == getattr(CLEAR, name) for name in untouched)


def test_unknown_weather_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownWeatherError, match=r"'hail'.*rain"):
        Episode(town=0, seed=0, weather="hail")
    with pytest.raises(UnknownWeatherError, match="hail"):
        generate(tmp_path / "set", towns=[0], frames=1, weather="hail")
    assert list(tmp_path.iterdir()) == []


def test_weather_makes_no_difference_to_a_light_drawn_clear() -> None:
    clear = kind_of("clear").draw(np.random.default_rng(1))
    plain = make_light("day", np.random.default_rng(3))
    named = make_light("day", np.random.default_rng(3), clear)
    assert np.array_equal(plain.values, named.values)
    assert np.array_equal(plain.sky, named.sky)


def test_a_scenario_brings_its_weather() -> None:
    scenario = Scenario(town=2, seed=9, light="dusk", weather="rain", duration_s=3.0)
    assert Episode.of(scenario).scenario == scenario


def test_a_dataset_says_its_weather(tmp_path: Path) -> None:
    manifest = generate(tmp_path / "set", towns=[0], frames=1, light="dusk", weather="fog")
    assert manifest.tags == {"light": "dusk", "weather": "fog"}
    assert "weather=fog" in manifest.query


def test_all_weathers_make_one_sheet(tmp_path: Path) -> None:
    call = ["render", str(tmp_path / "s.png"), "--weather", "all", "--after", "1"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_about_weather_names_them_all() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "weather.md").read_text()
    assert [name for name in (*WEATHERS, *LIGHTS) if f"`{name}`" not in page] == []
