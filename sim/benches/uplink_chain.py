"""From the shared ring to the lake as processes of their own, to be killed one at a time.

Recorder and uplink stand under the car's supervisor; gateway and ingest are started again here, as
an init system would. Nothing is shared with this process but the ring it writes ticks into.
"""

import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from fleet.identity import enrol
from sim.loop.children import command, environment
from vehicle.clock import SystemClock
from vehicle.contracts.campaign import Campaign, TriggerSpec, UploadBudget
from vehicle.contracts.clip import TriggerEvent
from vehicle.contracts.ego import EgoState
from vehicle.contracts.frame import FrameSet, Observation, Rig
from vehicle.contracts.home import Home
from vehicle.contracts.telemetry import StageTiming
from vehicle.contracts.tick import Tick
from vehicle.contracts.uplink import IDENTITY
from vehicle.contracts.wire import RefusedError
from vehicle.geometry import look_camera
from vehicle.processes import Car, CarSetup
from vehicle.restart import RestartPolicy

CAR: Final = "kills"
VICTIMS: Final = ("recorder", "uplink", "gateway", "ingest")
TICK_S, RATE_HZ = 1 / 20, 10.0
"""Ten frames of the drive are a second of it, and pass in half a second."""

EVERY_S: Final = (0.5, 3.0)
"""Between two events, seconds that pass: some windows touch, some do not."""

SLOTS: Final = 450
"""Of the ring: 22 seconds that pass. A recorder may be killed several times while it starts."""

UNREAD: Final = 250
"""Frames that no recorder has read, at which the drive stands still: it asks what kills do to what
can be recorded, not how long a ring lasts. What a killed recorder had in hand is still in there."""

START_S: Final = 60.0
SETTINGS: Final = RestartPolicy(first_wait_s=0.01, longest_wait_s=0.05, deaths=1_000_000)
CAMPAIGN: Final = Campaign(
    campaign_id=CAR,
    triggers=(
        TriggerSpec(
            name="event", kind="hard_brake", threshold=1.0, pre_s=2.0, post_s=1.5,
            min_interval_s=0.0,
        ),
    ),
    budget=UploadBudget(max_clips=1_000_000, max_bytes=1 << 50),
    max_clips_per_hour=3_600.0,
)  # fmt: skip
SIZE: Final = {"width_px": 240, "height_px": 160, "x_m": 1.0, "y_m": 0.0, "z_m": 1.0}
RIG: Final = Rig(name="kills", cameras=(look_camera("front", yaw_deg=0.0, hfov_deg=90.0, **SIZE),))


class ChainError(RefusedError):
    """A process of the chain does not do what it must; says which."""


