from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vehicle.contracts.campaign import UploadBudget
from vehicle.uplink_answers import Verdict, judge, judge_part, wait_s
from vehicle.uplink_policy import Link, SendPlan, Spent, Waiting, plan_sending

NAMES = ("a", "b", "c")
LINKS = [
    Link(kind=kind, metered=metered, parked=parked)
    for kind in ("wifi", "cellular", "orbital")
    for metered in (False, True)
    for parked in (False, True)
]


@st.composite
def outboxes(draw) -> list[Waiting]:
    def clip(number: int) -> Waiting:
        flags = ("told", "wanted", "on_request", "begun", "paid")
        return Waiting(
            clip_id=f"{number:02}",
            size_bytes=draw(st.integers(0, 40)) * 10_000_000,
            summary_bytes=draw(st.integers(0, 128 << 10)),
            created_utc_ns=draw(st.integers(0, 5)),
            campaigns=tuple(draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=2))),
            priority=draw(st.integers(0, 9)),
            value=float(draw(st.integers(0, 3))),
            **{name: draw(st.booleans()) for name in flags},
        )

    return [clip(i) for i in range(draw(st.integers(0, 10)))]


amounts = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 5))
spendings = st.builds(
    Spent,
    clip_bytes=st.integers(0, 600_000_000),
    summary_bytes=st.integers(0, 60_000_000),
    campaign_clips=amounts,
    campaign_bytes=amounts,
)
budgets = st.dictionaries(
    st.sampled_from(NAMES),
    st.builds(UploadBudget, max_clips=st.integers(0, 6), max_bytes=st.integers(0, 900_000_000)),
)
links = st.builds(
    replace, st.sampled_from(LINKS), day_bytes=st.none() | st.integers(0, 900_000_000)
)


def sent(plan: SendPlan, what: str) -> list[str]:
    return [step.clip_id for step in plan.steps if step.what == what]


@given(outboxes(), links, spendings, budgets)
def test_every_summary_and_every_clip_is_sent_or_held_and_nothing_twice(box, link, spent, budget):
    plan = plan_sending(box, link, spent, budget)
    for what, wanted in (("summary", [c for c in box if not c.told]), ("clip", box)):
        held = [h.clip_id for h in plan.hold if h.what == what]
        assert sorted([*sent(plan, what), *held]) == [c.clip_id for c in wanted]
    assert all(hold.reason for hold in plan.hold)


@given(outboxes(), links, spendings, budgets)
def test_no_budget_is_ever_exceeded(box, link, spent, budget):
    clips = {c.clip_id: c for c in box}
    plan = plan_sending(box, link, spent, budget)
    paying = [s for s in plan.steps if s.what == "clip" and not clips[s.clip_id].paid]
    total = spent.clip_bytes + sum(clips[s.clip_id].size_bytes for s in paying)
    assert not paying or link.limit_bytes is None or total <= link.limit_bytes
    told = sent(plan, "summary")
    total = spent.summary_bytes + sum(clips[c].summary_bytes for c in told)
    limit = link.policy.day_summary_bytes
    assert not told or limit is None or total <= limit
    for name in NAMES:
        mine = [clips[s.clip_id] for s in paying if s.payer == name]
        size = spent.campaign_bytes.get(name, 0) + sum(c.size_bytes for c in mine)
        asked = budget.get(name, UploadBudget())
        assert not mine or spent.campaign_clips.get(name, 0) + len(mine) <= asked.max_clips
        assert not mine or size <= asked.max_bytes


@given(outboxes(), links, spendings, budgets)
def test_what_was_begun_goes_first_and_no_clip_before_one_of_higher_priority(
    box, link, spent, budget
):
    clips = {c.clip_id: c for c in box}
    plan = plan_sending(box, link, spent, budget)
    for what in ("summary", "clip"):
        order = [(not clips[c].begun, -clips[c].priority) for c in sent(plan, what)]
        assert order == sorted(order)
    kinds = [step.what for step in plan.steps]
    assert kinds == sorted(kinds, reverse=True)  # every summary before every clip


@given(outboxes(), links, spendings, budgets, st.randoms())
def test_plan_depends_on_nothing_but_what_is_given_in_whatever_order(
    box, link, spent, budget, random
):
    shuffled = random.sample(box, len(box))
    assert plan_sending(shuffled, link, spent, budget) == plan_sending(box, link, spent, budget)


@given(outboxes(), spendings, budgets)
def test_whatever_the_link_summaries_go_and_a_metered_one_carries_nothing_else(box, spent, budget):
    spent = replace(spent, summary_bytes=0)
    for link in LINKS:
        plan = plan_sending([replace(c, paid=False) for c in box], link, spent, budget)
        assert len(sent(plan, "summary")) == sum(not c.told for c in box)
        assert not link.metered or not sent(plan, "clip")


MB = 1_000_000
PLAIN = Waiting(clip_id="plain", size_bytes=20 * MB)
URGENT = Waiting(clip_id="urgent", size_bytes=20 * MB, priority=5)
WANTED = Waiting(clip_id="wanted", size_bytes=5 * MB, wanted=True)
LONG = Waiting(clip_id="long", size_bytes=300 * MB, priority=9)
TINY = Waiting(clip_id="tiny", size_bytes=100_000)
BOX = (PLAIN, URGENT, WANTED, LONG, TINY)


