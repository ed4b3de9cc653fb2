"""Named questions of facts: counts and comparisons over cars, campaigns, places, days, models."""

from typing import Final

from datalake.queries import DRAWN, Number, Query

_CELL: Final = (
    "((h3_cell & ~(15::BIGINT << 52)) | ({resolution}::BIGINT << 52)\n"
    "    | ((1::BIGINT << (3 * (15 - {resolution}))) - 1))"
)
"""The H3 cell of a coarser resolution that holds h3_cell: its digits below become 7."""

_RESOLUTION: Final = Number(9, "of the H3 cells, 0..9: 9 is about 0.1 km2, 7 about 5 km2")

QUERIES: Final = (
    Query(
        name="disagreement_hot_spots",
        about="Places by how often the candidate network disagrees there.",
        why="A junction, a tunnel, a new road marking: places, not moments, that need data.",
        needs=("ticks",),
        text=f"""SELECT {_CELL} AS cell, avg(latitude_deg) AS latitude_deg,
  avg(longitude_deg) AS longitude_deg, count(*) AS ticks, count(DISTINCT car_id) AS cars,
  avg(CAST(shadow_disagreement >= {{disagreement}} AS BIGINT)) AS share_ratio,
  max(shadow_disagreement) AS worst
FROM ticks WHERE shadow_disagreement IS NOT NULL AND h3_cell IS NOT NULL
GROUP BY cell HAVING count(*) >= {{ticks}} AND worst >= {{disagreement}}
ORDER BY share_ratio DESC, ticks DESC, cell""",
        numbers={
            "disagreement": Number(0.5, "0..1, at least"),
            "ticks": Number(20, "in the cell, at least"),
            "resolution": _RESOLUTION,
        },
        yields="facts",
    ),
    Query(
        name="hard_brake_clusters",
        about="Places where cars braked hard more than once.",
        why="One brake is a surprise, ten in a place are a place: a hidden entry, a short light.",
        needs=("ticks",),
        text=f"""WITH begun AS (
  SELECT *, accel_mps2 <= -{{brake_mps2}} AND NOT coalesce(lag(accel_mps2)
    OVER (PARTITION BY clip_id ORDER BY mono_ns) <= -{{brake_mps2}}, false) AS brake
  FROM ticks
)
SELECT {_CELL} AS cell, avg(latitude_deg) AS latitude_deg, avg(longitude_deg) AS longitude_deg,
  count(*) AS brakes, count(DISTINCT (car_id, route_id)) AS drives,
  count(DISTINCT car_id) AS cars, min(accel_mps2) AS hardest_mps2
FROM begun WHERE brake AND h3_cell IS NOT NULL
GROUP BY cell HAVING count(*) >= {{brakes}} ORDER BY brakes DESC, hardest_mps2, cell""",
        numbers={
            "brake_mps2": Number(3.5, "deceleration, at least"),
            "brakes": Number(2, "in the cell, at least"),
            "resolution": _RESOLUTION,
        },
        yields="facts",
    ),
    Query(
        name="campaign_costs",
        about="What each campaign brought and cost: cars, clips, bytes, seconds, labels.",
        why="Which campaign to end. A clip of two campaigns counts in both.",
        needs=("clips", "events", "labelled"),
        text="""WITH sent AS (
  SELECT campaign_id, clip_id, count(*) AS events FROM events GROUP BY ALL
), bought AS (
  SELECT clip_id, count(*) AS frames FROM labelled
  WHERE NOT starts_with(coalesce(source, ''), 'teacher:') GROUP BY clip_id
)
SELECT s.campaign_id, count(DISTINCT c.car_id) AS cars, count(*) AS clips,
  sum(s.events)::BIGINT AS events, sum(c.size_bytes)::BIGINT AS bytes,
  sum(c.duration_s) AS seconds, sum(c.size_bytes) / sum(s.events) AS bytes_per_event,
  coalesce(sum(b.frames), 0)::BIGINT AS labelled_frames
FROM sent s JOIN clips c USING (clip_id) LEFT JOIN bought b USING (clip_id)
GROUP BY s.campaign_id ORDER BY bytes DESC, s.campaign_id""",
        yields="facts",
    ),
    Query(
        name="trigger_yield",
        about="How often each trigger fired, how far beyond its threshold, and what was labelled.",
        why="A trigger that fires often and whose frames nobody labels has the wrong threshold.",
        needs=("events", "labelled"),
        text="""SELECT e.campaign_id, e."trigger", count(*) AS events,
  count(DISTINCT e.clip_id) AS clips, count(DISTINCT e.car_id) AS cars,
  median(e.value) AS median_value, any_value(e.threshold) AS threshold,
  count(l.frame_id) AS labelled
FROM events e LEFT JOIN (SELECT DISTINCT clip_id, frame_id FROM labelled) l
  ON l.clip_id = e.clip_id AND l.frame_id = e.frame_id
GROUP BY e.campaign_id, e."trigger" ORDER BY events DESC, e.campaign_id, e."trigger\"""",
        yields="facts",
    ),
    Query(
        name="random_against_triggered",
        about="What the triggers bring against the control group of random clips.",
        why="Without it nobody knows whether a trigger chooses anything that chance would not. A "
        "drive that was taken in whole counts as chance.",
        needs=("clips", "events", "ticks", "tracks"),
        text=f"""WITH {DRAWN}, groups AS (
  SELECT c.clip_id, if(coalesce(bool_and(e.drawn), true)
    OR bool_or(json_extract_string(c.tags, '$.taken') = 'whole') IS true,
    'random', 'triggered') AS chosen
  FROM clips c LEFT JOIN drawn e USING (clip_id) GROUP BY c.clip_id
), seen AS (
  SELECT clip_id, frame_id, count(*) FILTER (WHERE kind IN ('pedestrian', 'cyclist')) AS vrus
  FROM tracks GROUP BY clip_id, frame_id
)
SELECT g.chosen, count(DISTINCT g.clip_id) AS clips, count(*) AS ticks,
  avg(CAST(t.uncertainty_ratio >= {{uncertainty_ratio}} AS BIGINT)) AS uncertain_ratio,
  avg(CAST(t.accel_mps2 <= -{{brake_mps2}} AS BIGINT)) AS braking_ratio,
  avg(CAST(t.ttc_s <= {{ttc_s}} AS BIGINT)) AS close_ratio,
  avg(coalesce(s.vrus, 0)) AS vrus_per_tick
FROM groups g JOIN ticks t USING (clip_id)
LEFT JOIN seen s ON s.clip_id = t.clip_id AND s.frame_id = t.frame_id
GROUP BY g.chosen ORDER BY g.chosen DESC""",
        numbers={
            "uncertainty_ratio": Number(0.5, "counts as uncertain, at least"),
            "brake_mps2": Number(3.5, "counts as braking, at least"),
            "ttc_s": Number(1.5, "counts as close, at most"),
        },
        yields="facts",
    ),
    Query(
        name="coverage",
        about="Minutes, clips and labels by light, weather and town.",
        why="The ODD as it is covered, and the empty corners of it.",
        needs=("clips", "labelled"),
        text="""WITH bought AS (SELECT clip_id, count(*) AS frames FROM labelled
  WHERE NOT starts_with(coalesce(source, ''), 'teacher:') GROUP BY clip_id)
SELECT coalesce(c.light, '?') AS light, coalesce(c.weather, '?') AS weather,
  coalesce(json_extract_string(c.tags, '$.town'), c.jurisdiction, '?') AS town,
  count(*) AS clips, count(DISTINCT c.car_id) AS cars, sum(c.duration_s) / 60 AS minutes,
  coalesce(sum(b.frames), 0)::BIGINT AS labelled_frames
FROM clips c LEFT JOIN bought b USING (clip_id)
GROUP BY ALL ORDER BY minutes, light, weather, town""",
        yields="facts",
    ),
    Query(
        name="uncertainty_by_day",
        about="The network's uncertainty day by day.",
        why="Drift: a camera ages, a season turns, a town is rebuilt, and nothing else says so.",
        needs=("clips", "ticks"),
        text="""SELECT CAST(make_timestamp(c.created_utc_ns // 1000) AS DATE) AS day, c.model,
  count(*) AS ticks, count(DISTINCT c.car_id) AS cars,
  median(t.uncertainty_ratio) AS median_ratio,
  quantile_cont(t.uncertainty_ratio, 0.95) AS p95_ratio,
  avg(CAST(t.uncertainty_ratio >= {uncertainty_ratio} AS BIGINT)) AS uncertain_ratio
FROM ticks t JOIN clips c USING (clip_id) WHERE t.fresh = 1 AND t.uncertainty_ratio IS NOT NULL
GROUP BY day, c.model ORDER BY day, c.model""",
        numbers={"uncertainty_ratio": Number(0.5, "counts as uncertain, at least")},
        yields="facts",
    ),
    Query(
        name="models_compared",
        about="The bundles that drove, side by side: time, uncertainty, closeness, ladder.",
        why="base@2 against base@3 on the road, not on the test set. The drives differ: compare "
        "like with like by `sql` before you believe a small difference.",
        needs=("clips", "ticks"),
        text="""SELECT c.model, count(DISTINCT c.clip_id) AS clips,
  count(DISTINCT c.car_id) AS cars, count(*) AS ticks, median(t.total_us) AS p50_us,
  quantile_cont(t.total_us, 0.99) AS p99_us,
  avg(t.missed) AS missed_ratio, avg(CAST(t.rung != 'full' AS BIGINT)) AS degraded_ratio,
  avg(t.uncertainty_ratio) FILTER (WHERE t.fresh = 1) AS uncertainty_ratio,
  avg(CAST(t.ttc_s <= {ttc_s} AS BIGINT)) AS close_ratio,
  avg(CAST(t.rss_margin_m < 0 AS BIGINT)) AS inside_rss_ratio,
  avg(t.flicker_ratio) AS flicker_ratio, sum(t.takeover)::BIGINT AS takeovers
FROM ticks t JOIN clips c USING (clip_id) GROUP BY c.model ORDER BY c.model""",
        numbers={"ttc_s": Number(1.5, "counts as close, at most")},
        yields="facts",
    ),
    Query(
        name="stage_times",
        about="Where a tick's time goes, stage by stage and model by model.",
        why="What to make faster, and which model is to blame.",
        needs=("clips", "ticks"),
        text="""WITH times AS (
  UNPIVOT (
    SELECT c.model, t.preprocess_us, t.inference_us, t.track_us, t.plan_us, t.control_us,
      t.trigger_us, t.publish_us, t.total_us
    FROM ticks t JOIN clips c USING (clip_id)
  ) ON preprocess_us, inference_us, track_us, plan_us, control_us, trigger_us, publish_us, total_us
  INTO NAME stage VALUE us
)
SELECT model, replace(stage, '_us', '') AS stage, count(*) AS ticks, median(us) AS p50_us,
  quantile_cont(us, 0.99) AS p99_us, max(us) AS max_us
FROM times GROUP BY ALL ORDER BY model, p50_us DESC, stage""",
        yields="facts",
    ),
    Query(
        name="cars",
        about="Each car: its drives, clips, hours, kilometres, bytes and last clip.",
        why="Who has fallen silent, and who sends too much.",
        needs=("clips", "ticks"),
        text="""WITH driven AS (
  SELECT clip_id, avg(speed_mps) AS mean_mps FROM ticks GROUP BY clip_id
)
SELECT c.car_id, count(DISTINCT c.route_id) AS drives, count(*) AS clips,
  sum(c.duration_s) / 3600 AS hours, sum(c.duration_s * d.mean_mps) / 1000 AS km,
  sum(c.size_bytes)::BIGINT AS bytes, arg_max(c.model, c.created_utc_ns) AS model,
  make_timestamp(max(c.created_utc_ns) // 1000) AS last_clip_utc
FROM clips c LEFT JOIN driven d USING (clip_id)
GROUP BY c.car_id ORDER BY last_clip_utc, c.car_id""",
        yields="facts",
    ),
    Query(
        name="kinds_seen",
        about="Kinds of road user: how many were tracked, and how many boxes were bought.",
        why="The long tail in one table; rare_kinds finds the frames.",
        needs=("labels", "tracks"),
        text="""WITH tracked AS (
  SELECT kind, count(DISTINCT (clip_id, track_id)) AS tracks,
    count(DISTINCT clip_id) AS clips, min(range_m) AS nearest_m
  FROM tracks WHERE track_id > 0 GROUP BY kind
), bought AS (
  SELECT kind, count(*) AS boxes FROM labels
  WHERE NOT starts_with(coalesce(source, ''), 'teacher:') GROUP BY kind
)
SELECT kind, coalesce(tracks, 0) AS tracks, coalesce(clips, 0) AS clips, nearest_m,
  coalesce(boxes, 0) AS boxes
FROM tracked FULL JOIN bought USING (kind) ORDER BY tracks, kind""",
        yields="facts",
    ),
    Query(
        name="label_bill",
        about="What was bought: frames and boxes by who labelled and what the clip was sent for.",
        why="Labels are the dearest thing in the loop; this says what they went into.",
        needs=("clips", "labelled"),
        text="""SELECT l.source, c.triggers, count(*) AS frames, count(DISTINCT l.clip_id) AS clips,
  sum(l.boxes)::BIGINT AS boxes, avg(l.boxes) AS boxes_per_frame
FROM labelled l JOIN clips c USING (clip_id)
GROUP BY ALL ORDER BY boxes DESC, l.source, c.triggers""",
        yields="facts",
    ),
)
"""Every question of this file."""
