"""V2X collective perception at a site: who a car cannot see, another car or a camera can.

Stations report what they perceive; a car that asks reports too, and is told what it does not
perceive itself, in its own local frame, at the instant it asked about. What a station said is
carried forward for a second at most, then it is not believed any more. Uses the terms of ETSI
TS 103 324 V2.1.1; the messages themselves are the Open Inference Protocol's, not ASN.1.

A ghost that a station makes up can make others more careful and nothing else: that is all that
advice can do (vehicle/offboard.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fleet.inference.fusion import Fused, Seen, carry, merge, near, occupied, on_wheels
from fleet.inference.oip_model import Pace
from fleet.inference.oip_tensors import ANY_SIZE, BYTES
from fleet.inference.policy import Site
from fleet.inference.refusals import MalformedRequestError, StaleInputError
from vehicle.clock import Clock
from vehicle.contracts import wire
from vehicle.contracts.advice import (
    ADVISED_COLUMNS,
    ANSWER,
    ASK_EGO,
    ASK_TRACKS,
    EGO_COLUMNS,
    MAX_TRACKS,
    Advice,
    rows_of,
    tracks_of,
)
from vehicle.contracts.bundle import TensorSpec
from vehicle.contracts.inference import InferenceRequest
from vehicle.contracts.scene import KINDS

VERSION: Final = "1"

COVARIANCE: Final = "covariance"
"""Input FP32 [N, 3] of a report, m2: of x, of x with y, of y."""

DELTA: Final = "delta"
"""Input FP32 [N] of a report, s: measurement delta time, how long before the report's instant each
object was measured."""

ORIGIN: Final = "origin"
"""Input FP64 [2] of a report: east and north of its frame's origin in the site's frame."""

OCCUPIED: Final = "occupied"
"""Output UINT8 [CELLS, CELLS]: how probably each cell is taken, 255 for surely; a square around the
car along the axes of its local frame, cell [0, 0] its corner of least x and y."""

CELLS: Final = 80
CELL_M: Final = 1.0

LASTS_S: Final = 1.0
"""How long a report is believed: the longest pause between two messages of a station (TS 103 324,
T_GenCpmMax)."""

LIVES_S: Final = 1.0
"""How long an answer may be heeded, from the instant it is about."""

REACH_M: Final = 80.0
MOST_OBJECTS: Final = 128
"""Of one report."""

MOST_STATIONS: Final = 256
_FAR_M: Final = 1e5
_SPEED_SIGMA_MPS: Final = 0.7
_BODY: Final = (4.6, 1.9, 1.6)
"""Length, width, height of a car that says nothing of its own size, m."""

_AHEAD_M: Final = 1.35
"""Of the rear axle, where its pose is, to the middle of its body."""

_ITSELF_M: Final = (5.0, 1.5)
"""A vehicle whose middle lies no further along and across from the car's own is the car: another
cannot stand there, and clocks that are a tenth of a second apart put it there."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """The last that a station said: what it perceived, and when."""

    utc_ns: int
    seen: Seen


class Reports:
    """What all stations of a site said last."""

    def __init__(self) -> None:
        self._last: dict[str, Report] = {}

    def put(self, station: str, report: Report) -> None:
        """Keep a report in place of the station's last one.

        Raises:
            StaleInputError: the station has said something newer already.
        """
        before = self._last.get(station)
        if before is not None and report.utc_ns < before.utc_ns:
            late_s = (before.utc_ns - report.utc_ns) * 1e-9
            raise StaleInputError(f"{station!r} reported {late_s:.2f} s later things already")
        self._last.pop(station, None)
        while len(self._last) >= MOST_STATIONS:
            del self._last[next(iter(self._last))]  # who has been silent longest
        self._last[station] = report

    def at(self, utc_ns: int, x_m: float, y_m: float) -> dict[str, Seen]:
        """Return what each station would perceive near a place at an instant; old ones do not."""
        found = {}
        for station, report in self._last.items():
            dt_s = (utc_ns - report.utc_ns) * 1e-9
            if abs(dt_s) <= LASTS_S:
                seen = near(carry(report.seen, dt_s), x_m, y_m, REACH_M)
                if len(seen.tracks):
                    found[station] = seen
        return found


def models(site: Site, clock: Clock) -> "tuple[Collective, Reporting]":
    """Return the two models of a site: the one that advises, and the one that listens."""
    reports = Reports()
    return Collective(site, reports, clock), Reporting(reports)


class Reporting:
    """Takes what a station perceives: a roadside camera, or a car that asks nothing."""

    name, version = "collective-report", VERSION
    inputs: tuple[TensorSpec, ...] = (
        TensorSpec(name=ASK_TRACKS, shape=(ANY_SIZE, len(ADVISED_COLUMNS)), dtype="float32"),
        TensorSpec(name=COVARIANCE, shape=(ANY_SIZE, 3), dtype="float32"),
        TensorSpec(name=DELTA, shape=(ANY_SIZE,), dtype="float32"),
        TensorSpec(name=ORIGIN, shape=(2,), dtype="float64"),
    )
    outputs: tuple[TensorSpec, ...] = (TensorSpec(name="taken", shape=(1,), dtype="int64"),)

    def __init__(self, reports: Reports) -> None:
        self.digest = wire.digest(f"{self.name}@{VERSION}".encode())
        self._reports = reports

    async def infer(
        self, inputs: Mapping[str, np.ndarray], request: InferenceRequest | None
    ) -> Mapping[str, np.ndarray]:
        """Keep a report; say how many objects it had.

        Raises:
            MalformedRequestError: it does not say whose it is, or its numbers make no sense.
            StaleInputError: the station has said something newer already.
        """
        if request is None:
            raise MalformedRequestError("a report says whose it is and when: send the request too")
        tracks = _tracks(inputs[ASK_TRACKS], inputs[ORIGIN])
        columns, delta_s = inputs[COVARIANCE], inputs[DELTA]
        if not len(tracks) == len(columns) == len(delta_s):
            raise MalformedRequestError(
                f"{len(tracks)} objects, {len(columns)} covariances, {len(delta_s)} times"
            )
        if not bool(((delta_s >= 0.0) & (delta_s <= LASTS_S)).all()):
            raise MalformedRequestError(f"an object was measured over {LASTS_S} s before, or after")
        if not (bool(np.isfinite(columns).all()) and _positive(columns.astype(np.float64))):
            raise MalformedRequestError("a covariance is none: not positive, or not finite")
        cov_m2 = columns[:, [0, 1, 1, 2]].reshape(-1, 2, 2).astype(np.float64)
        sigma = np.full(len(tracks), _SPEED_SIGMA_MPS)
        measured = Seen(tracks=tracks, cov_m2=cov_m2, speed_sigma_mps=sigma)
        seen = carry(measured, delta_s.astype(np.float64))
        self._reports.put(_station(request), Report(utc_ns=request.input_utc_ns, seen=seen))
        return {"taken": np.array([len(tracks)], np.int64)}

    def expected_us(self) -> int:
        """Return how long the next answer will take, us."""
        return 500


class Collective:
    """Advises a car of who is there that it does not perceive."""

    name, version = "collective", VERSION
    inputs: tuple[TensorSpec, ...] = (
        TensorSpec(name=ASK_TRACKS, shape=(ANY_SIZE, len(ADVISED_COLUMNS)), dtype="float32"),
        TensorSpec(name=ASK_EGO, shape=(len(EGO_COLUMNS),), dtype="float64"),
    )
    outputs: tuple[TensorSpec, ...] = (
        TensorSpec(name=ANSWER, shape=(1,), dtype=BYTES),
        TensorSpec(name=OCCUPIED, shape=(CELLS, CELLS), dtype="uint8"),
    )

    def __init__(self, site: Site, reports: Reports, clock: Clock) -> None:
        self.digest = wire.digest(f"{self.name}@{VERSION}".encode())
        self._site, self._reports, self._clock = site, reports, clock
        self._pace = Pace(2_000)

    async def infer(
        self, inputs: Mapping[str, np.ndarray], request: InferenceRequest | None
    ) -> Mapping[str, np.ndarray]:
        """Return advice, and how the ground around the car is taken.

        Raises:
            MalformedRequestError: it does not say for when, or its numbers make no sense.
        """
        if request is None:
            raise MalformedRequestError("advice is for an instant and a car: send the request too")
        began_ns = self._clock.mono_ns()
        ego, station = inputs[ASK_EGO].astype(np.float64), _station(request)
        if not bool(np.isfinite(ego).all()) or float(np.abs(ego).max()) > _FAR_M:
            raise MalformedRequestError("ego is not finite, or lies a hundred kilometres away")
        own = _own(_tracks(inputs[ASK_TRACKS], ego[4:6]), ego)
        x_m, y_m = float(ego[0] + ego[4]), float(ego[1] + ego[5])
        others = self._reports.at(request.input_utc_ns, x_m, y_m)
        fused = merge({**others, station: own})
        self._reports.put(station, Report(utc_ns=request.input_utc_ns, seen=own))
        advice = self._advise(request, fused, station, ego)
        answer = np.array([wire.to_bytes(advice)], dtype=object)
        self._pace.took((self._clock.mono_ns() - began_ns) / 1_000)
        return _Answer(answer, lambda: occupied(fused, x_m, y_m, CELLS, CELL_M))

    def expected_us(self) -> int:
        """Return how long the next answer will take, us."""
        return self._pace.expected_us()

    def _advise(
        self, request: InferenceRequest, fused: Fused, station: str, ego: np.ndarray
    ) -> Advice:
        """Return the nearest whom the car does not perceive, in its local frame."""
        itself = _itself(fused.tracks, ego)
        hidden = [
            i for i, names in enumerate(fused.stations) if station not in names and not itself[i]
        ]
        tracks = fused.tracks[hidden]
        tracks["x_m"] -= ego[4]
        tracks["y_m"] -= ego[5]
        away_m = np.hypot(tracks["x_m"] - ego[0], tracks["y_m"] - ego[1])
        order = np.argsort(away_m, kind="stable")[:MAX_TRACKS]
        reason = "nobody whom the car does not perceive"
        if len(order):
            first = int(order[0])
            by = _who(fused.stations[hidden[first]], request.tenant)
            kind = KINDS[int(tracks["kind"][first])]
            reason = f"{kind} {away_m[first]:.0f} m away, perceived by {by}"[:300]
        return Advice(
            request_id=request.request_id,
            context=self._site.context,
            site=self._site.name,
            model_set=f"{self.name}@{VERSION}",
            input_utc_ns=request.input_utc_ns,
            valid_until_utc_ns=request.input_utc_ns + int(LIVES_S * 1e9),
            tracks=rows_of(tracks[order]),
            reason=reason,
        )


def _positive(columns: np.ndarray) -> bool:
    """Return whether each row of xx, xy, yy is a covariance that a sensor could have, m2."""
    xx, xy, yy = columns.T
    sane = (xx > 1e-4) & (yy > 1e-4) & (xx * yy - xy**2 > 1e-8) & (xx + yy < 1e4)
    return bool(sane.all())


class _Answer(Mapping[str, np.ndarray]):
    """Advice at once; the ground only for who wants it: it takes longer than the advice."""

    def __init__(self, advice: np.ndarray, ground: Callable[[], np.ndarray]) -> None:
        self._advice, self._ground = advice, ground

    def __getitem__(self, name: str) -> np.ndarray:
        return self._advice if name == ANSWER else self._ground()

    def __iter__(self) -> Iterator[str]:
        return iter((ANSWER, OCCUPIED))

    def __len__(self) -> int:
        return 2


def _station(request: InferenceRequest) -> str:
    return f"{request.tenant}/{request.car_id}"


def _who(stations: Sequence[str], tenant: str) -> str:
    """Return who perceives something, for a person; no fleet learns another's names."""
    each = [name.split("/", 1) for name in stations]
    own = sorted(car for fleet, car in each if fleet == tenant)
    return ", ".join([*own, *(["others"] if len(own) < len(each) else [])])


