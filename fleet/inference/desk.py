"""A site's desk: takes a request whichever wire it came by, checks it, has it answered.

The order is the one in which refusing is cheapest: who asks and how often, before the request is
read; whose it is and how old, before policy; policy before memory; memory before work.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from fleet.inference.call import Answer, Call, check_times, read_inputs, wanted_outputs
from fleet.inference.oip_model import Model
from fleet.inference.policy import ALLOWED, Policy, Site
from fleet.inference.queue import NEVER, Turns
from fleet.inference.receipts import Receipts
from fleet.inference.refusals import (
    ForgedRequestError,
    LateAnswerError,
    MalformedRequestError,
    ModelFailedError,
    OverBudgetError,
    OversizedRequestError,
    PolicyRefusedError,
    SiteRefusalError,
    StoppingError,
    TooManyRequestsError,
    UnknownModelError,
    status_of,
    words_of,
)
from fleet.inference.stats import Stats
from fleet.inference.tenants import Caller, Tenants
from vehicle.clock import Clock
from vehicle.contracts import wire
from vehicle.contracts.inference import ANY, MAX_TENSOR_BYTES, InferenceReply, InferenceRequest
from vehicle.contracts.wire import RefusedError

GONE: Final = "gone"
"""Decision in a receipt: whoever asked hung up before there was an answer."""

_LOG: Final = logging.getLogger(__name__)

MAX_PARAMETER_BYTES: Final = 16 << 10
"""Most bytes of the InferenceRequest."""


Joules = Callable[[int, int], float]
"""Energy of an answer from its compute time, us, and its bytes; modelled."""


class Desk:
    """The one way in to a site's models.

    Args:
        policy: None: none but the certificate's.
        receipts: None: none are kept.
        joules: None: not said.
    """

    def __init__(
        self,
        models: Sequence[Model],
        *,
        site: Site,
        tenants: Tenants,
        turns: Turns,
        clock: Clock,
        policy: Policy | None = None,
        receipts: Receipts | None = None,
        joules: Joules | None = None,
    ) -> None:
        self.site, self.stats, self.turns = site, Stats(), turns
        self.reading = tenants.reading
        self.ready = True
        self._tenants, self._clock = tenants, clock
        self._policy, self._receipts, self._joules = policy, receipts, joules
        self._models: dict[str, dict[str, Model]] = {}
        for model in models:
            self._models.setdefault(model.name, {})[model.version] = model
        self._writing: set[asyncio.Task[str]] = set()

    def models(self) -> list[Model]:
        """Return all models, the newest version of each name last."""
        return [m for versions in self._models.values() for m in versions.values()]

    def model(self, name: str, version: str = "") -> Model:
        """Return the model of this name, the newest unless a version is named.

        Raises:
            UnknownModelError: there is none.
        """
        versions = self._models.get(name, {})
        found = versions.get(version or next(reversed(versions), ""))
        if found is None:
            known = ", ".join(f"{m.name}@{m.version}" for m in self.models())
            asked = f"{name[:64]}@{version[:64]}" if version else name[:64]
            raise UnknownModelError(f"no model {asked!r} here; this site serves {known}")
        return found

    def check_ready(self) -> bool:
        """Return True.

        Raises:
            StoppingError: the site closes.
        """
        if not self.ready:
            raise StoppingError("the site is closing; ask another")
        return True

    def greet(self, der: bytes | None) -> Caller:
        """Say who calls, before anything is read of what it sends.

        Raises:
            UnknownCallerError, TooManyRequestsError: see `Tenants`.
        """
        caller = self._tenants.caller(der)
        try:
            self._tenants.take(caller)
        except TooManyRequestsError as error:
            error.tenant = caller.tenant
            raise
        return caller

    def refusal(self, error: Exception, caller: Caller | None) -> tuple[str, int, str]:
        """Count a refusal; return gRPC's status, HTTP's, and the words that travel."""
        if not isinstance(error, RefusedError):
            _LOG.error("a request broke the site", exc_info=error)
            error = ModelFailedError(f"{type(error).__name__}; the site has written down more")
        self.stats.refuse(type(error).__name__, caller.tenant if caller else _tenant_of(error))
        grpc, http = status_of(error)
        return grpc, http, words_of(error)

    async def answer(self, caller: Caller, call: Call) -> Answer:
        """Answer a request, in its turn.

        Raises:
            RefusedError: as named in fleet/inference/refusals.py, or by the model.
        """
        began_ns = self._clock.mono_ns()
        request = self._request(caller, call)
        policy = ""
        if self._policy is not None:
            decision = self._policy.decide(request, self.site, caller.tenant)
            policy = decision.digest
            if not decision.allowed:
                await self._write(request, caller, policy, decision.name, call.size_bytes)
                raise PolicyRefusedError(f"{decision.name}: {'; '.join(decision.reasons)}")
        try:
            model, outputs, timings_us = await self._work(caller, call, request, began_ns)
            size_bytes = call.size_bytes + _size_of(outputs)
            if request and 0 < request.size_budget_bytes < size_bytes:
                raise OverBudgetError(
                    f"request and answer have {size_bytes} bytes, the budget is "
                    f"{request.size_budget_bytes}"
                )
        except (Exception, asyncio.CancelledError) as error:
            await self._write(request, caller, policy, _decision(error), call.size_bytes)
            raise
        receipt = await self._write(request, caller, policy, ALLOWED, size_bytes)
        self.stats.answer(f"{model.name}@{model.version}", caller.tenant, timings_us, size_bytes)
        reply = self._reply(request, model, timings_us, size_bytes, receipt) if request else None
        return Answer(model=model, outputs=outputs, reply=reply)

    async def close(self, grace_s: float) -> None:
        """Take nobody any more, answer who is here, write what is to be written."""
        self.ready = False
        await self.turns.close(grace_s)
        await asyncio.gather(*self._writing, return_exceptions=True)

    def _request(self, caller: Caller, call: Call) -> InferenceRequest | None:
        """Return the request inside a call, after all checks that need nothing but a clock."""
        if call.size_bytes > MAX_TENSOR_BYTES:
            raise OversizedRequestError(
                f"{call.size_bytes} bytes, a site takes {MAX_TENSOR_BYTES} at most"
            )
        if call.parameter is None:
            return None
        if len(call.parameter) > MAX_PARAMETER_BYTES:
            raise OversizedRequestError(f"the request has {len(call.parameter)} bytes")
        request = wire.from_bytes(InferenceRequest, call.parameter.encode(), strict=False)
        named = (request.tenant, request.car_id)
        if caller.known and named != (caller.tenant, caller.car_id):
            raise ForgedRequestError(
                f"the request says it is of car {request.car_id!r} of {request.tenant!r}, its "
                f"certificate is of {caller.car_id!r} of {caller.tenant!r}"
            )
        check_times(request, self._clock.utc_ns())
        if 0 < request.size_budget_bytes < call.size_bytes:
            raise OverBudgetError(
                f"the request has {call.size_bytes} bytes, its budget is "
                f"{request.size_budget_bytes}"
            )
        return request

    async def _work(
        self, caller: Caller, call: Call, request: InferenceRequest | None, began_ns: int
    ) -> tuple[Model, Mapping[str, np.ndarray], dict[str, int]]:
        model = self.model(call.model, call.version)
        if request and request.model not in ("", model.name, f"{model.name}@{model.version}"):
            raise MalformedRequestError(
                f"the request is for {request.model!r}, but was sent to {model.name!r}"
            )
        self._check_joules(model, request, call.size_bytes)
        inputs, deadline_ns = read_inputs(model, call.tensors), NEVER
        wanted = wanted_outputs(model, call.outputs)
        if request is not None:
            self._tenants.remember(caller, request.request_id, request.deadline_utc_ns)
            left_ns = request.deadline_utc_ns - self._clock.utc_ns()
            deadline_ns = self._clock.mono_ns() + left_ns
        async with self.turns.turn(caller.tenant, deadline_ns, model.expected_us()) as job:
            answer = await _in_time(model, inputs, request, deadline_ns - job.began_ns)
            outputs = {name: answer[name] for name in wanted}  # what is not wanted may cost nothing
            ended_ns = self._clock.mono_ns()
        timings_us = {
            "queue": (job.began_ns - began_ns) // 1_000,
            "compute": (ended_ns - job.began_ns) // 1_000,
        }
        return model, outputs, timings_us

    def _check_joules(
        self, model: Model, request: InferenceRequest | None, size_bytes: int
    ) -> None:
        if self._joules is None or request is None or request.joules == ANY:
            return
        expected = self._joules(model.expected_us(), size_bytes)
        if expected > request.joules:
            raise OverBudgetError(
                f"an answer costs {expected:.3g} J here, modelled; the budget is "
                f"{request.joules:.3g} J"
            )

    def _reply(
        self,
        request: InferenceRequest,
        model: Model,
        timings_us: dict[str, int],
        size_bytes: int,
        receipt: str,
    ) -> InferenceReply:
        fresh_until_ns = request.input_utc_ns + int(request.freshness_s * 1e9)
        return InferenceReply(
            request_id=request.request_id,
            context=self.site.context,
            site=self.site.name,
            model_set=f"{model.name}@{model.version}",
            model_digest=model.digest,
            finished_utc_ns=self._clock.utc_ns(),
            valid_until_utc_ns=max(request.deadline_utc_ns, fresh_until_ns),
            timings_us=timings_us,
            joules=self._joules(timings_us["compute"], size_bytes) if self._joules else 0.0,
            receipt=receipt,
        )

    async def _write(
        self,
        request: InferenceRequest | None,
        caller: Caller,
        policy: str,
        decision: str,
        size_bytes: int,
    ) -> str:
        """Write a receipt; it is written even when nobody waits for it any more."""
        if self._receipts is None:
            return ""
        entry = self._receipts.appended(
            request,
            tenant=caller.tenant,
            policy=policy,
            decision=decision,
            size_bytes=size_bytes,
        )
        task = asyncio.create_task(entry)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return await asyncio.shield(task)


async def _in_time(
    model: Model, inputs: Mapping[str, np.ndarray], request: InferenceRequest | None, left_ns: float
) -> Mapping[str, np.ndarray]:
    """Have a model answer until the deadline, and not after it."""
    try:
        async with asyncio.timeout(None if left_ns == NEVER else left_ns * 1e-9):
            return await model.infer(inputs, request)
    except TimeoutError:
        raise LateAnswerError(
            f"{model.name}@{model.version} was not done at the deadline, {left_ns / 1e6:.1f} ms "
            "after it began"
        ) from None


def _tenant_of(error: RefusedError) -> str:
    return error.tenant if isinstance(error, SiteRefusalError) else ""


def _decision(error: BaseException) -> str:
    """Return the name under which a receipt says that there was no answer."""
    if isinstance(error, asyncio.CancelledError):
        return GONE
    return type(error if isinstance(error, RefusedError) else ModelFailedError()).__name__


def _size_of(outputs: Mapping[str, np.ndarray]) -> int:
    return sum(
        sum(map(len, a.ravel().tolist())) if a.dtype == object else a.nbytes
        for a in outputs.values()
    )
