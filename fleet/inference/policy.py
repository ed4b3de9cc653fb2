"""May this request be answered there? Decided by Cedar, over policies that anybody can read.

The policies are text (`policies/*.cedar`), checked against a schema when they are read; which law
keeps which data where is a table (`policies/laws.toml`). A policy that fails while it is evaluated
refuses: Cedar by itself would leave it out, and a forbid that is left out lets things through.

Source: Cedar policy language 4, "Authorization" (default deny, forbid overrides permit, skip on
error), https://docs.cedarpolicy.com/auth/authorization.html
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

import cedarpy

from fleet.inference.laws import LAWS_FILE, PolicyFileError, law_of, read_laws
from vehicle.contracts import wire
from vehicle.contracts.inference import CONTEXTS, Context, InferenceRequest
from vehicle.contracts.wire import require

ALLOWED: Final = "allowed"
ANONYMOUS: Final = "anonymous"
SCHEMA_FILE: Final = "site.cedarschema"

MOST_DECIDED: Final = 4_096
"""Decisions that are remembered."""

Action = Literal["infer", "egress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place where inference runs, as policies see it.

    Args:
        name: of the site, e.g. "edge-munich-3".
        context: what kind of place.
        jurisdiction: ISO 3166 of the ground it stands on; of a satellite, its state of registry
            (Outer Space Treaty, article VIII).
        landings: countries of the ground stations that its answers may come down at.
        tenants: whom it serves; empty: anybody.
        undeclared: takes requests that do not say what their data is.
    """

    name: str
    context: Context
    jurisdiction: str
    landings: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    undeclared: bool = False

    def __post_init__(self) -> None:
        require(self.context in CONTEXTS, f"context is {self.context!r}, expected {CONTEXTS}")
        for code in (self.jurisdiction, *self.landings):
            known = len(code.partition("-")[0]) == 2 and code.isascii() and code.isupper()
            require(known, f"{self.name}: {code!r} is not ISO 3166 as in DE or US-CA")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What policy says of one request at one site.

    Args:
        allowed: whether it may be answered there.
        name: "allowed", or the name of the refusal, e.g. "ResidencyError".
        reasons: one line per policy that refuses, its id first.
        digest: sha256 of all policies and laws that were asked.
    """

    allowed: bool
    name: str
    reasons: tuple[str, ...]
    digest: str


class Policy:
    """A set of policies and laws, read once; deciding is pure.

    Args:
        texts: name of the file -> Cedar text.
        laws: the laws, as TOML.
    Raises:
        PolicyFileError: text that is not Cedar, breaks the schema, or has a policy without an id.
    """

    def __init__(self, texts: dict[str, str], laws: str) -> None:
        schema = _shipped(SCHEMA_FILE)
        text = "\n".join(texts[name] for name in sorted(texts))
        self._laws = read_laws(laws)
        self._schema = cedarpy.Schema.from_str(schema)
        self._policies, self._notes = _policies(text, schema)
        self.digest = wire.digest(
            wire.canonical({"policies": texts, "laws": laws, "schema": schema})
        )
        # What policies see of a request, and no more: a fleet asks the same few questions.
        self._decided: dict[Any, Decision] = {}

    @classmethod
    def default(cls) -> "Policy":
        """Return the policies that the package ships."""
        return cls({"default.cedar": _shipped("default.cedar")}, _shipped(LAWS_FILE))

    @classmethod
    def from_folder(cls, folder: Path) -> "Policy":
        """Return the policies of all *.cedar in `folder`; laws.toml there, or the shipped one.

        Raises:
            PolicyFileError: no policy is there, or one cannot be read.
        """
        try:
            texts = {p.name: p.read_text() for p in sorted(folder.glob("*.cedar"))}
            own = folder / LAWS_FILE
            laws = own.read_text() if own.is_file() else _shipped(LAWS_FILE)
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyFileError(f"{folder}: {error}") from error
        if not texts:
            raise PolicyFileError(f"{folder} has no *.cedar; start from {resources_folder()}")
        return cls(texts, laws)

    def decide(self, request: InferenceRequest | None, site: Site, tenant: str = "") -> Decision:
        """Return whether `site` may answer.

        Args:
            request: None: it came without saying what its data is (a plain client).
            tenant: whom the certificate names, ANONYMOUS without one; "": nobody but the request
                itself says so (a car that plans where to send).
        """
        seen = wire.canonical(self._data(request))
        question = (seen, request.tenant if request else None, site, tenant)
        if question not in self._decided:
            if len(self._decided) >= MOST_DECIDED:
                self._decided.clear()
            self._decided[question] = self.decide_many(request, [site], tenant)[0]
        return self._decided[question]

    def decide_many(
        self, request: InferenceRequest | None, sites: Sequence[Site], tenant: str = ""
    ) -> list[Decision]:
        """Return one decision per site, asked in one go."""
        return self._ask("infer", request, sites, tenant, {})

    def egress(
        self, request: InferenceRequest | None, home: Site, to: Site, tenant: str = ""
    ) -> Decision:
        """Return whether `home` may send what it got on to `to`."""
        return self._ask("egress", request, [to], tenant, {"from": home.context})[0]

    def _ask(
        self,
        action: Action,
        request: InferenceRequest | None,
        sites: Sequence[Site],
        tenant: str,
        more: dict[str, Any],
    ) -> list[Decision]:
        if not sites:
            return []
        require(len({s.name for s in sites}) == len(sites), "two sites have one name")
        claimed = request.tenant if request else tenant or ANONYMOUS
        who = tenant or claimed
        data = {**self._data(request), "tenant": _tenant(claimed)}
        asked = [
            {
                "principal": {"type": "Tenant", "id": who},
                "action": {"type": "Action", "id": action},
                "resource": {"type": "Site", "id": site.name},
                "context": {"data": data, **more},
            }
            for site in sites
        ]
        entities = json.dumps([_entity(site) for site in sites])
        answers = cedarpy.is_authorized_batch(asked, self._policies, entities, self._schema)
        return [
            self._decision(
                answer,
                f"{data['class']} of {data['jurisdiction'] or 'nobody knows'}, "
                f"tenant {who}, {action} at {site.name} ({site.context}, "
                f"{site.jurisdiction})",
            )
            for answer, site in zip(answers, sites, strict=True)
        ]

    def _data(self, request: InferenceRequest | None) -> dict[str, Any]:
        if request is None:
            empty = dict.fromkeys(("jurisdiction", "workload", "tier"), "")
            return {
                "declared": False,
                "class": "undeclared",
                "zone": [],
                "keeps": [],
                "grounds": [],
                **empty,
            }
        law = law_of(request.jurisdiction, self._laws)
        return {
            "declared": True,
            "class": request.data_class,
            "jurisdiction": request.jurisdiction,
            "workload": request.workload,
            "tier": request.tier,
            "zone": law.zone,
            "keeps": law.keeps,
            "grounds": law.grounds,
        }

    def _decision(self, answer: cedarpy.AuthzResult, what: str) -> Decision:
        if answer.diagnostics.errors:
            reasons = tuple(f"{what}: {error}" for error in answer.diagnostics.errors)
            return Decision(
                allowed=False, name="PolicyBrokenError", reasons=reasons, digest=self.digest
            )
        if answer.allowed:
            return Decision(allowed=True, name=ALLOWED, reasons=(), digest=self.digest)
        named = sorted(answer.diagnostics.id_annotations_by_reason.values())
        if not named:
            reasons = (f"no policy permits {what}",)
            return Decision(
                allowed=False, name="NoPermitError", reasons=reasons, digest=self.digest
            )
        return Decision(
            allowed=False,
            name=self._notes[named[0]].get("error", "PolicyRefusedError"),
            reasons=tuple(
                f"{i}: {self._notes[i].get('says', 'forbidden')} ({what})" for i in named
            ),
            digest=self.digest,
        )


def resources_folder() -> str:
    """Return where the shipped policies lie, to start one's own from."""
    return str(resources.files("fleet.inference") / "policies")