def _tracks(rows: np.ndarray, origin_m: np.ndarray) -> np.ndarray:
    """Return rows of ADVISED_COLUMNS as TRACK in the site's frame.

    Raises:
        MalformedRequestError: a number is out of range, or there are too many.
    """
    if len(rows) > MOST_OBJECTS:
        raise MalformedRequestError(f"{len(rows)} objects, {MOST_OBJECTS} at most")
    at = {n: i for i, n in enumerate(ADVISED_COLUMNS)}
    kind, score = rows[:, at["kind"]], rows[:, at["score_prob"]]
    sizes = rows[:, [at["length_m"], at["width_m"], at["height_m"]]]
    sane = (
        bool(np.isfinite(rows).all())
        and bool(np.isfinite(origin_m).all())
        and bool((np.abs(rows) < _FAR_M).all())
        and bool(((score >= 0.0) & (score <= 1.0)).all())
        and bool(((kind >= 0) & (kind < len(KINDS)) & (kind == np.floor(kind))).all())
        and bool(((sizes >= 0.0) & (sizes < 50.0)).all())
    )
    if not sane:
        raise MalformedRequestError(
            "an object has a kind, score, size or place that there is none of, or a number that is "
            "not finite"
        )
    tracks = tracks_of(rows.tolist())
    tracks["x_m"] += origin_m[0]
    tracks["y_m"] += origin_m[1]
    return tracks


