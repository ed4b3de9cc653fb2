"""What a tick says, topic by topic: the one table of a route file and a clip."""

from dataclasses import dataclass
from typing import Final

from vehicle.contracts.telemetry import STAGE_BUDGET_US


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic, written once a tick at the route's rate; those of REPEATED once for each.

    Args:
        message: protobuf message of vehicle/telemetry_schema.py.
        field: where a TickRecord carries it.
        budget_us: what the stages that make it may take; None for what the tick is given.
    """

    message: str
    field: str
    budget_us: int | None = None


_SEE_US: Final = sum(STAGE_BUDGET_US[s] for s in ("preprocess", "inference", "track"))

TOPICS: Final = {
    "/ego": Topic(message="Ego", field="ego"),
    "/guidance": Topic(message="Guidance", field="guidance"),
    "/traffic": Topic(message="Scene", field="traffic"),
    "/driver": Topic(message="Driver", field="driver"),
    "/scene": Topic(message="Scene", field="scene", budget_us=_SEE_US),
    "/plan": Topic(message="Plan", field="plan", budget_us=STAGE_BUDGET_US["plan"]),
    "/command": Topic(message="Command", field="command", budget_us=STAGE_BUDGET_US["control"]),
    "/timing": Topic(message="Timing", field="timing"),
    "/signals": Topic(message="Signals", field="signals", budget_us=STAGE_BUDGET_US["trigger"]),
    "/event": Topic(message="Event", field="events", budget_us=STAGE_BUDGET_US["trigger"]),
    "/advice": Topic(message="Advice", field="advice"),
    "/frame": Topic(message="Frame", field="frame"),
}
"""In writing order; all are kept in a clip. /frame comes last and completes the tick, so that a cut
file ends with a whole one. Pictures are on /camera/<name>."""

REPEATED: Final = frozenset({"events", "advice"})
"""Fields of a TickRecord of which a tick may have none, one or many."""
