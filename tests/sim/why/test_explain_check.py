"""The independent reader of explanations: what is true passes, what is made up is named."""

import pytest
from explain_parts import records

from sim.why.explain_check import check
from vehicle.contracts.explanation import Speaker, answer_of


def told(number: int) -> tuple[str, object]:
    found = records(60)[number]
    speaker = Speaker(found)
    return "".join(speaker.say(t) for t in answer_of(found)), found


@pytest.mark.parametrize("number", range(60))
def test_what_the_language_says_of_a_record_is_found_in_it(number: int) -> None:
    text, found = told(number)
    assert check(text, found).ungrounded == ()  # type: ignore[arg-type]
    assert check(text, found).mentions >= 1  # type: ignore[arg-type]


def test_every_kind_of_invention_is_named() -> None:
    found = next(
        r for r in records(60) if r.decision.longitudinal == "slow down" and len(r.actors) > 1
    )
    [cause] = found.causes or ()
    actor = next(a for a in found.actors if a.actor_id == cause.actor_id)
    who, end = f"{actor.kind} {actor.actor_id}", "therefore slow down and keep the lane."
    true = f"because {who} stands {actor.ahead_m:g} m ahead {end}"
    assert check(true, found).ungrounded == ()
    other = next(k for k in ("bus", "pedestrian") if k != actor.kind)
    for text in (
        true.replace(who, f"{actor.kind} 999"),
        true.replace(who, f"{other} {actor.actor_id}"),
        true.replace(f"{actor.ahead_m:g} m ahead", "99 m ahead"),
        true.replace("stands", "is crossing"),
        true.replace("slow down", "speed up"),
        true.replace(" therefore", " and others go first 12 m ahead therefore"),
        true.replace(" therefore", " and the moon is full therefore"),
        "I would rather not say.",
    ):
        assert check(text, found).ungrounded, text


def test_a_light_that_is_not_red_is_not_said_to_be() -> None:
    green = next(r for r in records(60) if r.light == "green")
    away = f"{green.light_m:g} m ahead"
    text = f"because the light is red {away} therefore speed up and keep the lane."
    assert check(text, green).ungrounded
