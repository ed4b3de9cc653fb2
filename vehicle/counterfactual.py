"""What caused a decision: take each factor out of the scene, ask planner and envelope again.

A factor is a cause when the decision is another without it. Where two would each be enough (two
people on the crossing), neither is by itself: then factors are taken away together until the
decision changes, and every one that may come back without changing it again is let back.

Source: the but-for test and its trouble with overdetermination: Halpern and Pearl, "Causes and
    Explanations: A Structural-Model Approach" (2005); minimal sets by delta debugging (Zeller,
    Hildebrandt 2002).
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from vehicle.budget import Budget
from vehicle.caution import TALL_M
from vehicle.clock import FakeClock
from vehicle.config import VehicleConfig
from vehicle.contracts.decision import Decision, DecisionRecord, Factor
from vehicle.contracts.explanation import candidates
from vehicle.contracts.frame import Observation
from vehicle.contracts.plan import Rung
from vehicle.contracts.scene import Scene
from vehicle.decisions import differs, record_of
from vehicle.pilot import Pilot

_MORE: Final = 1.6
_LANE_M: Final = 200.0
_FREE_LATERAL_MPS2: Final = 900.0
_LOW_M: Final = 0.5 * TALL_M


def without(
    scene: Scene | None, obs: Observation, config: VehicleConfig, factors: Sequence[Factor]
) -> tuple[Scene | None, Observation, VehicleConfig]:
    """Return the same moment with factors taken away."""
    for factor in factors:
        if scene is not None and factor.kind in ("actor", "hides", "light"):
            scene = _scene_without(scene, factor)
        elif factor.kind == "bend":
            config = replace(config, max_lateral_mps2=_FREE_LATERAL_MPS2)
        elif obs.guidance is not None:
            guidance = obs.guidance
            if factor.kind == "yield line":
                guidance = replace(guidance, yield_m=None)
            elif factor.kind == "limit":
                guidance = replace(guidance, speed_limit_mps=_MORE * guidance.speed_limit_mps + 3.0)
            elif factor.kind == "no lane left":
                guidance = replace(guidance, left_lane_m=_LANE_M)
            elif factor.kind == "no lane right":
                guidance = replace(guidance, right_lane_m=_LANE_M)
            obs = replace(obs, guidance=guidance)
    return scene, obs, config


def _scene_without(scene: Scene, factor: Factor) -> Scene:
    if factor.kind == "light":
        return replace(scene, signal=None)
    of_it = scene.tracks["track_id"] == factor.actor_id
    if factor.kind == "actor":
        return replace(scene, tracks=np.ascontiguousarray(scene.tracks[~of_it]))
    tracks = scene.tracks.copy()
    tracks["height_m"][of_it] = _LOW_M
    return replace(scene, tracks=tracks)


class WhatIf:
    """One moment of a drive that can be lived through again, differently.

    Args:
        before: pilot as it was before this tick; it is copied for each question, never changed.
        scene, obs, rung: what it was given.
        record: what it made of them, from `vehicle.decisions.record_of`.
        config: of the car.
    """

    def __init__(
        self,
        before: Pilot,
        scene: Scene | None,
        obs: Observation,
        rung: Rung,
        record: DecisionRecord,
        config: VehicleConfig,
    ) -> None:
        self._before, self._record, self._config = before, record, config
        self._scene, self._obs, self._rung = scene, obs, rung
        self.asked = 0
        """How often the car was asked again."""

    def decision(self, factors: Sequence[Factor]) -> Decision:
        """Return what the car decides without `factors`."""
        self.asked += 1
        scene, obs, config = without(self._scene, self._obs, self._config, factors)
        pilot = copy.deepcopy(self._before)
        pilot.planner.suppose(config)
        budget = Budget(enforce=False, clock=FakeClock())
        budget.begin(obs.frame.frame_id)
        plan, command = pilot.act(scene, obs, self._rung, budget)
        assert plan is not None  # there was ego motion
        assert command is not None
        return record_of("", scene, obs, plan, command, self._config).decision

    def changes(self, factors: Sequence[Factor]) -> bool:
        """Return whether the decision is another without `factors`."""
        return differs(self._record.decision, self.decision(factors))

    def causes(self) -> DecisionRecord:
        """Return the record with its causes; none where nothing that can be taken away matters."""
        found = candidates(self._record)
        actors = [f for f in found if f.kind == "actor"]
        rest = [f for f in found if f.kind != "actor"]
        alone = [f for f in rest if self.changes([f])]
        together = bool(actors) and self.changes(actors)
        if together or not alone:  # one may also matter by how it keeps another from mattering
            alone = [f for f in actors if self.changes([f])] + alone
        if alone or not (together or self.changes(found)):
            return replace(self._record, causes=tuple(alone))
        return replace(self._record, causes=tuple(self._smallest(found)), jointly=True)

    def _smallest(self, found: Sequence[Factor]) -> list[Factor]:
        """Return factors that change the decision together, none of which may come back."""
        gone: list[Factor] = []
        for factor in found:
            gone.append(factor)
            if len(gone) > 1 and self.changes(gone):
                break
        for factor in list(gone):
            fewer = [f for f in gone if f != factor]
            if fewer and self.changes(fewer):
                gone = fewer
        return gone