class Chain:
    """One car and one home; a context manager that ends what it started.

    Args:
        scratch: an empty folder.
        seed: of the drive's events and pictures.
    """

    def __init__(self, scratch: Path, seed: int) -> None:
        self.home, self._scratch = Home(scratch / "home"), scratch
        self.fired: set[tuple[str, int]] = set()
        self.ticks = self.lost_frames = 0
        self.stood_s = 0.0
        self.url = ""
        self._draw, self._clock = random.Random(seed), SystemClock()
        noise = np.random.default_rng(seed)
        self._noise = noise.integers(0, 255, (160, 240, 3), dtype=np.uint8)
        self._gateway: subprocess.Popen[bytes] | None = None
        self._ingest: subprocess.Popen[bytes] | None = None
        self._ingests = True
        self._car: Car | None = None
        self._route, self._frame, self._next_event = "", 0, 0
        self._due_ns = 0

    def __enter__(self) -> "Chain":
        self.home.root.mkdir(parents=True)
        enrol(self.home, CAR, RIG.digest, self.home.car(CAR) / IDENTITY)
        self._open_gateway()
        return self

    def __exit__(self, *_: object) -> None:
        for child in (self._gateway, self._ingest):
            if child is not None:
                child.kill()
                child.wait()

    @contextmanager
    def drive(self, route: str) -> Iterator[None]:
        """Set off; the recorder completes its clip at the end."""
        setup = CarSetup(
            folder=self.home.car(CAR), rig=RIG, rate_hz=RATE_HZ, car_id=CAR, route_id=route,
            model="", campaigns=(CAMPAIGN,), gateway=self.url, send_every_s=0.2, policy=SETTINGS,
            slots=SLOTS,
        )  # fmt: skip
        self._route, self._next_event = route, self._frame + 20
        with Car(setup) as self._car:
            self._due_ns = self._clock.mono_ns()
            yield
            self.lost_frames += self._car.health()["recorder"].counters["lost_frames"]
        self._car = None

    def run_s(self, seconds: float) -> None:
        """Let time pass: ticks are published on schedule, the dead of the home are started."""
        until_ns = self._clock.mono_ns() + round(seconds * 1e9)
        while self._clock.mono_ns() < until_ns:
            self._clock.sleep_until(min(self._due_ns, until_ns))
            if self._clock.mono_ns() >= self._due_ns:
                self._tick()
                self._due_ns += round(TICK_S * 1e9)
            self._look()

    def wait_for(self, victim: str, *, at_work: bool = False) -> None:
        """Let time pass until a victim is there; with `at_work` a recorder has begun to read."""
        give_up_ns = self._clock.mono_ns() + round(START_S * 1e9)
        while not self._pid(victim) or (at_work and not self._works(victim)):
            if self._clock.mono_ns() > give_up_ns:
                raise ChainError(f"{victim} did not come back in {START_S:.0f} s{self._words()}")
            self.run_s(TICK_S)

    def kill(self, victim: str) -> bool:
        """Kill a process, if it is there still."""
        pid = self._pid(victim)
        if not pid:
            self.wait_for(victim)
            pid = self._pid(victim)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def finish(self) -> None:
        """Run everything once more, from its start, and let it end by itself.

        Raises:
            ChainError: something does not end, or clips stay.
        """
        if self._ingest is not None:
            self._ingest.wait()
        if self._gateway is not None:
            self._gateway.terminate()
            self._gateway.wait()
        with self.drive("last"):
            self.run_s(1.0)
        self._ingests = False
        if self._ingest is not None:
            self._ingest.wait()
        sent = self._run("vehicle", "uplink", CAR, "--gateway", self.url, "--json")
        if sent["left"] or sent["error"]:
            raise ChainError(f"clips stay in the outbox: {sent['left'] or sent['error']}")
        self._run("datalake", "ingest", "--json")

    def _run(self, *words: str) -> dict:
        done = subprocess.run(
            command(*words), env=environment(self.home), capture_output=True, timeout=300
        )
        if done.returncode:
            raise ChainError(
                f"{' '.join(words[:2])}: {done.stdout[-500:]!r} {done.stderr[-500:]!r}"
            )
        return dict(json.loads(done.stdout))

    def _tick(self) -> None:
        assert self._car is not None
        if self._car.unrecorded > UNREAD:
            self.stood_s += TICK_S
            return
        fires = self._frame == self._next_event
        if fires:
            self.fired.add((self._route, self._frame))
            self._next_event += max(1, round(self._draw.uniform(*EVERY_S) / TICK_S))
        self._car.publish(*_tick(self._frame, self._noise, fires))
        self._frame, self.ticks = self._frame + 1, self.ticks + 1

    def _look(self) -> None:
        """Start gateway and ingest where they ended."""
        if self._gateway is None or self._gateway.poll() is not None:
            self._open_gateway(wait=False)
        if self._ingests and (self._ingest is None or self._ingest.poll() is not None):
            self._ingest = self._child("datalake", "ingest")

    def _open_gateway(self, *, wait: bool = True) -> None:
        note = self._scratch / "url"
        port = self.url.rpartition(":")[2] if self.url else 0
        words = ("fleet", "serve", "--port", port, "--url-file", note)
        if wait:
            note.unlink(missing_ok=True)
        self._gateway = self._child(*words)
        give_up_ns = self._clock.mono_ns() + round(START_S * 1e9)
        while wait and not note.is_file():
            if self._gateway.poll() is not None or self._clock.mono_ns() > give_up_ns:
                raise ChainError(f"the gateway did not come up{self._words()}")
            self._clock.sleep_until(self._clock.mono_ns() + 20_000_000)
        self.url = note.read_text().strip() if wait else self.url

    def _child(self, *words: object) -> "subprocess.Popen[bytes]":
        with (self._scratch / f"{words[0]}.log").open("ab") as log:
            return subprocess.Popen(
                command(*words), env=environment(self.home), stdout=log, stderr=log
            )

    def _works(self, victim: str) -> bool:
        return victim != "recorder" or (self._car is not None and self._car.is_recorded)

    def _pid(self, victim: str) -> int:
        if victim in ("recorder", "uplink"):
            assert self._car is not None
            return self._car.pid_of(victim)
        child = self._gateway if victim == "gateway" else self._ingest
        return child.pid if child is not None and child.poll() is None else 0

    def _words(self) -> str:
        """Return the last words of the home's processes."""
        logs = [p.read_text(errors="replace").strip() for p in self._scratch.glob("*.log")]
        return "".join(f"; {text[-300:]}" for text in logs if text)


def _tick(frame_id: int, noise: np.ndarray, fires: bool) -> tuple[Observation, Tick]:
    """Return one tick of the synthetic drive, with an event where one fires."""
    mono_ns = round(frame_id * 1e9 / RATE_HZ)
    picture = np.roll(noise, 7 * frame_id)
    frame = FrameSet(frame_id=frame_id, mono_ns=mono_ns, images={"front": picture})
    ego = EgoState(mono_ns=mono_ns, x_m=float(frame_id), y_m=0.0, yaw_rad=0.0, speed_mps=10.0)
    timing = StageTiming(
        frame_id=frame_id, release_mono_ns=mono_ns, stage_us={}, total_us=100, rung="full"
    )
    event = TriggerEvent(
        trigger="event", campaign_id=CAR, frame_id=frame_id, mono_ns=mono_ns, value=2.0,
        threshold=1.0,
    )  # fmt: skip
    tick = Tick(
        frame_id=frame_id, scene=None, plan=None, command=None, timing=timing,
        events=(event,) if fires else (),
    )  # fmt: skip
    return Observation(frame=frame, ego=ego), tick
