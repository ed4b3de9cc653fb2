"""Advice as a site would give it, and a car that hears it."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from vehicle.clock import FakeClock
from vehicle.contracts.advice import Advice, SpeedCap
from vehicle.contracts.ego import ControlCommand, EgoState
from vehicle.offboard import Mailbox, Offboard

COURSE = np.column_stack([np.linspace(0.0, 80.0, 81), np.zeros((81, 2))])
GO = ControlCommand(frame_id=1, mono_ns=1, accel_mps2=1.0, curvature_1pm=0.01)
S = 1_000_000_000


def ego(speed: float = 10.0, x: float = 0.0, y: float = 0.0, yaw: float = 0.0) -> EgoState:
    return EgoState(mono_ns=0, x_m=x, y_m=y, yaw_rad=yaw, speed_mps=speed)


def walker(x: float = 20.0, y: float = -3.0, vy: float = 1.5) -> tuple[float, ...]:
    """Return a pedestrian who comes from the right, in the local frame."""
    return (1.0, x, y, 1.57, 0.5, 0.5, 1.7, 0.0, vy, 0.9)


def cap(speed: float = 4.0, x: float = 30.0, radius: float = 10.0) -> SpeedCap:
    return SpeedCap(speed_mps=speed, x_m=x, y_m=0.0, radius_m=radius)


@dataclass
class Heard:
    """A mailbox, who puts in and who reads, on one clock that a test moves."""

    box: Mailbox
    far: Mailbox
    clock: FakeClock
    offboard: Offboard

    def advice(self, *, age_s: float = 0.0, lives_s: float = 1.0, **what: Any) -> Advice:
        now_ns = self.clock.utc_ns()
        usual: dict[str, Any] = {
            "request_id": secrets.token_hex(16),
            "context": "edge",
            "site": "junction-7",
            "model_set": "collective@1",
            "input_utc_ns": now_ns - round(age_s * S),
            "valid_until_utc_ns": now_ns + round(lives_s * S),
        }
        return Advice(**(usual | what))

    def put(self, *, proven: bool = True, fresh_s: float = 0.5, **what: Any) -> Advice:
        advice = self.advice(**what)
        self.far.put(advice, proven=proven, fresh_s=fresh_s)
        return advice

    def heed(self, command: ControlCommand = GO, speed: float = 10.0, **more: Any) -> Any:
        scene, at = more.pop("scene", None), ego(speed, **more)
        return self.offboard.heed(command, scene, at, COURSE)

    @property
    def verdicts(self) -> list[str]:
        return [note.verdict for note in self.offboard.notes]


@contextmanager
def heard() -> Iterator[Heard]:
    """Keep a mailbox open with both of its ends."""
    with Mailbox() as box, Mailbox.at(box.address) as far:
        clock = FakeClock()
        yield Heard(box=box, far=far, clock=clock, offboard=Offboard(box, clock))
