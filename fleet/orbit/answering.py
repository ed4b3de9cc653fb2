"""Questions by orbit outside the trial: a node's desk of hazards, and a car's question by hand."""

import secrets
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from fleet.inference.desk import Desk
from fleet.inference.policy import Policy, Site
from fleet.inference.queue import Turns
from fleet.inference.tenants import Tenant, Tenants
from fleet.orbit.agent import Agent
from fleet.orbit.constellation import Declaration
from fleet.orbit.desks import Clerk, QuestionDesk, runner
from fleet.orbit.eid import Eid
from fleet.orbit.hazards import Hazard, HazardModel
from fleet.orbit.plan import ContactPlan
from fleet.orbit.power import Board, board_of
from fleet.orbit.services import ANSWERS, QUESTIONS, SiteSaysNoError, question, read_answer
from vehicle.clock import Clock, SystemClock
from vehicle.contracts import wire
from vehicle.contracts.advice import ANSWER, ASK_EGO, ASK_TRACKS, Advice
from vehicle.contracts.inference import InferenceRequest
from vehicle.contracts.wire import ContractError, RefusedError, require

HOME: Final = "home"
"""Tenant whose cars these are."""

POLL_S: Final = 0.5


class NoAnswerError(RefusedError):
    """No answer came in the time that was waited; it may still come."""


def read_hazards(path: Path) -> list[Hazard]:
    """Return the hazards of a TOML file: [[hazard]] with the fields of `Hazard`.

    Raises:
        ContractError: it is none; names the row.
    """
    try:
        rows = tomllib.loads(path.read_text()).get("hazard", [])
    except (OSError, ValueError) as error:
        raise ContractError(f"{path}: {error}") from error
    require(isinstance(rows, list), f"{path}: hazard is {rows!r:.60}, expected tables [[hazard]]")
    found = list[Hazard]()
    for number, row in enumerate(rows, start=1):
        try:
            found.append(Hazard(**row))
        except TypeError as error:
            raise ContractError(f"{path}: [[hazard]] number {number}: {error}") from error
    return found


def question_desk(
    model: HazardModel, site: Site, cars: dict[int, str], clock: Clock, board: Board | None
) -> QuestionDesk:
    """Return the desk of one model for the cars of this home.

    Args:
        cars: number of a car's node -> its name.
        board: of a satellite; None on the ground.
    """
    desk = Desk(
        [model],
        site=site,
        tenants=Tenants((Tenant(name=HOME),), clock),
        turns=Turns(SystemClock(), 1),
        clock=clock,
        policy=Policy.default(),
    )
    return QuestionDesk(desk, HOME, cars, clock, board=board)


@contextmanager
def answering(
    hazards: Path, node: str, plan: Path, door: str, jurisdiction: str, constellation: str
) -> Iterator[Clerk]:
    """Answer questions at a node for the length of a block.

    Raises:
        ContractError, PlanUnreadableError, UnknownNodeError: a file is none, or the plan has no
            such node.
    """
    contacts, clock = ContactPlan.read(plan), SystemClock()
    told = contacts.node(node)
    flies = told.kind == "satellite"
    shell = Declaration.read(constellation).shell
    site = Site(
        name=node,
        context="orbital" if flies else "hyperscale",
        jurisdiction=jurisdiction if flies else told.country,
        landings=tuple(sorted({n.country for n in contacts.nodes if n.kind == "vehicle"})),
    )
    questions = question_desk(
        HazardModel(read_hazards(hazards), site, clock),
        site,
        {n.number: n.name for n in contacts.nodes if n.kind == "vehicle"},
        clock,
        board_of(node, shell, contacts.start_utc_ns, clock.utc_ns()) if flies else None,
    )
    with runner() as run:
        clerk = Clerk(door, QUESTIONS, questions.take, run)
        try:
            yield clerk
        finally:
            clerk.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A question of a car that no network reaches.

    Args:
        target: node that is asked, e.g. ipn:12.
        at_m: east and north of the car in the fleet's frame.
        fresh_h: hours that an answer is of use.
    """

    target: str
    car: str
    at_m: tuple[float, float]
    tenant: str
    jurisdiction: str
    fresh_h: float


def written(asking: Asking, clock: Clock) -> tuple[str, bytes]:
    """Return the id of a question asked now, and the question as a parcel."""
    now_ns = clock.utc_ns()
    request = InferenceRequest(
        request_id=secrets.token_hex(16),
        tenant=asking.tenant,
        car_id=asking.car,
        workload="hazards",
        tier="batch",
        input_utc_ns=now_ns,
        freshness_s=asking.fresh_h * 3_600.0,
        deadline_utc_ns=now_ns + int(asking.fresh_h * 3_600e9),
        data_class="features",
        jurisdiction=asking.jurisdiction,
    )
    ego = np.array([0.0, 0.0, 0.0, 0.0, *asking.at_m])
    inputs = {ASK_TRACKS: np.zeros((0, 10), np.float32), ASK_EGO: ego}
    return request.request_id, question("hazards", inputs, request)


def asked(asking: Asking, door: str, wait_s: float) -> Advice | None:
    """Ask through the car's own node; return the advice, None where it is not waited for.

    Raises:
        NoDoorError, SentRefusedError: the car's node is not there, or will not have it.
        SiteSaysNoError, NoAnswerError: as named.
    """
    clock = SystemClock()
    request_id, payload = written(asking, clock)
    eid = str(Eid.parse(f"{asking.target.partition('.')[0]}.0").at(QUESTIONS))
    with Agent(door, ANSWERS + 100) as agent:
        agent.send(eid, payload, lifetime_s=asking.fresh_h * 3_600.0, priority=2)
    if wait_s <= 0.0:
        return None
    until_ns = clock.mono_ns() + int(wait_s * 1e9)
    with Agent(door, ANSWERS, subscribe=True) as agent:
        while clock.mono_ns() < until_ns:
            came = agent.receive(timeout_s=POLL_S)
            if came is not None:
                agent.taken()
                advice = _advice(came.payload, request_id)
                if advice is not None:
                    return advice
    raise NoAnswerError(f"no answer of {asking.target} within {wait_s:g} s; it may still come")


def _advice(payload: bytes, request_id: str) -> Advice | None:
    """Return the advice of an answer; None where it answers another question."""
    try:
        outputs, reply = read_answer(payload)
    except SiteSaysNoError as error:
        if error.request_id == request_id:
            raise
        return None
    return wire.from_bytes(Advice, outputs[ANSWER][0]) if reply.request_id == request_id else None
