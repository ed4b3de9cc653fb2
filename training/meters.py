"""Figures of merit of every head, summed up frame by frame."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

import numpy as np

from training.calibrate import expected_calibration_error
from training.frames import Frames
from training.heads import LIGHTS
from training.metrics import Matches, wilson
from training.model import DENSE_CHANNELS, VELOCITY_UNIT_MPS
from training.targets import dense_target, motion_target
from vehicle.contracts.report import MetricResult
from vehicle.contracts.scene import BEV_BOX

LANE_REACH_M: Final = 30.0
"""Lane lines are judged from the rear axle to so far ahead."""

LANE_PROB: Final = 0.5
_MOVING_MPS: Final = 0.5
_OWN: Final = (1, 2)


def share(name: str, hits: int, n: int) -> MetricResult:
    """Return a share with its Wilson interval."""
    low, high = wilson(hits, n)
    value = hits / n if n else 0.0
    return MetricResult(name=name, value=value, unit="ratio", n=n, low=low, high=high)


def mean(name: str, values: list[float], unit: str) -> MetricResult:
    """Return a mean, smaller is better, with its interval by the normal distribution."""
    n = len(values)
    value = float(np.mean(values)) if n else 0.0
    half = 1.96 * float(np.std(values)) / max(n - 1, 1) ** 0.5 if n else 0.0
    return MetricResult(
        name=name,
        value=value,
        unit=unit,
        n=n,
        low=value - half,
        high=value + half,
        higher_is_better=False,
    )


def of_detections(matches: Mapping[str, Matches]) -> list[MetricResult]:
    """Return precision and recall of every kind, and how far scores are from probabilities."""
    results = [r for kind, m in matches.items() for r in _of_kind(kind, m)]
    scores = [s for m in matches.values() for s in m.scores]
    right = [r for m in matches.values() for r in m.right]
    error = expected_calibration_error(scores, right)
    return [
        *results,
        MetricResult(
            name="calibration/ece",
            value=error,
            unit="probability",
            n=len(scores),
            higher_is_better=False,
        ),
    ]


def _of_kind(kind: str, m: Matches) -> list[MetricResult]:
    precise, believed = m.precision()
    areas = []
    for suffix, near, n in (("", False, m.labels), ("/near", True, m.near_labels)):
        low, high = m.interval(near=near) if n else (0.0, 1.0)
        areas.append(
            MetricResult(
                name=f"ap/{kind}{suffix}",
                value=m.average_precision(near=near),
                unit="ratio",
                n=n,
                low=low,
                high=high,
            )
        )
    return [
        *areas,
        share(f"recall/{kind}", m.found, m.labels),
        share(f"recall/{kind}/near", m.near_found, m.near_labels),
        share(f"precision/{kind}", precise, believed),
    ]


@dataclass(slots=True)
class Meters:
    """Sums over frames; `add` each, then read `results`.

    Args:
        overlap: [2, 3] cells in both and in either, per raster.
        light: [4, 4] frames, labelled state by said state; light_m: errors of distance.
        lanes_m: errors where a line of the ego's lane is and was said; lanes: [wanted, found, said,
            right] points.
    """

    frames: int = 0
    overlap: np.ndarray = field(default_factory=lambda: np.zeros((2, len(DENSE_CHANNELS)), int))
    uncertainty: list[float] = field(default_factory=list)
    light: np.ndarray = field(default_factory=lambda: np.zeros((len(LIGHTS), len(LIGHTS)), int))
    light_m: list[float] = field(default_factory=list)
    lanes_m: list[float] = field(default_factory=list)
    lanes: np.ndarray = field(default_factory=lambda: np.zeros(4, int))
    flow_moving: list[float] = field(default_factory=list)
    flow_standing: list[float] = field(default_factory=list)
    velocity: list[float] = field(default_factory=list)
    speed: list[float] = field(default_factory=list)
    yaw_rate: list[float] = field(default_factory=list)

    def add(
        self,
        answer: Mapping[str, np.ndarray],
        data: Frames,
        i: int,
        wanted: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ) -> None:
        """Count one frame; heads that a graph does not have are left out.

        Args:
            wanted: per kind the labelled boxes asked for, and the score each was found with.
        """
        self.frames += 1
        said, there = answer["dense"][0] >= 0.5, dense_target(data.bev[i]) > 0.5
        self.overlap += [(said & there).sum(axis=(1, 2)), (said | there).sum(axis=(1, 2))]
        self.uncertainty.append(float(answer["uncertainty"][0, 0]))
        if "light" in answer:
            self._light(answer["light"][0], data.light[i])
        if "lanes" in answer and data.lanes_labelled[i]:
            self._lanes(answer["lanes"][0], data.lanes[i])
        if "flow" in answer:
            self._flow(answer["flow"][0], answer["box"][0], data, i, wanted)
        if "ego_motion" in answer and data.before(i) is not None:
            dx_m, _, dyaw_rad, dt_s = data.motion[i]
            self.speed.append(abs(float(answer["ego_motion"][0, 0] - dx_m / dt_s)))
            self.yaw_rate.append(abs(float(answer["ego_motion"][0, 1] - dyaw_rad / dt_s)))

    def merge(self, other: "Meters") -> None:
        """Take over what was counted on other frames."""
        for item in fields(self):
            own, more = getattr(self, item.name), getattr(other, item.name)
            setattr(self, item.name, own + more)

    def _light(self, said: np.ndarray, label: np.ndarray) -> None:
        state = int(label[0])
        if state < 0:
            return
        best = int(np.argmax(said[: len(LIGHTS)]))
        self.light[state, best] += 1
        if state and best and np.isfinite(label[1]):
            self.light_m.append(abs(float(said[len(LIGHTS)] - label[1])))

    def _lanes(self, said: np.ndarray, label: np.ndarray) -> None:
        x_m = BEV_BOX.x_min_m + (np.arange(BEV_BOX.nx) + 0.5) * BEV_BOX.cell_m
        rows = (x_m >= 0.0) & (x_m <= LANE_REACH_M)
        for line in _OWN:
            y_m, prob = said[line, rows, 0], said[line, rows, 1]
            there, believed = np.isfinite(label[line, rows]), prob >= LANE_PROB
            both = there & believed
            self.lanes_m += np.abs(y_m - label[line, rows])[both].tolist()
            self.lanes += [there.sum(), both.sum(), believed.sum(), both.sum()]

    def _flow(
        self,
        flow: np.ndarray,
        box: np.ndarray,
        data: Frames,
        i: int,
        wanted: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ) -> None:
        _, target = motion_target(data.boxes[i], data.bev[i])
        true = target[:2] * VELOCITY_UNIT_MPS
        error = np.hypot(*(flow - true))
        asked, moving = target[2] > 0, np.hypot(*true) > _MOVING_MPS
        self.flow_moving += error[asked & moving].tolist()
        if (asked & ~moving).any():
            self.flow_standing.append(float(error[asked & ~moving].mean()))
        if len(box) < 8:
            return
        for boxes, score in wanted.values():
            for row in boxes[(score > 0) & np.isfinite(boxes[:, 9])]:
                ix = int((row[1] - BEV_BOX.x_min_m) / BEV_BOX.cell_m)
                iy = int((row[2] - BEV_BOX.y_min_m) / BEV_BOX.cell_m)
                if np.hypot(row[9], row[10]) > _MOVING_MPS:
                    self.velocity.append(float(np.hypot(*(box[6:8, ix, iy] - row[9:11]))))

    def results(self) -> list[MetricResult]:
        """Return a metric per head that answered."""
        both, either = self.overlap
        out = [
            MetricResult(
                name=f"iou/{name}", value=float(b / max(e, 1)), unit="ratio", n=self.frames
            )
            for name, b, e in zip(DENSE_CHANNELS, both, either, strict=True)
        ]
        out.append(mean("uncertainty/mean", self.uncertainty, "1 at infinity"))
        unusual = sum(u > 0.5 for u in self.uncertainty)
        out.append(share("uncertainty/over_half", unusual, len(self.uncertainty)))
        if self.light.sum():
            out += self._light_results()
        if self.lanes[0]:
            wanted, found, said, right = (int(v) for v in self.lanes)
            out.append(mean("lanes/own/error", self.lanes_m, "m"))
            out.append(share("lanes/own/recall", found, wanted))
            out.append(share("lanes/own/precision", right, said))
        for name, values, unit in (
            ("flow/moving/error", self.flow_moving, "m/s"),
            ("flow/standing/error", self.flow_standing, "m/s"),
            ("velocity/moving/error", self.velocity, "m/s"),
            ("ego_motion/speed/error", self.speed, "m/s"),
            ("ego_motion/yaw_rate/error", self.yaw_rate, "rad/s"),
        ):
            if values:
                out.append(mean(name, values, unit))
        return out

    def _light_results(self) -> list[MetricResult]:
        hits, shown = int(np.trace(self.light)), self.light[1:]
        out = [share("light/accuracy", hits, int(self.light.sum()))]
        out.append(share("light/shown/accuracy", int(np.trace(shown[:, 1:])), int(shown.sum())))
        for k, state in enumerate(LIGHTS):
            for j, said in enumerate(LIGHTS):
                out.append(
                    share(
                        f"light/{state}/as_{said}", int(self.light[k, j]), int(self.light[k].sum())
                    )
                )
        if self.light_m:
            out.append(mean("light/distance/error", self.light_m, "m"))
        return out
