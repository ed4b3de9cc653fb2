"""One request for inference outside the car, and its reply, wherever it runs.

The tensors travel beside it, by the Open Inference Protocol v2; the request rides in that
protocol's `parameters` (PARAMETER: its canonical bytes as text), and so does the reply. The
device's own answer is always computed, sufficient, and the one actuated: a reply is advice that may
only make the plan more careful, and dies at `valid_until_utc_ns`.
"""

import re
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal, get_args

from vehicle.contracts.wire import require, require_finite

Context = Literal["device", "edge", "on-prem", "hyperscale", "orbital"]
CONTEXTS: Final[tuple[Context, ...]] = get_args(Context)
"""Where inference runs, nearest first."""

Tier = Literal["ultra-low", "low", "interactive", "conversational", "batch"]
TIERS: Final[tuple[Tier, ...]] = get_args(Tier)

TIER_BAND_MS: Final[dict[Tier, tuple[float, float]]] = {
    "ultra-low": (0.0, 10.0),
    "low": (10.0, 50.0),
    "interactive": (50.0, 200.0),
    "conversational": (200.0, 1_000.0),
}
"""The 95th percentile of a tier lies below the band's end; conversational: to the first token.
Batch has none: it is judged by what it delivers before expiry."""

DataClass = Literal["features", "anonymised", "pixels", "personal"]
DATA_CLASSES: Final[tuple[DataClass, ...]] = get_args(DataClass)
"""What leaves the car, least telling first: numbers of a network or tracks; scrubbed pictures;
pictures as taken; whatever names a person."""

PARAMETER: Final = "roadloop"
"""Key in the protocol's `parameters`, of a request's and of a reply's."""

MAX_TENSOR_BYTES: Final = 16 << 20
"""Most bytes of tensors in one request; a larger one is refused before it is read whole."""

ANY: Final = 0
"""A budget of zero says: none is set."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,63}")
_ID: Final = re.compile(r"[0-9a-f]{32}")
_JURISDICTION: Final = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRequest:
    """What a car asks of a context, and within which bounds.

    Args:
        request_id: 32 hex digits, new for each request; a second one of the same id is a replay.
        tenant: whose fleet asks; limits and accounts are kept by it.
        car_id: which car; the certificate says so too.
        workload: e.g. "collective-perception", "adjudication", "explanation", "relabel".
        tier: the latency tier it belongs to.
        input_utc_ns: when the input was taken: exposure end.
        freshness_s: older input than this is worthless, s.
        deadline_utc_ns: absolute; an answer after it is not wanted, and work on it may be dropped.
        data_class, jurisdiction: what it is, and whose law it stands under (ISO 3166).
        joules: most energy the answer may cost off the car, J; 0: no limit.
        size_budget_bytes: most bytes to send and to receive together; 0: no limit.
        model: which model is asked for, or "" to let the context choose by deadline.
    """

    SCHEMA: ClassVar[str] = "inference/1"
    request_id: str
    tenant: str
    car_id: str
    workload: str
    tier: Tier
    input_utc_ns: int
    freshness_s: float
    deadline_utc_ns: int
    data_class: DataClass
    jurisdiction: str
    joules: float = 0.0
    size_budget_bytes: int = ANY
    model: str = ""

    def __post_init__(self) -> None:
        require(bool(_ID.fullmatch(self.request_id)), "request_id is not 32 hex digits")
        for name, value in (("tenant", self.tenant), ("car_id", self.car_id)):
            require(bool(_NAME.fullmatch(value)), f"{name} is {value!r}, expected a short name")
        require(bool(_NAME.fullmatch(self.workload)), f"workload is {self.workload!r}")
        require(not self.model or bool(_NAME.fullmatch(self.model)), f"model is {self.model!r}")
        require(self.tier in TIERS, f"tier is {self.tier!r}, expected one of {TIERS}")
        require(self.data_class in DATA_CLASSES, f"data_class is {self.data_class!r}")
        require(
            bool(_JURISDICTION.fullmatch(self.jurisdiction)),
            f"jurisdiction is {self.jurisdiction!r}, expected ISO 3166 as in DE or US-CA",
        )
        require_finite("InferenceRequest", freshness_s=self.freshness_s, joules=self.joules)
        require(self.freshness_s > 0.0, f"freshness_s is {self.freshness_s}, expected over 0")
        require(self.joules >= 0.0, f"joules is {self.joules}, expected 0 or more")
        require(self.size_budget_bytes >= 0, f"size_budget_bytes is {self.size_budget_bytes}")
        require(
            0 < self.input_utc_ns < self.deadline_utc_ns,
            f"deadline_utc_ns {self.deadline_utc_ns} is not after input_utc_ns {self.input_utc_ns}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A link of the chain in which a context writes down what it decided and did.

    Args:
        number: from 1, without a gap.
        previous: sha256 of the receipt before; 64 zeros for the first.
        request_id, tenant, jurisdiction, data_class: of the request.
        policy: digest of the policy that decided.
        decision: "allowed", or the name of the refusal.
        site: which site did it.
        utc_ns: when.
        size_bytes: received and sent.
    """

    SCHEMA: ClassVar[str] = "receipt/1"
    number: int
    previous: str
    request_id: str
    tenant: str
    jurisdiction: str
    data_class: str
    policy: str
    decision: str
    site: str
    utc_ns: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceReply:
    """What a context says of its answer.

    Args:
        request_id: of the request.
        context, site: where it ran.
        model_set: name@version of what answered; `model_digest` its sha256.
        finished_utc_ns: when the answer was ready.
        valid_until_utc_ns: the car forgets the answer then.
        timings_us: by stage: queue, compute, ...
        joules: spent on it; `joules_source` "metered" or "modelled".
        receipt: sha256 of the receipt of it, "" where none is kept.
    """

    SCHEMA: ClassVar[str] = "inferencereply/1"
    request_id: str
    context: Context
    site: str
    model_set: str
    model_digest: str
    finished_utc_ns: int
    valid_until_utc_ns: int
    timings_us: dict[str, int] = field(default_factory=dict)
    joules: float = 0.0
    joules_source: Literal["metered", "modelled"] = "modelled"
    receipt: str = ""

    def __post_init__(self) -> None:
        require(bool(_ID.fullmatch(self.request_id)), "request_id is not 32 hex digits")
        require(self.context in CONTEXTS, f"context is {self.context!r}, expected {CONTEXTS}")
        require_finite("InferenceReply", joules=self.joules)
        require(self.joules >= 0.0, f"joules is {self.joules}, expected 0 or more")