@pytest.mark.parametrize(
    ("link", "goes"),
    [
        (Link(parked=True), ["long", "urgent", "wanted", "plain", "tiny"]),
        (Link(), ["urgent", "wanted", "plain", "tiny"]),
        (Link(kind="cellular"), ["urgent", "wanted"]),
        (Link(kind="cellular", parked=True), ["long", "urgent", "wanted"]),
        (Link(kind="cellular", parked=True, day_bytes=30 * MB), ["urgent", "wanted"]),
        (Link(kind="cellular", metered=True, parked=True), []),
        (Link(metered=True), []),
        (Link(kind="orbital"), ["wanted", "tiny"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else value.name,
)
def test_each_link_carries_what_it_is_for(link, goes):
    assert sent(plan_sending(BOX, link, Spent()), "clip") == goes


def reason(clip: Waiting, link: Link, spent: Spent | None = None, **budgets: UploadBudget) -> str:
    plan = plan_sending([clip], link, spent or Spent(), budgets)
    return next(h.reason for h in plan.hold if h.what == "clip")


def test_what_is_held_says_what_it_waits_for():
    cellular = Link(kind="cellular")
    asked = replace(PLAIN, on_request=True)
    assert reason(asked, Link()).startswith("waits for home to ask for it")
    assert reason(PLAIN, cellular) == (
        "waits for wifi: priority 0, cellular carries clips of priority 5 or home's request"
    )
    assert reason(LONG, Link()).startswith("waits until the car is parked: 300000000 bytes")
    assert reason(URGENT, Link(kind="cellular", metered=True)).endswith("carries summaries only")
    assert reason(replace(WANTED, size_bytes=9 << 20), Link(kind="orbital")).startswith(
        "waits for wifi: 9437184 bytes"
    )
    assert reason(URGENT, cellular, Spent(clip_bytes=490 * MB)) == (
        "waits for tomorrow: cellular carried 490000000 of 500000000 bytes of clips in 24 h"
    )
    ours = replace(PLAIN, campaigns=("a",))
    spent = Spent(campaign_clips={"a": 2}, campaign_bytes={"a": 50 * MB})
    assert reason(ours, Link(), spent, a=UploadBudget(max_clips=2)) == (
        "budget of 'a': 2 of 2 clips in 24 h"
    )
    assert reason(ours, Link(), spent, a=UploadBudget(max_bytes=60 * MB)) == (
        "budget of 'a': 20000000 bytes, 10000000 may still go in 24 h"
    )


def test_clip_of_two_campaigns_is_paid_by_the_first_that_can_and_only_once():
    clip = replace(PLAIN, campaigns=("a", "b"))
    none = {"a": UploadBudget(max_clips=0)}
    (summary, step) = plan_sending([clip], Link(), Spent(), none).steps
    assert (summary.payer, step.payer) == ("", "b")
    paid = replace(clip, paid=True, payer="b", told=True)
    spent = Spent(campaign_clips={"b": 100})
    assert [s.payer for s in plan_sending([paid], Link(), spent, none).steps] == ["b"]
    elsewhere = replace(paid, paid=False)  # begun over another link: this one is charged as well
    plan = plan_sending([elsewhere], Link(day_bytes=0), spent, none)
    assert plan.hold[0].reason.startswith("waits for tomorrow: wifi carried 0 of 0 bytes")


def test_home_asking_for_a_clip_goes_over_its_campaigns_budget_but_not_over_the_links():
    clip = replace(WANTED, campaigns=("a",), on_request=True)
    none = {"a": UploadBudget(max_clips=0)}
    assert sent(plan_sending([clip], Link(), Spent(), none), "clip") == ["wanted"]
    assert sent(plan_sending([clip], Link(day_bytes=0), Spent(), none), "clip") == []


def test_among_equals_what_home_wants_goes_first_then_what_is_worth_more_then_what_is_older():
    def clip(name: str, **facts: object) -> Waiting:
        return Waiting(clip_id=name, size_bytes=1, told=True, **facts)

    box = [
        clip("new", created_utc_ns=2),
        clip("old", created_utc_ns=1),
        clip("rich", value=3.0, created_utc_ns=9),
        clip("asked", wanted=True, created_utc_ns=9),
        clip("urgent", priority=1, created_utc_ns=9),
        clip("cut", begun=True, created_utc_ns=9),
    ]
    wanted = ["cut", "urgent", "asked", "rich", "old", "new"]
    assert sent(plan_sending(box, Link(), Spent()), "clip") == wanted


@given(st.integers(1, 60), st.floats(0.0, 1.0))
def test_waits_grow_and_are_bounded(attempt, jitter):
    assert 0.1 <= wait_s(attempt, jitter) <= 20.0


def test_refusals_are_never_taken_for_done():
    verdicts = {s: judge(s) for s in (200, 201, 204, 401, 403, 404, 409, 412, 413, 422, 429, 507)}
    assert [s for s, v in verdicts.items() if v is Verdict.DONE] == [200, 201, 204]
    assert verdicts[401] is verdicts[403] is Verdict.UNAUTHORISED
    assert verdicts[429] is verdicts[507] is Verdict.RETRY


def test_address_of_a_part_that_is_too_old_or_spoilt_is_asked_for_anew():
    assert {judge_part(s) for s in (400, 403, 404, 409)} == {Verdict.AGAIN}
    assert (judge_part(200), judge_part(503)) == (Verdict.DONE, Verdict.RETRY)
    assert judge_part(413) is Verdict.REFUSED
