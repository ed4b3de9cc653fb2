"""What a vehicle is, in numbers: its body, its cameras, its limits. One frozen value per idea."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from vehicle.contracts import wire
from vehicle.contracts.frame import Rig
from vehicle.geometry import look_camera


class ConfigError(wire.RefusedError, ValueError):
    """A configuration file has an unknown key, a wrong type or a value out of range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleConfig:
    """The body and its limits. Defaults: a mid-size car.

    Args:
        wheelbase_m: rear axle to front axle.
        length_m, width_m: of the body.
        rear_overhang_m: rear axle to rear bumper.
        max_accel_mps2, max_brake_mps2: what the actuators do at most (brake as a positive number).
        comfort_brake_mps2: what the planner uses without need.
        max_lateral_mps2: bounds speed in curves.
        max_curvature_1pm: tightest turn (0.2 = 5 m radius).
        max_jerk_mps3: rate limit of the demand outside emergencies.
        max_curvature_rate_1pmps: fastest change of path curvature that the steering does.
        actuator_delay_s: end of exposure to when steering and brakes begin to act: the tick's own
            10 ms, and a dead time of 40 ms.
        mrm_brake_mps2: deceleration of a minimal risk manoeuvre (UN R157 5.5: at most 4.0).
        reaction_s: ego response time in the safety envelope.
        rss_brake_mps2: brake the envelope counts on for itself, and asks for when too close.
        rss_front_brake_mps2: hardest brake it expects of the vehicle ahead.
        rss_lateral_accel_mps2, rss_lateral_brake_mps2, rss_lateral_margin_m: the same sideways.
        aeb_needed_mps2: a contact ahead that needs more than this to avoid brakes fully.
        min_detection_prob: peaks of the network's heat map below this are no road users.
    """

    wheelbase_m: float = 2.8
    length_m: float = 4.7
    width_m: float = 1.9
    rear_overhang_m: float = 1.0
    max_accel_mps2: float = 2.5
    max_brake_mps2: float = 8.0
    comfort_brake_mps2: float = 3.0
    max_lateral_mps2: float = 3.0
    max_curvature_1pm: float = 0.2
    max_jerk_mps3: float = 6.0
    max_curvature_rate_1pmps: float = 0.4
    actuator_delay_s: float = 0.05
    mrm_brake_mps2: float = 3.5
    reaction_s: float = 0.2
    rss_brake_mps2: float = 5.0
    rss_front_brake_mps2: float = 8.0
    rss_lateral_accel_mps2: float = 0.2
    rss_lateral_brake_mps2: float = 0.8
    rss_lateral_margin_m: float = 0.1
    aeb_needed_mps2: float = 4.5
    min_detection_prob: float = 0.2

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (isinstance(value, int | float) and 0.0 < value < 1000.0):
                raise ConfigError(
                    f"vehicle.{field.name} is {value!r}, expected a number in 0..1000"
                )

    @property
    def digest(self) -> str:
        """Return the sha256 that goes into logs and reports."""
        return wire.digest(wire.to_bytes(self))

    @classmethod
    def from_toml(cls, path: Path) -> "VehicleConfig":
        """Read a configuration strictly.

        Raises:
            ConfigError: unreadable, unknown key, wrong type or out of range; names the key.
        """
        return cls(**_table(path, cls))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingConfig:
    """How clips are made, and how much room those that wait to be sent may take.

    Args:
        codec: of the pictures: "h264" costs least processor time; "av1" half the bytes at 4 dB less
            for three times the time. At the shipped sizes H.264 of that quality would be about as
            small (`roadloop bench clip`).
        outbox_bytes: most that waiting clips may take; beyond it the least worth goes. Two and a
            half hours of events at the shipped cameras' 0.9 MB a second.
        least_free_ratio: share of the disk that recording leaves free for everything else.
    """

    SCHEMA: ClassVar[str] = "recording/1"
    codec: Literal["h264", "av1"] = "h264"
    outbox_bytes: int = 8 << 30
    least_free_ratio: float = 0.005

    def __post_init__(self) -> None:
        if self.codec not in ("h264", "av1"):
            raise ConfigError(f"recording.codec is {self.codec!r}, expected 'h264' or 'av1'")
        if not (isinstance(self.outbox_bytes, int) and self.outbox_bytes > 0):
            raise ConfigError(f"recording.outbox_bytes is {self.outbox_bytes!r}, expected over 0")
        free = self.least_free_ratio
        if not (isinstance(free, int | float) and 0.0 <= free < 1.0):
            raise ConfigError(f"recording.least_free_ratio is {free!r}, expected 0..1")

    @classmethod
    def from_toml(cls, path: Path) -> "RecordingConfig":
        """Read a configuration strictly.

        Raises:
            ConfigError: unreadable, unknown key, wrong type or out of range; names the key.
        """
        return cls(**_table(path, cls))

    @classmethod
    def of_car(cls, folder: Path) -> "RecordingConfig":
        """Return what recording.toml in a car's folder says, else the defaults. Raises as above."""
        path = folder / "recording.toml"
        return cls.from_toml(path) if path.exists() else cls()


def _table(path: Path, cls: type) -> dict[str, Any]:
    """Return the keys of a TOML file that are fields of `cls`, refusing any other."""
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    known = {f.name: f.type for f in fields(cls)}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{path}: unknown key {key!r}; known: {', '.join(sorted(known))}")
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ConfigError(f"{path}: {key} is {value!r}, expected a number or a text")
    return table


def _rig_r() -> Rig:
    front = {"width_px": 256, "height_px": 128, "x_m": 1.8, "y_m": 0.0, "z_m": 1.45, "yaw_deg": 0.0}
    side = {"width_px": 192, "height_px": 96, "hfov_deg": 90.0, "z_m": 1.35, "pitch_deg": 4.0}
    return Rig(
        name="R",
        cameras=(
            look_camera("front_wide", hfov_deg=90.0, pitch_deg=3.0, **front),
            look_camera("front_narrow", hfov_deg=50.0, pitch_deg=1.0, **front),
            look_camera("left_front", x_m=1.6, y_m=0.6, yaw_deg=55.0, **side),
            look_camera("right_front", x_m=1.6, y_m=-0.6, yaw_deg=-55.0, **side),
            look_camera("left_rear", x_m=1.0, y_m=0.8, yaw_deg=115.0, **side),
            look_camera("right_rear", x_m=1.0, y_m=-0.8, yaw_deg=-115.0, **side),
            look_camera("rear_left", x_m=-0.8, y_m=0.3, yaw_deg=165.0, **side),
            look_camera("rear_right", x_m=-0.8, y_m=-0.3, yaw_deg=-165.0, **side),
        ),
    )


RIG_R: Final = _rig_r()
"""Eight cameras: two 256x128 ahead (90 and 50 degrees), six 192x96 around (90 degrees each)."""
