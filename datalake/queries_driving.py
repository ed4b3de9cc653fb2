"""Named questions about the drive: the ego and the road users around it."""

from typing import Final

from datalake.queries import Number, Query

_VRU: Final = "k.kind IN ('pedestrian', 'cyclist')"
_VEHICLE: Final = "k.kind IN ('car', 'truck', 'bus', 'motorcycle', 'emergency')"

_BESIDE: Final = "abs(k.y_m - coalesce(t.curvature_1pm, 0) * k.x_m * k.x_m / 2) - k.width_m / 2"
"""How far the near side of a track is from the ego's path, m; under 1.25 it is in the way."""

_GAP: Final = "greatest(k.x_m - k.length_m / 2 - 3.7, 0)"
"""From the ego's front bumper (3.7 m before the rear axle) to a track ahead, m."""

_PER_CLIP: Final = "PARTITION BY clip_id ORDER BY mono_ns"

QUERIES: Final = (
    Query(
        name="hard_brakes",
        about="Frames where the car braked hard.",
        why="Somebody, or the car itself, was surprised.",
        needs=("ticks",),
        text="SELECT clip_id, frame_id, accel_mps2 FROM ticks WHERE accel_mps2 <= -{brake_mps2} "
        "ORDER BY accel_mps2, clip_id, frame_id",
        when="accel_mps2 <= -{brake_mps2}",
        numbers={"brake_mps2": Number(3.5, "deceleration, at least")},
    ),
    Query(
        name="harsh_steers",
        about="Frames with a lateral acceleration that passengers complain about.",
        why="An evasive manoeuvre, or a bend taken too fast.",
        needs=("ticks",),
        text="SELECT clip_id, frame_id, lateral_accel_mps2 FROM ticks "
        "WHERE abs(lateral_accel_mps2) >= {lateral_mps2} "
        "ORDER BY abs(lateral_accel_mps2) DESC, clip_id, frame_id",
        when="abs(lateral_accel_mps2) >= {lateral_mps2}",
        numbers={"lateral_mps2": Number(3.0, "to either side, at least")},
    ),
    Query(
        name="low_ttc",
        about="Frames where a track in the car's way was seconds away.",
        why="The situations that decide whether the car is safe.",
        needs=("ticks",),
        text="SELECT clip_id, frame_id, ttc_s FROM ticks WHERE ttc_s <= {ttc_s} "
        "ORDER BY ttc_s, clip_id, frame_id",
        when="ttc_s <= {ttc_s}",
        numbers={"ttc_s": Number(1.5, "time to collision, at most")},
    ),
    Query(
        name="near_misses",
        about="Frames with less room than the RSS distance to somebody in the way.",
        why="Had the other braked with all it has, the car could not have stopped in time.",
        needs=("ticks",),
        text="SELECT clip_id, frame_id, rss_margin_m FROM ticks WHERE rss_margin_m < {margin_m} "
        "ORDER BY rss_margin_m, clip_id, frame_id",
        when="rss_margin_m < {margin_m}",
        numbers={"margin_m": Number(0.0, "gap beyond the RSS distance, less than")},
    ),
    Query(
        name="cut_ins",
        about="Frames with a vehicle that came into the lane within the last seconds and is less "
        "than a second ahead, by headway or by time to collision.",
        why="The other driver decides, the car has to answer: the classic of highway validation.",
        needs=("ticks", "tracks"),
        text=f"""WITH beside AS (
  SELECT t.clip_id, t.frame_id, t.mono_ns, t.speed_mps, k.track_id, k.vx_mps, {_GAP} AS gap_m,
    {_BESIDE} AS beside_m
  FROM ticks t JOIN tracks k USING (clip_id, frame_id)
  WHERE k.track_id > 0 AND k.x_m > 3.7 AND {_VEHICLE}
), came AS (
  SELECT *, max(beside_m) OVER (PARTITION BY clip_id, track_id ORDER BY mono_ns
    RANGE BETWEEN CAST({{within_s}} * 1e9 AS BIGINT) PRECEDING AND CURRENT ROW) AS widest_m
  FROM beside
)
SELECT clip_id, frame_id, least(min(gap_m / speed_mps),
    min(gap_m / (speed_mps - vx_mps)) FILTER (WHERE speed_mps - vx_mps > 0.1)) AS seconds,
  arg_min(track_id, gap_m) AS track_id
FROM came
WHERE beside_m < {{lane_m}} AND widest_m >= {{lane_m}} AND speed_mps >= 3 AND vx_mps > 1
GROUP BY clip_id, frame_id HAVING seconds < {{seconds}}
ORDER BY seconds, clip_id, frame_id""",
        numbers={
            "seconds": Number(1.0, "headway or time to collision, less than"),
            "within_s": Number(2.0, "since it was beside the lane, at most"),
            "lane_m": Number(0.9, "its near side to the ego's path: closer is in the lane"),
        },
    ),
    Query(
        name="unprotected_turns",
        about="Frames of a left or right turn with somebody on foot or on a bicycle ahead who "
        "crosses or is about to.",
        why="Where most pedestrians are hit in towns. The lake knows no traffic lights: turns on a "
        "green arrow are among them.",
        needs=("ticks", "tracks"),
        text=f"""WITH steps AS (
  SELECT clip_id, frame_id, mono_ns, yaw_rad - lag(yaw_rad) OVER ({_PER_CLIP}) AS step_rad
  FROM ticks
), turns AS (
  SELECT clip_id, frame_id, sum(atan2(sin(step_rad), cos(step_rad))) OVER ({_PER_CLIP}
    RANGE BETWEEN CAST({{within_s}} * 5e8 AS BIGINT) PRECEDING
      AND CAST({{within_s}} * 5e8 AS BIGINT) FOLLOWING) AS turn_rad
  FROM steps
)
SELECT clip_id, frame_id, min(k.range_m) AS range_m, any_value(turn_rad) AS turn_rad,
  if(any_value(turn_rad) > 0, 'left', 'right') AS side
FROM turns JOIN tracks k USING (clip_id, frame_id)
WHERE abs(turn_rad) >= {{turn_rad}} AND {_VRU} AND k.x_m > 0 AND k.range_m <= {{range_m}}
  AND sqrt(k.vx_mps ** 2 + k.vy_mps ** 2) >= {{walk_mps}}
  AND (k.y_m * k.vy_mps < 0 OR abs(k.y_m) < 2)
GROUP BY clip_id, frame_id
ORDER BY range_m, clip_id, frame_id""",
        numbers={
            "turn_rad": Number(0.8, "heading gained over the turn, at least"),
            "within_s": Number(6.0, "length of the turn, this frame in its middle"),
            "range_m": Number(20.0, "who crosses, at most this far"),
            "walk_mps": Number(0.5, "who crosses, at least this fast"),
        },
    ),
    Query(
        name="night_rain_vru",
        about="Frames of clips by night and in rain with a pedestrian or cyclist close by.",
        why="Three weaknesses of cameras at once; the corner of the ODD that reports ask about.",
        needs=("clips", "tracks"),
        text=f"""SELECT k.clip_id, k.frame_id, min(k.range_m) AS range_m,
  arg_min(k.kind, k.range_m) AS kind
FROM tracks k JOIN clips c USING (clip_id)
WHERE (c.light = 'night' OR (c.light IS NULL AND c.luma < {{luma}}))
  AND c.weather LIKE '%rain%' AND {_VRU} AND k.range_m <= {{range_m}}
GROUP BY k.clip_id, k.frame_id ORDER BY range_m, k.clip_id, k.frame_id""",
        numbers={
            "range_m": Number(20.0, "distance, at most"),
            "luma": Number(70.0, "of clips whose light nobody told: darker is night"),
        },
    ),
    Query(
        name="late_vrus",
        about="Frames on which a pedestrian or cyclist is first seen, and is close already.",
        why="They stepped out from behind something, or the network was blind to them until then.",
        needs=("tracks",),
        text=f"""SELECT k.clip_id, k.frame_id, min(k.range_m) AS range_m
FROM tracks k
WHERE {_VRU} AND k.age_ticks <= {{ticks}} AND k.range_m < {{range_m}} AND k.x_m > 0
GROUP BY k.clip_id, k.frame_id ORDER BY range_m, k.clip_id, k.frame_id""",
        when="tracks((kind == 'pedestrian' or kind == 'cyclist') and age_ticks <= {ticks} "
        "and range_m < {range_m} and x_m > 0) >= 1",
        numbers={
            "range_m": Number(15.0, "distance when first seen, less than"),
            "ticks": Number(3, "age of the track, at most"),
        },
    ),
    Query(
        name="tailgating",
        about="Frames on which the car has been following at less than a second for seconds.",
        why="Comfort and law; and every hard brake of the one ahead becomes a near miss.",
        needs=("ticks", "tracks"),
        when="held(speed_mps >= {speed_mps} and nearest(x_m > 0 and abs(y_m) < 1.5 and "
        "vx_mps > 1) - 6 < {headway_s} * speed_mps, {held_s})",
        numbers={
            "headway_s": Number(1.0, "gap over own speed, less than (6 m from axle to bumper)"),
            "held_s": Number(3.0, "held for"),
            "speed_mps": Number(5.0, "own speed, at least"),
        },
    ),
    Query(
        name="stop_and_go",
        about="Frames on which the car has stopped again and again within half a minute.",
        why="Traffic jams: low speed, short gaps, cut-ins; and what brakes wear out by.",
        needs=("ticks",),
        when="times(rises(speed_mps < {stop_mps}), {within_s}) >= {stops}",
        numbers={
            "stops": Number(2, "stops, at least"),
            "within_s": Number(30.0, "counted over the last"),
            "stop_mps": Number(0.5, "standing is slower than"),
        },
    ),
    Query(
        name="lane_changes",
        about="Frames that end a move to the side by about a lane with the old heading again.",
        why="The manoeuvre with most judgement in it. The lake knows no lanes: passing round a "
        "parked car is among them.",
        needs=("ticks",),
        text=f"""WITH before AS (
  SELECT clip_id, frame_id, mono_ns, x_m, y_m, yaw_rad, first_value(x_m) OVER w AS x0_m,
    first_value(y_m) OVER w AS y0_m, first_value(yaw_rad) OVER w AS yaw0_rad
  FROM ticks
  WINDOW w AS ({_PER_CLIP}
    RANGE BETWEEN CAST({{within_s}} * 1e9 AS BIGINT) PRECEDING AND CURRENT ROW)
), moved AS (
  SELECT *, (y_m - y0_m) * cos(yaw0_rad) - (x_m - x0_m) * sin(yaw0_rad) AS left_m,
    (x_m - x0_m) * cos(yaw0_rad) + (y_m - y0_m) * sin(yaw0_rad) AS forward_m,
    abs(atan2(sin(yaw_rad - yaw0_rad), cos(yaw_rad - yaw0_rad))) AS turned_rad
  FROM before
), ends AS (
  SELECT *, coalesce(abs(left_m) BETWEEN {{least_m}} AND {{most_m}}
    AND turned_rad <= {{turned_rad}} AND forward_m >= 4 * abs(left_m), false) AS ends
  FROM moved
), first AS (
  SELECT *, lag(ends, 1, false) OVER ({_PER_CLIP}) AS ended FROM ends
)
SELECT clip_id, frame_id, left_m FROM first WHERE ends AND NOT ended
ORDER BY abs(left_m) DESC, clip_id, frame_id""",
        numbers={
            "within_s": Number(5.0, "length of the manoeuvre, at most"),
            "least_m": Number(2.5, "to the side, at least"),
            "most_m": Number(4.5, "to the side, at most"),
            "turned_rad": Number(0.05, "heading against the old one, at most"),
        },
    ),
    Query(
        name="stationary_in_way",
        about="Frames with a vehicle that stands in the ego's way, seconds ahead.",
        why="Ends of jams, breakdowns, double parkers: radar-era systems filtered them out.",
        needs=("ticks", "tracks"),
        text=f"""SELECT t.clip_id, t.frame_id, min({_GAP} / t.speed_mps) AS seconds,
  arg_min(k.track_id, k.x_m) AS track_id
FROM ticks t JOIN tracks k USING (clip_id, frame_id)
WHERE t.speed_mps >= {{speed_mps}} AND {_VEHICLE} AND sqrt(k.vx_mps ** 2 + k.vy_mps ** 2) < 0.5
  AND k.x_m > 3.7 AND {_BESIDE} < 1.25 AND {_GAP} / t.speed_mps <= {{seconds}}
GROUP BY t.clip_id, t.frame_id ORDER BY seconds, t.clip_id, t.frame_id""",
        numbers={
            "seconds": Number(3.0, "gap over own speed, at most"),
            "speed_mps": Number(5.0, "own speed, at least"),
        },
    ),
    Query(
        name="oncoming_in_way",
        about="Frames with a vehicle that comes towards the car in its own way.",
        why="Overtakers, wrong-way drivers, narrow streets; the highest closing speeds there are.",
        needs=("ticks", "tracks"),
        text=f"""SELECT t.clip_id, t.frame_id,
  min({_GAP} / (t.speed_mps - k.vx_mps)) AS seconds, arg_min(k.track_id, k.x_m) AS track_id
FROM ticks t JOIN tracks k USING (clip_id, frame_id)
WHERE {_VEHICLE} AND k.vx_mps <= -{{oncoming_mps}} AND k.x_m > 3.7 AND {_BESIDE} < 0.5
  AND {_GAP} / (t.speed_mps - k.vx_mps) <= {{seconds}}
GROUP BY t.clip_id, t.frame_id ORDER BY seconds, t.clip_id, t.frame_id""",
        numbers={
            "seconds": Number(3.0, "until they meet, at most"),
            "oncoming_mps": Number(2.0, "its speed against the ego's, at least"),
        },
    ),
    Query(
        name="brake_after_close",
        about="Frames of a hard brake soon after somebody came close.",
        why="A temporal pattern: the surprise and the answer to it, not each alone.",
        needs=("ticks", "tracks"),
        when="rises(tracks(range_m < {range_m}) >= 1) then accel_mps2 <= -{brake_mps2} "
        "within {within_s} s",
        numbers={
            "range_m": Number(15.0, "close is nearer than"),
            "brake_mps2": Number(3.0, "deceleration, at least"),
            "within_s": Number(2.0, "the brake follows within"),
        },
    ),
    Query(
        name="lost_close",
        about="Frames with a road user close ahead that was seen before and is not seen now.",
        why="Occlusion, or a network that lets go of somebody: both want labels.",
        needs=("tracks",),
        text="""SELECT clip_id, frame_id, min(range_m) AS range_m,
  max(coasted_ticks) AS coasted_ticks FROM tracks
WHERE coasted_ticks >= {ticks} AND range_m < {range_m} AND x_m > 0
GROUP BY clip_id, frame_id ORDER BY range_m, clip_id, frame_id""",
        when="tracks(coasted_ticks >= {ticks} and range_m < {range_m} and x_m > 0) >= 1",
        numbers={
            "range_m": Number(20.0, "distance, less than"),
            "ticks": Number(3, "not seen for, at least"),
        },
    ),
    Query(
        name="crowded",
        about="Frames with many road users.",
        why="Where trackers swap identities and planners run out of time.",
        needs=("ticks",),
        text="SELECT clip_id, frame_id, n_tracks FROM ticks WHERE n_tracks >= {tracks} "
        "ORDER BY n_tracks DESC, clip_id, frame_id",
        when="n_tracks >= {tracks}",
        numbers={"tracks": Number(20, "road users, at least")},
    ),
    Query(
        name="rare_kinds",
        about="Frames with a kind of road user that is a small share of all that were tracked.",
        why="The long tail: what the training set has too little of.",
        needs=("tracks",),
        text="""WITH seen AS (
  SELECT kind, count(DISTINCT (clip_id, track_id)) AS n FROM tracks WHERE track_id > 0
  GROUP BY kind
), share AS (
  SELECT kind, n / sum(n) OVER () AS share_ratio FROM seen
)
SELECT k.clip_id, k.frame_id, min(s.share_ratio) AS share_ratio,
  arg_min(k.kind, s.share_ratio) AS kind
FROM tracks k JOIN share s USING (kind)
WHERE s.share_ratio <= {share_ratio} AND k.track_id > 0 AND k.score_prob >= {score_prob}
GROUP BY k.clip_id, k.frame_id ORDER BY share_ratio, k.clip_id, k.frame_id""",
        numbers={
            "share_ratio": Number(0.05, "of all tracks, at most"),
            "score_prob": Number(0.3, "believed in, at least"),
        },
    ),
)
"""Every question of this file."""
