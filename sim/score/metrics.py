"""All scores of one episode from its trace.

Names: "EPDMS-style (our scenarios)" and "CLS-style (our scenarios)", never those of a leaderboard.
"""

from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np

from sim.score.cls import ClsScore, cls
from sim.score.comfort import Comfort, comfort, extended_comfort
from sim.score.criticality import Criticality, criticality
from sim.score.epdms import MULTIPLIERS, EpdmsScore, epdms, progress_m, rules
from sim.score.faults import Contact, contacts
from sim.score.history import History, history_of
from sim.score.trace import EXPERT_COLUMNS, EgoSample, Trace
from vehicle.contracts.wire import RefusedError

SUBSCORES: Final = ("NC", "DAC", "DDC", "TLC", "EP", "TTC", "LK", "HC", "EC")


class MissingReferenceError(RefusedError, ValueError):
    """Progress has nothing to be measured against: neither a reference nor an expert."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeScore:
    """Everything measured on one episode.

    Args:
        epdms: "EPDMS-style (our scenarios)".
        cls: "CLS-style (our scenarios)".
        criticality: margins, contacts, minimal risk manoeuvres.
        comfort: extremes of the smoothed signals.
        contacts: first contact with each actor.
        progress_m: along the route.
        duration_s: of the trace.
    """

    epdms: EpdmsScore
    cls: ClsScore
    criticality: Criticality
    comfort: Comfort
    contacts: tuple[Contact, ...]
    progress_m: float
    duration_s: float

    def flat(self) -> dict[str, float]:
        """Return every figure by name: epdms, epdms.NC, cls, cls.ttc, min_ttc_s, ..."""
        out = {"epdms": self.epdms.total}
        out |= {f"epdms.{k}": self.epdms.parts[k] for k in SUBSCORES}
        out |= {"cls": self.cls.total} | {f"cls.{k}": v for k, v in self.cls.parts.items()}
        out |= {k: float(v) for k, v in asdict(self.criticality).items()}
        return out | {"progress_m": self.progress_m, "duration_s": self.duration_s}


def score(trace: Trace, *, reference_progress_m: float | None = None) -> EpisodeScore:
    """Return all scores of an episode, over its whole length.

    Args:
        trace: what was driven.
        reference_progress_m: `reference_of` the reference driver's trace from the same start. With
            None the expert's own is taken.
    Raises:
        MissingReferenceError: no reference is given and the trace has no expert.
    """
    history = history_of(trace)
    human: dict[str, float] | None = None
    if trace.expert is not None:
        expert = expert_history(history, trace.expert)
        human = rules(expert)
        if reference_progress_m is None:
            reference_progress_m = progress_m(expert)
    if reference_progress_m is None:
        raise MissingReferenceError(
            "no reference progress and no expert: drive the same scenario with the reference "
            "planner and pass sim.score.metrics.reference_of(its trace)"
        )
    return EpisodeScore(
        epdms=epdms(
            history,
            plan_comfort=extended_comfort(history.t_s, trace.plans),
            reference_progress_m=reference_progress_m,
            human=human,
        ),
        cls=cls(history, reference_progress_m=reference_progress_m),
        criticality=criticality(history, trace.plans),
        comfort=comfort(history),
        contacts=contacts(history),
        progress_m=progress_m(history),
        duration_s=float(history.t_s[-1] - history.t_s[0]),
    )


def reference_of(trace: Trace) -> float:
    """Return the progress another driver of the same scenario is measured against, in metres.

    Progress of this trace times its own multipliers, so that a reference that crashed sets no mark.
    """
    history = history_of(trace)
    parts = rules(history)
    product = 1.0
    for name in MULTIPLIERS:
        product *= parts[name]
    return progress_m(history) * product


def expert_history(history: History, expert: np.ndarray) -> History:
    """Return the same episode with the human's car in place of the ego.

    Args:
        history: of the ego; bodies, actors and lights are taken from it.
        expert: [E, 5] EXPERT_COLUMNS; beyond its ends it stands where it began or ended.
    """
    t = expert[:, EXPERT_COLUMNS.index("t_s")]
    at = {
        name: np.interp(history.t_s, t, expert[:, i]) for i, name in enumerate(EXPERT_COLUMNS) if i
    }
    yaw = np.interp(history.t_s, t, np.unwrap(expert[:, EXPERT_COLUMNS.index("yaw_rad")]))
    speed = at["speed_mps"]
    rate = np.gradient(yaw, history.t_s)
    moves = np.abs(speed) > 0.1
    columns = {
        **at,
        "yaw_rad": yaw,
        "accel_mps2": np.gradient(speed, history.t_s),
        "yaw_rate_radps": rate,
        "curvature_1pm": np.where(moves, rate / np.where(moves, speed, 1.0), 0.0),
        "length_m": history.column("length_m"),
        "width_m": history.column("width_m"),
    }
    names = tuple(EgoSample.__dataclass_fields__)
    return replace(history, ego=np.stack([columns[n] for n in names], axis=1))
