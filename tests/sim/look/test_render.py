"""The renderer: same bytes twice, and every pixel where geometry says."""

import hashlib

import numpy as np
import pytest

from sim.look.render import DistortedCameraError, UnknownLightError, make_light, make_view
from sim.run.episode import Episode
from vehicle.config import RIG_R
from vehicle.contracts.frame import CameraModel
from vehicle.contracts.sample import BOX_COLUMNS
from vehicle.geometry import project, unproject


def digest_of_images(light: str, ticks: int) -> str:
    episode, digest = Episode(town=2, seed=4, light=light), hashlib.sha256()
    for _ in range(ticks):
        for image in episode.observe().frame.images.values():
            digest.update(image.tobytes())
        episode.step(None)
    return digest.hexdigest()


@pytest.mark.parametrize("light", ["day", "night"])
def test_two_runs_of_an_episode_give_the_same_images(light: str) -> None:
    assert digest_of_images(light, 5) == digest_of_images(light, 5)


def test_an_image_does_not_depend_on_what_was_rendered_before() -> None:
    fresh = Episode(town=2, seed=4, light="night")
    used = Episode(town=2, seed=4, light="night")
    used.look_from(Episode(town=2, seed=5, light="night").motion)
    used.shot()
    used.look_from(fresh.motion)
    for name, image in fresh.shot().images.items():
        assert np.array_equal(image, used.shot().images[name]), name


def test_images_have_the_shapes_of_the_rig() -> None:
    images = Episode(town=1, seed=0, light="day").observe().frame.images
    assert list(images) == [c.name for c in RIG_R.cameras]
    for camera in RIG_R.cameras:
        assert images[camera.name].shape == (camera.height_px, camera.width_px, 3)
        assert images[camera.name].dtype == np.uint8


def test_projected_centres_of_actors_hit_their_own_id_or_something_nearer() -> None:
    hit = 0
    for seed in range(4):
        episode = Episode(town=seed, seed=seed, light="day")
        boxes, _ = episode.truth()
        shot = episode.shot()
        for row in boxes:
            box = dict(zip(BOX_COLUMNS, row.astype(float), strict=True))
            up = 0.35 if box["kind"] == 0 else 0.65  # through the body, not beside the legs
            centre = np.array([box["x_m"], box["y_m"], up * box["height_m"]])
            for camera in RIG_R.cameras:
                uv, depth = project(camera, centre)
                u, v = np.round(uv).astype(int)
                inside = 0 <= u < camera.width_px and 0 <= v < camera.height_px
                if depth < 1.0 or depth > 40.0 or not inside:
                    continue
                own = shot.ids[camera.name][v, u] == int(box["actor_id"])
                hidden = shot.depths_m[camera.name][v, u] < depth - 0.1
                assert own or hidden, (seed, camera.name, box)
                hit += int(own)
    assert hit > 40


def test_depth_of_the_ground_is_the_geometry_of_the_camera() -> None:
    episode = Episode(town=3, seed=1, light="day")
    for camera in RIG_R.cameras:
        depth, ids = episode.shot().depths_m[camera.name], episode.shot().ids[camera.name]
        v, u = np.nonzero((ids == 0) & np.isfinite(depth))
        points = unproject(camera, np.stack([u, v], -1).astype(float), depth[v, u].astype(float))
        near = depth[v, u] < 60.0
        assert near.sum() > 500
        assert np.abs(points[near, 2]).max() < 0.01


def test_surfaces_of_actors_lie_within_their_boxes() -> None:
    episode = Episode(town=3, seed=1, light="day")
    boxes, _ = episode.truth()
    checked = 0
    for row in boxes:
        x, y, yaw, length, width, height, visible, actor = row[1:9].astype(float)
        if visible < 40 or row[0] != 0:
            continue
        for camera in RIG_R.cameras:
            v, u = np.nonzero(episode.shot().ids[camera.name] == int(actor))
            if not len(v):
                continue
            depth = episode.shot().depths_m[camera.name][v, u].astype(float)
            p = unproject(camera, np.stack([u, v], -1).astype(float), depth)
            c, s = np.cos(yaw), np.sin(yaw)
            along, across = (
                c * (p[:, 0] - x) + s * (p[:, 1] - y),
                -s * (p[:, 0] - x) + c * (p[:, 1] - y),
            )
            assert np.abs(along).max() < length / 2 + 0.1
            assert np.abs(across).max() < width / 2 + 0.1
            assert p[:, 2].min() > -0.05
            assert p[:, 2].max() < height + 0.1
            checked += 1
    assert checked >= 3


def test_night_is_darker_than_day_but_not_black() -> None:
    day = Episode(town=6, seed=1, light="day").shot().images["front_wide"]
    night = Episode(town=6, seed=1, light="night").shot().images["front_wide"]
    assert day.mean() > 2.5 * night.mean()
    assert np.percentile(night, 99) > 60


def test_unknown_light_is_refused_by_name() -> None:
    with pytest.raises(UnknownLightError, match="'noon'"):
        make_light("noon", np.random.default_rng(0))


def test_distorted_camera_is_refused_by_name() -> None:
    camera = RIG_R.cameras[0]
    bent = CameraModel(
        name="bent",
        width_px=64,
        height_px=32,
        fx_px=50.0,
        fy_px=50.0,
        cx_px=31.5,
        cy_px=15.5,
        distortion=(0.1, 0.0, 0.0, 0.0, 0.0),
        ego_from_camera=camera.ego_from_camera,
    )
    with pytest.raises(DistortedCameraError, match="bent"):
        make_view(bent)
