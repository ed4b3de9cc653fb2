"""The event of an episode: the stage is cleared, the cast put in, and played with the ego."""

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Final

import numpy as np

from sim.story.behaviours import EgoView, Player, step
from sim.story.casting import Cast, Spot, find_spot, has_lane_beside
from sim.story.plays import PLAYS
from sim.story.scenarios import Family
from sim.town.lights import Signals
from sim.town.world import Town
from sim.users.actors import PEDESTRIAN, TRAFFIC, Actors, Density
from sim.users.dynamics import Motion
from sim.users.navigation import Route
from vehicle.contracts.wire import RefusedError

if TYPE_CHECKING:
    from sim.run.episode import Episode

TRIES: Final = 400
"""Starts that are looked at before a town is called unfit for a family."""
_CLEAR_M: Final = 2.6
_LEAST_AHEAD_M: Final = 60
_VEHICLE_M: Final = 1.75
_OUT_OF_SIGHT_M: Final = 55.0
_WHEN_JOINING_S: Final = 1.0


class NoPlaceError(RefusedError, ValueError):
    """A town has no place where the event of a family can happen."""


def density_of(family: Family) -> Density:
    """Return how full a family's town is."""
    values = {f.name: getattr(family, f.name) for f in fields(Density)}
    return Density(**{**values, "lane_changes": family.lane_changes > 0.5})


def find_start(
    family: Family, town: Town, rng: np.random.Generator
) -> tuple[Motion, Route, Spot | None]:
    """Return where the ego begins: on a road lane from which the family's event can be met.

    Raises:
        NoPlaceError: the town has no such place.
    """
    lanes = town.lanes
    for _ in range(TRIES):
        lane = int(rng.choice(lanes.road_lanes()))
        s = float(rng.uniform(2.0, max(lanes.length_m[lane] - 25.0, 3.0)))
        x, y, yaw = lanes.pose(lane, s)
        motion = Motion(x_m=x, y_m=y, yaw_rad=yaw, speed_mps=4.0)
        route = Route(town, lane, rng)
        route.index = int(s)
        route.follow(motion)
        if len(route.path) - route.index < _LEAST_AHEAD_M:  # the edge of an imported map
            continue
        if not family.event:
            if not family.wide or has_lane_beside(lanes, lane):
                return motion, route, None
            continue
        spot = find_spot(town, route, PLAYS[family.event].need, wide=family.wide)
        if spot is not None:
            return motion, route, spot
    raise NoPlaceError(
        f"town {town.number} has no place for {family.event or 'a road with two lanes'!r}:"
        " take another town"
    )


class Script:
    """The event of a family on one route.

    Args:
        actors: of the episode; whoever is in the way is removed, the cast added.
        spot: from `find_start`.
        rng: of the colours.
    """

    def __init__(
        self, family: Family, actors: Actors, route: Route, spot: Spot, rng: np.random.Generator
    ) -> None:
        first = int(actors.table["actor_id"].max(initial=0)) + 1
        cast = Cast(actors.town, route, spot, family, rng, first)
        PLAYS[family.event].cast(cast)
        self.spot, self.star_id = spot, cast.star_id
        self.players: list[Player] = cast.players
        self.cast_ids = [int(row["actor_id"]) for row in cast.rows]
        _clear(actors, route, cast)
        actors.add(cast.table())

    @property
    def acting(self) -> bool:
        """Return whether what the family is about has begun."""
        mine = [p for p in self.players if p.actor_id == self.star_id]
        return mine[0].acting if mine else True

    def let_ego_go(self, signals: Signals, route: Route, speed_mps: float) -> None:
        """Time the lights so that the ego has green when it comes to the event's junction."""
        way = int(route.town.lanes.approach[route.owner[self.spot.index - 2]])
        plan = signals.plan
        for row in np.flatnonzero(plan.way == way):
            arrival = (self.spot.index - route.index) / speed_mps
            at = plan.junction == plan.junction[row]
            plan.shift_s[at] = np.mod(
                plan.green_from_s[row] - max(arrival - 4.0, 0.0), plan.cycle_s[row]
            )

    def step(self, actors: Actors, index: int, body: np.ndarray, dt_s: float) -> None:
        """Move the cast on by `dt_s`; players whose script is over join, stay or leave."""
        ego = EgoView(index=index, body=body)
        left = []
        for player in self.players:
            found = np.flatnonzero(actors.table["actor_id"] == player.actor_id)
            if not len(found):
                continue
            row = int(found[0])  # looked up anew: a player that left has moved the rows
            step(player, actors.table, row, ego, dt_s)
            if not _over(player, body) or not _leave(player, actors, row):
                left.append(player)
        self.players = left


