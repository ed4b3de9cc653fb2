"""Bodies: every one is inside its box, faces outward, and is seen where its label says."""

import numpy as np
import pytest

from sim.look.templates import BODIES, PERSON_SHAPE, SHAPES, templates
from sim.run.episode import Episode
from sim.users.actors import ACTOR, SCRIPTED, blank
from vehicle.contracts.scene import KINDS
from vehicle.geometry import unproject

NAMES = ("x_m", "y_m", "yaw_rad", "length_m", "width_m", "height_m")


@pytest.mark.parametrize("name", SHAPES)
def test_a_body_fills_its_unit_box_and_no_more(name: str) -> None:
    meshes, swings = templates()
    mesh = meshes[SHAPES[name]]
    low = mesh.quads.reshape(-1, 3).min(axis=0)
    high = mesh.quads.reshape(-1, 3).max(axis=0)
    assert (low >= [-0.53, -0.53, -0.01]).all()
    assert (high <= [0.53, 0.53, 1.03]).all()
    assert high[2] > 0.9
    assert high[0] - low[0] > 0.85
    assert len(swings[SHAPES[name]]) == len(mesh.quads)
    assert np.isfinite(mesh.normals).all()


def test_the_person_keeps_its_place_among_the_templates() -> None:
    assert PERSON_SHAPE == 3
    assert min(SHAPES.values()) == 4


def test_every_body_is_of_a_known_kind() -> None:
    assert {kind for kind, _, _ in BODIES.values()} <= set(KINDS)
    used = {kind for kind, _, _ in BODIES.values()}
    assert used == set(KINDS), "every kind of road user can be cast"


@pytest.mark.parametrize("name", BODIES)
def test_a_body_is_drawn_inside_its_label(name: str) -> None:
    episode = Episode(town=2, seed=4)
    kind, shape, size = BODIES[name]
    row = blank(KINDS.index(kind))
    row["actor_id"], row["shape"], row["moving"] = 9_999, shape, SCRIPTED
    row["length_m"], row["width_m"], row["height_m"] = size
    x, y, yaw = episode.pose
    ahead = 6.0 + size[0]
    row["x_m"], row["y_m"] = x + np.cos(yaw) * ahead, y + np.sin(yaw) * ahead
    row["yaw_rad"] = yaw + 0.7
    episode.actors.table = np.array([row], ACTOR)
    boxes, _ = episode.truth()
    assert len(boxes) == 1
    assert KINDS[int(boxes[0, 0])] == kind
    assert boxes[0, 7] >= 6, "seen"
    camera = episode.rig.cameras[0]
    shot = episode.shot()
    v, u = np.nonzero(shot.ids[camera.name] == 9_999)
    depth = shot.depths_m[camera.name][v, u].astype(float)
    points = unproject(camera, np.stack([u, v], -1).astype(float), depth)
    c, s = np.cos(boxes[0, 3]), np.sin(boxes[0, 3])
    dx, dy = points[:, 0] - boxes[0, 1], points[:, 1] - boxes[0, 2]
    assert np.abs(c * dx + s * dy).max() < size[0] / 2 + 0.12
    assert np.abs(-s * dx + c * dy).max() < size[1] / 2 + 0.12
    assert points[:, 2].max() < size[2] + 0.1


def test_blue_lights_flash() -> None:
    episode = Episode(town=2, seed=4)
    _, shape, size = BODIES["ambulance"]
    row = blank(KINDS.index("emergency"))
    row["actor_id"], row["shape"], row["moving"] = 9_999, shape, SCRIPTED
    row["length_m"], row["width_m"], row["height_m"] = size
    x, y, yaw = episode.pose
    row["x_m"], row["y_m"] = x + np.cos(yaw) * 12.0, y + np.sin(yaw) * 12.0
    row["yaw_rad"] = yaw
    blue = []
    for phase in (1.0, 4.0):
        row["gait_rad"] = phase
        episode.actors.table = np.array([row], ACTOR)
        episode.look_from(episode.motion)
        image = episode.shot().images["front_wide"].astype(int)
        shining = (image[..., 2] > 200) & (image[..., 2] > image[..., 0] + 80)
        columns = np.nonzero(shining)[1]
        assert len(columns) > 3
        blue.append(columns.mean())
    assert abs(blue[0] - blue[1]) > 3.0, "first one side, then the other"