def _shipped(name: str) -> str:
    return (resources.files("fleet.inference") / "policies" / name).read_text()


def _tenant(name: str) -> dict[str, Any]:
    return {"__entity": {"type": "Tenant", "id": name}}


def _entity(site: Site) -> dict[str, Any]:
    return {
        "uid": {"type": "Site", "id": site.name},
        "attrs": {
            "context": site.context,
            "jurisdiction": site.jurisdiction,
            "country": site.jurisdiction[:2],
            "landings": [c[:2] for c in site.landings],
            "tenants": [_tenant(t) for t in site.tenants],
            "undeclared": site.undeclared,
        },
        "parents": [],
    }


def _policies(text: str, schema: str) -> tuple[cedarpy.PolicySet, dict[str, dict[str, str]]]:
    """Return the parsed set, and by policy id what its annotations say."""
    try:
        plain = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
        policies = cedarpy.PolicySet.from_str(text)
        checked = cedarpy.validate_policies(text, schema)
    except ValueError as error:
        raise PolicyFileError(f"not Cedar: {error}") from error
    if not checked.validation_passed:
        raise PolicyFileError("; ".join(str(e) for e in checked.errors))
    notes: dict[str, dict[str, str]] = {}
    for number, policy in plain.items():
        note = policy.get("annotations", {})
        if not note.get("id"):
            raise PolicyFileError(f"{number} has no @id: a refusal could not name it")
        if note["id"] in notes:
            raise PolicyFileError(f"@id({note['id']!r}) stands twice")
        notes[note["id"]] = note
    return policies, notes
