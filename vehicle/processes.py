"""The car as processes: one frame loop here, and beside it recorder, shadow and uplink.

`Car` is what a frame loop opens: a sink for its ticks, a supervisor that starts the dead again, and
everybody's health. The loop itself (`Drive`) runs in the process that opened it.
"""

import atexit
import json
import os
import subprocess
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from vehicle.asking import OffboardSettings
from vehicle.clock import Clock, SystemClock
from vehicle.config import RecordingConfig, VehicleConfig
from vehicle.contracts import wire
from vehicle.contracts.campaign import DEFAULT_CAMPAIGN, Campaign
from vehicle.contracts.frame import Observation, Rig
from vehicle.contracts.telemetry import Health
from vehicle.contracts.tick import Tick
from vehicle.contracts.wire import RefusedError
from vehicle.lifeline import DRIVE, OFFBOARD, RECORDER, SHADOW, UPLINK, read_note
from vehicle.offboard import Mailbox, Offboard
from vehicle.publisher import Publisher, ring_for
from vehicle.recorder import RecorderSettings
from vehicle.restart import USUAL, RestartPolicy
from vehicle.sender import SenderSettings
from vehicle.shadow import ShadowSettings
from vehicle.supervisor import CLOSE_S, Part, SupervisorSettings, parts_health, spawn
from vehicle.uplink_policy import USUAL_LINK, Link

START_S: Final = 60.0
OUTBOX: Final = "outbox"
SHADOW_LOG: Final = "shadow.jsonl"


