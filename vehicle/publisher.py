"""The frame loop's end of the ring: hands each tick to whoever looks in, and never waits."""

from vehicle.clock import Clock
from vehicle.contracts.frame import Observation, Rig
from vehicle.contracts.tick import Tick
from vehicle.contracts.wire import RefusedError
from vehicle.ring import Ring
from vehicle.telemetry_pb import encode_telemetry

RING_S = 2.0
RING_BYTES = 48 << 20  # a container's /dev/shm often has 64 MiB


def ring_for(rig: Rig | None, rate_hz: float, slots: int | None = None) -> Ring:
    """Return a new ring of two seconds, or of what fits into a container's shared memory."""
    frame_bytes = sum(c.width_px * c.height_px * 3 for c in rig.cameras) if rig else 0
    wanted = slots or min(round(RING_S * rate_hz), RING_BYTES // (frame_bytes + 1))
    return Ring(rig, slots=max(4, wanted))


class Publisher:
    """A sink that writes one slot per tick; what goes wrong is counted, never raised.

    Args:
        ring: opened and closed by whoever made it.
        clock: gives the UTC that goes into manifests.
    """

    def __init__(self, ring: Ring, clock: Clock) -> None:
        self._ring, self._clock = ring, clock
        self.errors = 0
        self.detail = ""

    def publish(self, obs: Observation, tick: Tick | None) -> None:
        """Hand one tick over: pictures and telemetry into one slot."""
        try:
            telemetry = encode_telemetry(obs, tick)
            flag = tick is not None and bool(tick.events)
            self._ring.write(obs.frame, telemetry, self._clock.utc_ns(), flag=flag)
        except RefusedError as error:
            self.fail(f"{type(error).__name__}: {error}")

    def fail(self, detail: str) -> None:
        """Count what went wrong and keep the last of it in words."""
        self.errors += 1
        self.detail = detail
