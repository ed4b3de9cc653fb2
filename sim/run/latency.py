"""What a late command does: it takes the wheel when it is ready, and the one before keeps it.

A tick is one step of a world, so a command that comes within a tick shares it with the one
before, in proportion to the time each holds: the same change of speed and heading as two steps,
the place within 2 mm (10 Hz, 5 ms late, a change of 8 m/s2).
"""

from dataclasses import dataclass, field, replace

from vehicle.contracts.ego import ControlCommand


@dataclass(slots=True, kw_only=True)
class Actuation:
    """Holds the commands that are on their way to the actuators.

    Args:
        tick_s: how long a step of the world is.
        held: what the actuators do before the first command arrives.
    """

    tick_s: float
    held: ControlCommand
    _coming: list[tuple[float, ControlCommand]] = field(default_factory=list)

    def drive(self, command: ControlCommand, frame_id: int, late_s: float) -> ControlCommand:
        """Return what the actuators do, on the mean, during the tick of `frame_id`.

        Args:
            command: made from that frame. One that was made earlier and comes later is dropped.
            frame_id: counts the ticks.
            late_s: from the frame to the command, 0 or more.
        """
        begin, end = frame_id * self.tick_s, (frame_id + 1) * self.tick_s
        ready = begin + max(late_s, 0.0)
        self._coming = [(t, c) for t, c in self._coming if t < ready] + [(ready, command)]
        at, accel, curvature = begin, 0.0, 0.0
        for ready, coming in self._coming:
            if ready >= end - 1e-12:
                break
            share = max(ready - at, 0.0)
            accel += share * self.held.accel_mps2
            curvature += share * self.held.curvature_1pm
            at, self.held = max(ready, at), coming
        self._coming = [(t, c) for t, c in self._coming if t >= end - 1e-12]
        if at == begin:
            return replace(self.held, frame_id=command.frame_id, mono_ns=command.mono_ns)
        rest = end - at
        return replace(
            self.held,
            frame_id=command.frame_id,
            mono_ns=command.mono_ns,
            accel_mps2=(accel + rest * self.held.accel_mps2) / self.tick_s,
            curvature_1pm=(curvature + rest * self.held.curvature_1pm) / self.tick_s,
        )
