"""Who can be put at the wheel, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sim.rivals.pdm import Pdm
from sim.rivals.peers import (
    Car,
    ConstantVelocity,
    Driver,
    Idm,
    IdmMobil,
    LogReplay,
    UnknownSubjectError,
)
from vehicle import bundles
from vehicle.contracts import wire

CAMERA_SUBJECT: Final = "car"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A kind of driver.

    Args:
        about: what it is told and what it decides, in one line.
        open: takes the bundle (None without one) and the rate; returns a fresh driver.
        sees: it drives by cameras; they are rendered for it, and a bundle looks through them.
        recorded_only: it can only drive recorded logs.
    """

    about: str
    open: Callable[[Path | None, float], Driver]
    sees: bool = False
    recorded_only: bool = False


SUBJECTS: Final = {
    "constant-velocity": Subject(
        about="keeps speed and heading", open=lambda bundle, rate: ConstantVelocity()
    ),
    "idm": Subject(
        about="told all road users; lane centre and IDM", open=lambda bundle, rate: Idm()
    ),
    "idm-mobil": Subject(
        about="told all road users; IDM and lane changes", open=lambda bundle, rate: IdmMobil()
    ),
    "log-replay": Subject(
        about="repeats the recorded driver",
        open=lambda bundle, rate: LogReplay(),
        recorded_only=True,
    ),
    "pdm-truth": Subject(
        about="told all road users and the map; PDM-Closed's rules", open=lambda bundle, rate: Pdm()
    ),
    "planner-truth": Subject(
        about="our planner, controller and envelope; told all road users",
        open=lambda bundle, rate: Car(None, rate),
    ),
    CAMERA_SUBJECT: Subject(
        about="the whole car: cameras, network, tracker, planner, envelope",
        open=lambda bundle, rate: Car(bundle, rate),
        sees=True,
    ),
}
"""Name -> driver. All but the first and the last are told the truth (and red lights)."""


def subject_of(name: str) -> Subject:
    """Return the subject called `name`.

    Raises:
        UnknownSubjectError: names the ones there are.
    """
    if name not in SUBJECTS:
        raise UnknownSubjectError(f"subject {name!r} is unknown; there are: {', '.join(SUBJECTS)}")
    return SUBJECTS[name]


def bundle_for(name: str, bundle: Path | None) -> Path | None:
    """Return the bundle a subject sees with: the one given, or the shipped base; None if none."""
    return (bundle or bundles.base_folder()) if subject_of(name).sees else None


def digest_of(name: str, bundle: Path | None) -> str:
    """Return the digest that names a subject in a report: its bundle's, or its name's."""
    used = bundle_for(name, bundle)
    return bundles.digest_of(used) if used is not None else wire.digest(name.encode())
