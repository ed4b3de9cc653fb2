"""All bodies an actor can wear, by number: cars, the person, and everybody else."""

from collections.abc import Callable
from typing import Final

import numpy as np

from sim import bodies, creatures
from sim.shapes import CAR_SHAPES, Mesh, car_mesh, person_parts

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