def _itself(tracks: np.ndarray, ego: np.ndarray) -> np.ndarray:
    """Return which tracks, in the site's frame, are the car that asks."""
    c, s = np.cos(ego[2]), np.sin(ego[2])
    dx, dy = tracks["x_m"] - ego[0] - ego[4], tracks["y_m"] - ego[1] - ego[5]
    along, across = c * dx + s * dy - _AHEAD_M, c * dy - s * dx
    near_by = (np.abs(along) <= _ITSELF_M[0]) & (np.abs(across) <= _ITSELF_M[1])
    return np.asarray(near_by & on_wheels(tracks["kind"]))


def _own(tracks: np.ndarray, ego: np.ndarray) -> Seen:
    """Return what the car that asks perceives, itself included; in the site's frame.

    It says nothing of its errors: 0.3 m and 2 % of the distance along its view, half across it
    (own assumption, about what the shipped network strays).
    """
    x_m, y_m, yaw_rad, speed_mps, east_m, north_m = ego.tolist()
    vx_mps, vy_mps = speed_mps * np.cos(yaw_rad), speed_mps * np.sin(yaw_rad)
    body = (float(KINDS.index("car")), x_m, y_m, yaw_rad, *_BODY, vx_mps, vy_mps, 1.0)
    own = tracks_of([body])
    own["x_m"] += _AHEAD_M * np.cos(yaw_rad)
    own["y_m"] += _AHEAD_M * np.sin(yaw_rad)
    own["x_m"] += east_m
    own["y_m"] += north_m
    both = np.concatenate([own, tracks])
    dx, dy = both["x_m"] - own["x_m"][0], both["y_m"] - own["y_m"][0]
    away_m, view_rad = np.hypot(dx, dy), np.arctan2(dy, dx)
    along, across = (0.3 + 0.02 * away_m) ** 2, (0.3 + 0.01 * away_m) ** 2
    c, s = np.cos(view_rad), np.sin(view_rad)
    cov_m2 = np.empty((len(both), 2, 2))
    cov_m2[:, 0, 0] = along * c**2 + across * s**2
    cov_m2[:, 1, 1] = along * s**2 + across * c**2
    cov_m2[:, 0, 1] = cov_m2[:, 1, 0] = (along - across) * c * s
    sigma = np.full(len(both), _SPEED_SIGMA_MPS)
    sigma[0] = 0.1
    return Seen(tracks=both, cov_m2=cov_m2, speed_sigma_mps=sigma)
