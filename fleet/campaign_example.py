"""A campaign to begin with: every kind of trigger, commented."""

from typing import Final

EXAMPLE: Final = """# A campaign: what some cars look out for, and how much of it they send home.
# Sign it and hand it to the cars: roadloop fleet campaign add THIS_FILE

campaign_id = "example"          # a plain name; adding it again makes the next version
cars = ["*"]                     # names, or "*" for every car
expires = 2031-01-01T00:00:00Z   # leave out: never
priority = 3                     # 0..9; what higher ones noticed is kept and sent first
max_clips_per_hour = 20          # in each car; beyond it the triggers pass
full = "always"                  # "on_request": summaries only, until `roadloop fleet request`
jurisdictions = ["*"]            # ISO 3166 codes, "ZZ" in simulation

[budget]                         # of each car, in 24 hours
max_clips = 100
max_bytes = 1_000_000_000

# Each trigger: a kind and a threshold in the unit of its signal; how long it must hold, what to
# keep before and after, and how long it is quiet then. Signals: docs/reference/triggers.md.

[[triggers]]                     # deceleration, m/s2
name = "hard brake"
kind = "hard_brake"
threshold = 3.5
hold_s = 0.1
pre_s = 5.0
post_s = 3.0
min_interval_s = 10.0

[[triggers]]                     # lateral acceleration, m/s2
name = "harsh steer"
kind = "harsh_steer"
threshold = 3.0

[[triggers]]                     # time to collision, s
name = "close call"
kind = "ttc"
threshold = 1.5

[[triggers]]                     # gap beyond the RSS safe distance, m (negative: inside it)
name = "too close"
kind = "rss"
threshold = -1.0
hold_s = 0.5

[[triggers]]                     # from the plan to where the human driver went, m
name = "human knew better"
kind = "human_disagreement"
threshold = 2.0

[[triggers]]                     # of the candidate network with the one that drives, 0..1
name = "shadow differs"
kind = "shadow_disagreement"
threshold = 0.5
hold_s = 0.3

[[triggers]]                     # share of near tracks that came and went, 0..1
name = "flicker"
kind = "flicker"
threshold = 0.4

[[triggers]]                     # the network's own doubt, 0..1
name = "unsure"
kind = "uncertainty"
threshold = 0.6
hold_s = 0.3

[[triggers]]                     # distance from the known embeddings, 0..2
name = "never seen"
kind = "novelty"
threshold = 0.5
hold_s = 0.3

[[triggers]]                     # ticks in a row that were late
name = "late"
kind = "deadline_miss"
threshold = 1

[[triggers]]                     # rung of the degrade ladder: 0 full ... 4 minimal risk manoeuvre
name = "degraded"
kind = "rung"
threshold = 2

[[triggers]]
name = "minimal risk manoeuvre"
kind = "mrm"

[[triggers]]
name = "driver took over"
kind = "takeover"

[[triggers]]
name = "bookmark"
kind = "bookmark"
pre_s = 15.0

[[triggers]]                     # a fair share of ticks: what mined clips are compared with
name = "control group"
kind = "random"
threshold = 0.00001

[[triggers]]                     # a condition of one's own
name = "braked for somebody near"
kind = "expression"
when = "rises(tracks(range_m < 15) >= 1) then accel_mps2 <= -3 within 2 s"
"""
"""A commented campaign with every kind of trigger."""
