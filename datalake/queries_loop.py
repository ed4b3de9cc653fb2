"""Named questions about the car itself: its network, its loop, its driver, what nobody labelled."""

from typing import Final

from datalake.queries import DRAWN, Number, Query

QUERIES: Final = (
    Query(
        name="uncertain",
        about="Frames unlike what the network was trained on (0.5 is its 99th percentile).",
        why="What to label first: the network itself says that it does not know this.",
        needs=("ticks",),
        text="SELECT clip_id, frame_id, uncertainty_ratio FROM ticks "
        "WHERE uncertainty_ratio >= {uncertainty_ratio} AND fresh = 1 "
        "ORDER BY uncertainty_ratio DESC, clip_id, frame_id",
        when="uncertainty_ratio >= {uncertainty_ratio} and fresh == 1",
        numbers={"uncertainty_ratio": Number(0.5, "at least")},
    ),
    Query(
        name="night",
        about="Frames of dark clips.",
        why="By night cameras see half and half the training set is missing.",
        needs=("clips", "ticks"),
        text="SELECT t.clip_id, t.frame_id, c.luma FROM ticks t JOIN clips c USING (clip_id) "
        "WHERE c.luma < {luma} ORDER BY c.luma, t.clip_id, t.frame_id",
        numbers={"luma": Number(70.0, "mean brightness of the clip, 0..255, less than")},
    ),
    Query(
        name="night_uncertain",
        about="Frames of dark clips that are unlike the training set.",
        why="What night training lacks.",
        needs=("clips", "ticks"),
        text="SELECT t.clip_id, t.frame_id, t.uncertainty_ratio, c.luma FROM ticks t "
        "JOIN clips c USING (clip_id) WHERE c.luma < {luma} AND t.fresh = 1 "
        "AND t.uncertainty_ratio >= {uncertainty_ratio} "
        "ORDER BY t.uncertainty_ratio DESC, t.clip_id, t.frame_id",
        numbers={
            "luma": Number(70.0, "mean brightness of the clip, 0..255, less than"),
            "uncertainty_ratio": Number(0.5, "at least"),
        },
    ),
    Query(
        name="novel",
        about="Frames far from every embedding that the campaigns know.",
        why="What has not been seen, whether or not the network is sure of itself.",
        needs=("ticks",),
        text="SELECT clip_id, frame_id, novelty FROM ticks WHERE novelty >= {novelty} "
        "ORDER BY novelty DESC, clip_id, frame_id",
        when="novelty >= {novelty}",
        numbers={"novelty": Number(1.4, "spreads of the known set away from it, at least")},
    ),
    Query(
        name="shadow_disagreements",
        about="Frames on which the candidate network saw something else than the one that drives.",
        why="One of the two is wrong: the cheapest test of a candidate there is.",
        needs=("ticks",),
        text="SELECT clip_id, frame_id, shadow_disagreement FROM ticks "
        "WHERE shadow_disagreement >= {disagreement} "
        "ORDER BY shadow_disagreement DESC, clip_id, frame_id",
        when="shadow_disagreement >= {disagreement}",
        numbers={"disagreement": Number(0.5, "0..1, at least")},
    ),
    Query(
        name="planner_against_driver",
        about="Frames where the plan led elsewhere than the driver went.",
        why="Thousands of hours of a driver who shows what was meant, for nothing.",
        needs=("ticks",),
        text="SELECT clip_id, frame_id, human_gap_m FROM ticks WHERE human_gap_m >= {gap_m} "
        "ORDER BY human_gap_m DESC, clip_id, frame_id",
        when="human_gap_m >= {gap_m}",
        numbers={"gap_m": Number(2.0, "between plan and driver, at least")},
    ),
    Query(
        name="flickering",
        about="Frames with a young track that was already lost once.",
        why="Detections that come and go: planners brake for what is there every other tick.",
        needs=("tracks",),
        text="SELECT clip_id, frame_id, count(*) AS tracks FROM tracks "
        "WHERE age_ticks <= {age_ticks} AND coasted_ticks > 0 GROUP BY ALL "
        "ORDER BY tracks DESC, clip_id, frame_id",
        when="tracks(age_ticks <= {age_ticks} and coasted_ticks > 0) >= 1",
        numbers={"age_ticks": Number(10, "age of the track, at most")},
    ),
    Query(
        name="doubtful_vrus",
        about="Frames with a pedestrian or cyclist nearby whom the network half believes in.",
        why="Where one more label moves the decision most, for those whom a miss hurts most.",
        needs=("tracks",),
        text="""SELECT clip_id, frame_id, min(range_m) AS range_m,
  arg_min(score_prob, range_m) AS score_prob FROM tracks
WHERE kind IN ('pedestrian', 'cyclist') AND range_m <= {range_m}
  AND score_prob BETWEEN {least_prob} AND {most_prob}
GROUP BY clip_id, frame_id ORDER BY range_m, clip_id, frame_id""",
        when="tracks((kind == 'pedestrian' or kind == 'cyclist') and range_m <= {range_m} "
        "and score_prob >= {least_prob} and score_prob <= {most_prob}) >= 1",
        numbers={
            "range_m": Number(25.0, "distance, at most"),
            "least_prob": Number(0.15, "detection score, at least"),
            "most_prob": Number(0.5, "detection score, at most"),
        },
    ),
    Query(
        name="uncertain_untriggered",
        about="Uncertain frames with no trigger's event near them in their clip.",
        why="What the campaigns miss: seen only because something else was sent, or by the random "
        "sample.",
        needs=("events", "ticks"),
        text=f"""WITH {DRAWN}
SELECT t.clip_id, t.frame_id, t.uncertainty_ratio FROM ticks t
WHERE t.uncertainty_ratio >= {{uncertainty_ratio}} AND t.fresh = 1 AND NOT EXISTS (
  SELECT 1 FROM drawn e
  WHERE e.clip_id = t.clip_id AND NOT e.drawn
    AND abs(e.mono_ns - t.mono_ns) <= {{within_s}} * 1e9)
ORDER BY t.uncertainty_ratio DESC, t.clip_id, t.frame_id""",
        numbers={
            "uncertainty_ratio": Number(0.5, "at least"),
            "within_s": Number(3.0, "an event is near when at most this far"),
        },
    ),
    Query(
        name="unlabelled_events",
        about="Frames at which a trigger fired and whose label nobody has bought.",
        why="The bill that is still open.",
        needs=("events", "labelled"),
        text='SELECT e.clip_id, e.frame_id, e.value, e."trigger" FROM events e '
        "ANTI JOIN labelled l ON l.clip_id = e.clip_id AND l.frame_id = e.frame_id "
        "ORDER BY e.clip_id, e.frame_id",
    ),
    Query(
        name="slow_ticks",
        about="Ticks that came close to their deadline or missed it, with where the time went.",
        why="The longest stage names whom to ask.",
        needs=("ticks",),
        text="""SELECT clip_id, frame_id, total_us, list_max([
    (coalesce(preprocess_us, 0), 'preprocess'), (coalesce(inference_us, 0), 'inference'),
    (coalesce(track_us, 0), 'track'), (coalesce(plan_us, 0), 'plan'),
    (coalesce(control_us, 0), 'control'), (coalesce(trigger_us, 0), 'trigger'),
    (coalesce(publish_us, 0), 'publish')
  ])[2] AS longest, preprocess_us, inference_us, track_us, plan_us, control_us, trigger_us,
  publish_us, rung, cancelled
FROM ticks WHERE total_us >= {total_us} OR cancelled = 1
ORDER BY total_us DESC, clip_id, frame_id""",
        numbers={"total_us": Number(8_000, "release of the frame to command, at least")},
    ),
    Query(
        name="late_ticks",
        about="Ticks whose command left after the deadline.",
        why="Each is a broken promise; slow_ticks says where the time went.",
        needs=("ticks",),
        text="SELECT clip_id, frame_id, total_us, rung FROM ticks WHERE missed = 1 "
        "ORDER BY total_us DESC, clip_id, frame_id",
        when="missed == 1",
    ),
    Query(
        name="degraded",
        about="Ticks below the top of the degrade ladder.",
        why="The car drove on less than it has: what took it down there?",
        needs=("ticks",),
        text="SELECT clip_id, frame_id, list_position(['full', 'fewer_cameras', 'coast', "
        "'hold_plan', 'mrm'], rung) - 1 AS below, rung, total_us FROM ticks WHERE rung != 'full' "
        "ORDER BY below DESC, clip_id, frame_id",
        when="rung != 'full'",
    ),
    Query(
        name="missing_ticks",
        about="Frames before which the clip has a hole in time.",
        why="Dropped frames: the recorder fell behind, a camera froze, or the clip was cut.",
        needs=("clips", "ticks"),
        text="""SELECT t.clip_id, t.frame_id,
  (t.mono_ns - lag(t.mono_ns) OVER (PARTITION BY t.clip_id ORDER BY t.mono_ns)) * 1e-9 AS gap_s
FROM ticks t JOIN clips c USING (clip_id)
QUALIFY gap_s > {periods} / c.rate_hz
ORDER BY gap_s DESC, t.clip_id, t.frame_id""",
        numbers={"periods": Number(1.5, "of the tick, longer than")},
    ),
    Query(
        name="mrms",
        about="Frames on which a minimal risk manoeuvre began.",
        why="The car gave up: each one is read by a person.",
        needs=("ticks",),
        when="rises(mrm == 1)",
    ),
    Query(
        name="takeovers",
        about="Frames on which the driver took over.",
        why="Somebody trusted the car and then did not.",
        needs=("ticks",),
        text="SELECT clip_id, frame_id, speed_mps, uncertainty_ratio, ttc_s FROM ticks "
        "WHERE takeover = 1 ORDER BY speed_mps DESC, clip_id, frame_id",
        when="takeover == 1",
    ),
    Query(
        name="bookmarks",
        about="Frames that somebody in the car marked.",
        why="A person thought this worth a look and cannot be asked again.",
        needs=("ticks",),
        text="SELECT clip_id, frame_id, speed_mps, uncertainty_ratio, ttc_s FROM ticks "
        "WHERE bookmark = 1 ORDER BY clip_id, frame_id",
        when="bookmark == 1",
    ),
    Query(
        name="overruled",
        about="Frames on which a safety rule cut the planner's command.",
        why="The envelope has the last word; where it needs it often, the planner is wrong.",
        needs=("ticks",),
        text="SELECT clip_id, frame_id, command_accel_mps2, limited_by FROM ticks "
        "WHERE limited_by != '' ORDER BY command_accel_mps2, clip_id, frame_id",
        when="limited_by != ''",
    ),
    Query(
        name="unexplained",
        about="Frames with an event whose decision no explainer saw coming.",
        why="What drives the planner there is in no word of the scene: look, and learn from it.",
        needs=("captions",),
        text="SELECT clip_id, frame_id, decision, min(model) AS model FROM captions "
        "GROUP BY ALL HAVING max(explained) = 0 ORDER BY clip_id, frame_id",
    ),
    Query(
        name="stopped_for_people",
        about="Frames with an event that the car braked in because of somebody on foot or on a "
        "bicycle, as an explainer says.",
        why="Mined by cause, not by number: who was the reason, not who happened to be near.",
        needs=("captions",),
        text="""SELECT clip_id, frame_id, min(decision) AS decision, min(text) AS text
FROM captions
WHERE explained = 1 AND decision IN ('slow down', 'stop', 'brake hard', 'stay stopped')
  AND regexp_matches(factors, 'pedestrian|cyclist')
GROUP BY clip_id, frame_id ORDER BY clip_id, frame_id""",
    ),
    Query(
        name="never_labelled",
        about="Clips without one bought label.",
        why="Sent, stored, paid for, and taught nothing yet.",
        needs=("clips", "labelled"),
        text="""SELECT c.clip_id, c.size_bytes, c.duration_s, c.car_id, c.triggers FROM clips c
ANTI JOIN labelled l ON l.clip_id = c.clip_id ORDER BY c.size_bytes DESC, c.clip_id""",
        yields="clips",
    ),
    Query(
        name="cut_clips",
        about="Clips of which only a part could be recovered.",
        why="A disk, a battery or a recorder gave out: of the same car again and again?",
        needs=("clips",),
        text="SELECT clip_id, duration_s, frames, car_id, triggers FROM clips WHERE whole = 0 "
        "ORDER BY duration_s, clip_id",
        yields="clips",
    ),
    Query(
        name="unscrubbed",
        about="Clips with pictures in which nobody looked for faces and plates.",
        why="They may not be shown around; the rules differ by jurisdiction.",
        needs=("clips",),
        text="SELECT clip_id, cameras, jurisdiction, car_id, source FROM clips "
        "WHERE cameras > 0 AND coalesce(scrub, 'none') = 'none' "
        "ORDER BY jurisdiction, clip_id",
        yields="clips",
    ),
)
"""Every question of this file."""