class CarStartError(RefusedError):
    """The processes beside the loop did not come up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarSetup:
    """Who drives, with what, and what runs beside.

    Args:
        folder: of the car: outbox/ for clips, shadow.jsonl, health.json; recording.toml where
            clips shall be made otherwise than by default.
        rig: cameras of the drive, None without.
        rate_hz: ticks per second.
        model: bundle name and version that drives.
        jurisdiction: ISO 3166 code, "ZZ" in simulation.
        tags: what is known of the drive.
        campaigns: their triggers say how much is kept around an event.
        shadow: folder of a candidate bundle; None runs no shadow.
        gateway: address of home; None runs no uplink.
        link: how the car is connected while no link.json in its folder says otherwise.
        send_every_s: pause of the uplink between two looks into the outbox.
        offboard: address of a site that is asked for advice; None asks nobody.
        origin_m: east and north of the local frame's origin in that site's frame.
        policy: how patiently the dead are started again.
        slots: frames the ring holds; None: two seconds, or what fits.
    """

    folder: Path
    rig: Rig | None
    rate_hz: float
    car_id: str
    route_id: str
    model: str
    jurisdiction: str = "ZZ"
    tags: dict[str, str] = field(default_factory=dict)
    campaigns: tuple[Campaign, ...] = (DEFAULT_CAMPAIGN,)
    shadow: Path | None = None
    gateway: str | None = None
    link: Link = USUAL_LINK
    send_every_s: float = 5.0
    offboard: str | None = None
    origin_m: tuple[float, float] = (0.0, 0.0)
    policy: RestartPolicy = USUAL
    slots: int | None = None


class Car:
    """The processes round one frame loop; open it before the loop asks for its real-time class.

    A sink: give it to `Drive`. `publish` writes one slot of the ring and returns; nothing here
    waits for another process but opening and closing.

    Raises:
        CarStartError: the recorder did not come up; says why.
    """

    def __init__(self, setup: CarSetup, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        setup.folder.mkdir(parents=True, exist_ok=True)
        self._recording = RecordingConfig.of_car(setup.folder)
        self._ring = ring_for(setup.rig, setup.rate_hz, setup.slots)
        self._mailbox = Mailbox() if setup.offboard is not None else None
        self._publisher = Publisher(self._ring, self._clock)
        self._last: dict[str, Health] = {}
        self._disagreement = (float("nan"), -1)
        self._open = True
        settings = SupervisorSettings(
            car=os.getpid(),
            ring=self._ring.address,
            folder=str(setup.folder.absolute()),
            parts=self._parts(setup),
            policy=setup.policy,
        )
        self._supervisor = spawn("vehicle.supervisor", wire.to_bytes(settings))
        self._wait_for_recorder()
        atexit.register(self.close)  # a drive that ends by an exception keeps its clips

    @property
    def frame_bytes(self) -> int:
        """Return the bytes of one frame's pictures in the ring."""
        return self._ring.frame_bytes

    def publish(self, obs: Observation, tick: Tick | None) -> None:
        """Hand one tick to the others. Never raises, never waits."""
        if self._open:
            self._publisher.publish(obs, tick)

    def tell(self, **facts: Any) -> None:
        """Leave the loop's own facts for the others to show; whole numbers are counters."""
        if self._open:
            self._ring.leave_note(DRIVE, json.dumps(facts).encode())

    def advice(self, config: VehicleConfig | None = None) -> Offboard | None:
        """Return the loop's end of the mailbox for advice; None where nobody is asked."""
        return None if self._mailbox is None else Offboard(self._mailbox, self._clock, config)

    def disagreement(self) -> tuple[float, int]:
        """Return the shadow's last score (0..1, NaN without one) and its frame; never waits."""
        note = read_note(self._ring, SHADOW, tries=1) if self._open else {}
        if "score" in note:
            self._disagreement = (float(note["score"]), int(note["frame_id"]))
        return self._disagreement

    def health(self) -> dict[str, Health]:
        """Return the Health of each part by name; call it beside the loop, not in a tick."""
        if not self._open:
            return self._last
        found = parts_health(self._ring, self._clock.mono_ns())
        if self._supervisor.poll() is not None and not self._ring.ended:
            code = self._supervisor.returncode
            why = f"ended with code {code}: the dead are not started again"
            found["supervisor"] = replace(found["supervisor"], ok=False, detail=why)
        made = self._publisher
        found["ring"] = Health(
            part="ring",
            mono_ns=self._clock.mono_ns(),
            ok=not made.errors,
            detail=made.detail,
            counters={"frames": self._ring.head, "errors": made.errors},
        )
        self._last = found
        return found

    def pid_of(self, part: str) -> int:
        """Return the process id of a part now, 0 while it is dead."""
        return self.health()[part].counters.get("pid", 0)

    @property
    def is_recorded(self) -> bool:
        """Return whether a recorder reads the ring now."""
        return self._open and self._ring.is_alive(RECORDER)

    @property
    def unrecorded(self) -> int:
        """Return how many frames no recorder has read yet."""
        return self._ring.unread_by(RECORDER) if self._open else 0

    def close(self) -> dict[str, Health]:
        """End the drive: the recorder completes its clip, the others stop. Return the last health.

        Safe to call twice.
        """
        if not self._open:
            return self._last
        self._ring.end()
        try:
            self._supervisor.wait(CLOSE_S + 5.0)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.wait()
        self.health()
        self.disagreement()
        self._open = False
        self._let_go()
        atexit.unregister(self.close)
        return self._last

    def __enter__(self) -> "Car":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _parts(self, setup: CarSetup) -> tuple[Part, ...]:
        ring, car, folder = self._ring.address, os.getpid(), setup.folder.absolute()
        recorder = RecorderSettings(
            outbox=str(folder / OUTBOX),
            car=car,
            ring=ring,
            rate_hz=float(setup.rate_hz),
            car_id=setup.car_id,
            route_id=setup.route_id,
            model=setup.model,
            jurisdiction=setup.jurisdiction,
            campaigns=setup.campaigns,
            config=self._recording,
            tags=dict(setup.tags),
        )
        parts = [_part("recorder", RECORDER, "vehicle.recorder", recorder, finishes=True)]
        if setup.shadow is not None:
            shadow = ShadowSettings(
                car=car,
                ring=ring,
                bundle=str(setup.shadow.absolute()),
                log=str(folder / SHADOW_LOG),
            )
            parts.append(_part("shadow", SHADOW, "vehicle.shadow", shadow))
        if setup.gateway is not None:
            sender = SenderSettings(
                car=car,
                ring=ring,
                folder=str(folder),
                gateway=setup.gateway,
                every_s=setup.send_every_s,
                link=setup.link,
            )
            parts.append(_part("uplink", UPLINK, "vehicle.sender", sender))
        if setup.offboard is not None and self._mailbox is not None:
            asks = OffboardSettings(
                car=car,
                ring=ring,
                mailbox=self._mailbox.address,
                folder=str(folder),
                car_id=setup.car_id,
                address=setup.offboard,
                jurisdiction=setup.jurisdiction,
                origin_m=setup.origin_m,
            )
            parts.append(_part("offboard", OFFBOARD, "vehicle.offboard_link", asks))
        return tuple(parts)

    def _let_go(self) -> None:
        self._ring.close()
        if self._mailbox is not None:
            self._mailbox.close()

    def _wait_for_recorder(self) -> None:
        give_up = time.monotonic() + START_S
        while not self._ring.is_alive(RECORDER):
            found = self.health()
            recorder = found.get("recorder")
            lost = self._supervisor.poll() is not None
            failed = recorder is not None and not recorder.ok and bool(recorder.detail)
            if lost or failed or time.monotonic() > give_up:
                why = recorder.detail if recorder else "the supervisor did not come up"
                self._supervisor.terminate()
                self._supervisor.wait()
                self._open = False
                self._let_go()
                raise CarStartError(f"the recorder did not come up: {why}")
            time.sleep(0.005)


def _part(name: str, place: int, module: str, settings: Any, *, finishes: bool = False) -> Part:
    text = wire.to_bytes(settings).decode()
    return Part(name=name, place=place, module=module, settings=text, finishes=finishes)