def _over(player: Player, body: np.ndarray) -> bool:
    """Return whether a player has nothing left to do here."""
    if player.exit == "joins":
        last = player.phase == len(player.phases) - 1
        return last and player.since_s > _WHEN_JOINING_S and player.speed_mps > 1.0
    if player.exit == "leaves":
        x, y, _ = player.place(player.at_m, player.left_m)
        away = math.hypot(x - body[0], y - body[1])
        end = float(player.arc_m[-1]) - 6.0 if player.way > 0 else 6.0
        beyond = player.way * (player.at_m - end) > 0.0
        behind = math.cos(body[2]) * (x - body[0]) + math.sin(body[2]) * (y - body[1]) < -25.0
        return player.acting and (beyond or behind) and (away > _OUT_OF_SIGHT_M or behind)
    return False


def _leave(player: Player, actors: Actors, row: int) -> bool:
    """Hand a player over to the traffic, or take it away; return False where it must go on."""
    if player.exit == "joins":
        x, y, _ = player.place(player.at_m, 0.0)
        return actors.join_traffic(row, x, y, player.left_m)
    actors.remove([player.actor_id])
    return True


def _clear(actors: Actors, route: Route, cast: Cast) -> None:
    """Remove whoever stands where the event needs room: on the route up to it, beside the cast."""
    t = actors.table
    first, last = max(route.index - 30, 0), cast.spot.index + 60
    gone = _near_path(t, route.path[first:last], _CLEAR_M)
    loud = t["moving"] == TRAFFIC
    for player in cast.players:
        gone |= _near_path(t, player.path, _CLEAR_M) & loud
        row = next(r for r in cast.rows if r["actor_id"] == player.actor_id)
        if row["length_m"] > _VEHICLE_M:
            lane = np.array([player.place(s, player.left_m) for s in np.arange(0.0, 90.0, 2.0)])
            gone |= _near_path(t, lane, 1.8)
    for row in cast.rows:
        reach = float(row["length_m"]) / 2 + 1.0
        along = np.cos(row["yaw_rad"]) * (t["x_m"] - row["x_m"])
        along += np.sin(row["yaw_rad"]) * (t["y_m"] - row["y_m"])
        across = -np.sin(row["yaw_rad"]) * (t["x_m"] - row["x_m"])
        across += np.cos(row["yaw_rad"]) * (t["y_m"] - row["y_m"])
        gone |= (np.abs(along) < reach + t["length_m"] / 2) & (
            np.abs(across) < row["width_m"] / 2 + t["width_m"] / 2 + 0.2
        )
    actors.remove([int(a) for a in t["actor_id"][gone]])


def _near_path(table: np.ndarray, path: np.ndarray, reach_m: float) -> np.ndarray:
    d = np.hypot(table["x_m"][:, None] - path[None, :, 0], table["y_m"][:, None] - path[None, :, 1])
    return d.min(axis=1, initial=1e9) < reach_m


def surprise(episode: "Episode", family: Family, dt_s: float, dice: np.random.Generator) -> None:
    """Let the everyday events happen: a hard stop ahead, somebody stepping out."""
    brake, jaywalk = dice.random(2)
    actors, motion = episode.actors, episode.motion
    if brake < family.sudden_brake_hz * dt_s:
        x, y = in_ego_frame(episode)
        t = actors.table
        ahead = (t["moving"] == TRAFFIC) & (x > 6.0) & (x < 32.0) & (np.abs(y) < 2.0)
        ahead &= (t["speed_mps"] > 2.0) & (np.cos(t["yaw_rad"] - motion.yaw_rad) > 0.8)
        nearest = _nearest(ahead, x, t)
        if nearest is not None:
            actors.brake_suddenly(nearest, 3.0)
    if jaywalk < family.jaywalk_hz * dt_s:
        x, y = in_ego_frame(episode)
        t = actors.table
        near = (t["kind"] == PEDESTRIAN) & (x > 9.0) & (x < 30.0) & (np.abs(y) < 12.0)
        near &= np.abs(t["goal_m"] - t["side_m"]) < 0.05
        nearest = _nearest(near & (t["road"] >= 0), x, t)
        if nearest is not None:
            actors.step_out(nearest, 2.2)


def _nearest(mask: np.ndarray, x: np.ndarray, table: np.ndarray) -> int | None:
    rows = np.flatnonzero(mask)
    return int(table["actor_id"][rows[int(np.argmin(x[rows]))]]) if len(rows) else None


def in_ego_frame(episode: "Episode") -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of all actors as the ego sees them."""
    t, m = episode.actors.table, episode.motion
    c, s = math.cos(m.yaw_rad), math.sin(m.yaw_rad)
    dx, dy = t["x_m"] - m.x_m, t["y_m"] - m.y_m
    return c * dx + s * dy, -s * dx + c * dy
