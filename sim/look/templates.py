"""All bodies an actor can wear, by number: cars, the person, and everybody else."""

from collections.abc import Callable
from typing import Final

import numpy as np

from sim.look import bodies, creatures
from sim.look.shapes import CAR_SHAPES, Mesh, car_mesh, person_parts

_BODIES: Final[dict[str, Callable[[], tuple[Mesh, np.ndarray]]]] = {
    "truck": bodies.truck,
    "bus": bodies.bus,
    "motorcycle": creatures.motorcycle,
    "cyclist": creatures.cyclist,
    "deer": creatures.deer,
    "dog": creatures.dog,
    "cone": creatures.cone,
    "crate": creatures.crate,
    "tyre": creatures.tyre,
    "trailer": bodies.trailer,
    "ambulance": bodies.ambulance,
    "police": bodies.police,
    "door": bodies.door,
    "wreck": bodies.wreck,
}

PERSON_SHAPE: Final = CAR_SHAPES
SHAPES: Final = {name: PERSON_SHAPE + 1 + i for i, name in enumerate(_BODIES)}
"""Number of each body in `templates`, after the cars and the person; an actor's `shape`."""


def templates() -> tuple[list[Mesh], list[np.ndarray]]:
    """Return all meshes an actor's `shape` can name, and how the quads of each swing."""
    person, swing = person_parts()
    cars = [car_mesh(k) for k in range(CAR_SHAPES)]
    others = [make() for make in _BODIES.values()]
    meshes = [*cars, person, *(mesh for mesh, _ in others)]
    still = [np.zeros(len(m.quads), np.int64) for m in cars]
    return meshes, [*still, swing, *(lean for _, lean in others)]


BODIES: Final[dict[str, tuple[str, int, tuple[float, float, float]]]] = {
    "sedan": ("car", 0, (4.5, 1.8, 1.45)),
    "estate": ("car", 1, (4.4, 1.85, 1.65)),
    "van": ("car", 2, (5.2, 1.98, 2.15)),
    "wreck": ("car", SHAPES["wreck"], (4.4, 1.85, 1.6)),
    "truck": ("truck", SHAPES["truck"], (8.5, 2.5, 3.4)),
    "bus": ("bus", SHAPES["bus"], (11.5, 2.55, 3.1)),
    "motorcycle": ("motorcycle", SHAPES["motorcycle"], (2.15, 0.8, 1.55)),
    "cyclist": ("cyclist", SHAPES["cyclist"], (1.8, 0.6, 1.75)),
    "adult": ("pedestrian", 0, (0.55, 0.6, 1.75)),
    "child": ("pedestrian", 0, (0.5, 0.5, 1.15)),
    "deer": ("animal", SHAPES["deer"], (1.7, 0.5, 1.5)),
    "dog": ("animal", SHAPES["dog"], (0.95, 0.5, 0.7)),
    "cone": ("cone", SHAPES["cone"], (0.42, 0.42, 0.78)),
    "crate": ("debris", SHAPES["crate"], (1.3, 1.0, 0.7)),
    "tyre": ("debris", SHAPES["tyre"], (0.75, 0.75, 0.3)),
    "trailer": ("trailer", SHAPES["trailer"], (4.2, 1.95, 2.1)),
    "ambulance": ("emergency", SHAPES["ambulance"], (5.8, 2.1, 2.85)),
    "police": ("emergency", SHAPES["police"], (4.6, 1.85, 1.75)),
    "door": ("other", SHAPES["door"], (1.05, 0.12, 1.4)),
}
"""Kind, mesh and size (length, width, height) of everybody a script may cast."""
