"""The language of explanations: nothing can be said in it that is not in the scene."""

from dataclasses import replace

import numpy as np
import pytest

from vehicle.contracts import wire
from vehicle.contracts.decision import Actor, Decision, DecisionRecord, Factor
from vehicle.contracts.explanation import (
    ID,
    MAX_ANSWER,
    NO_EXPLANATION,
    NUMBERS,
    TOKENS,
    VOCABULARY,
    MisspokenError,
    Speaker,
    answer_of,
    candidates,
    causes_told,
    read,
    said_factors,
)


def actor(actor_id: int, **changes: float | str) -> Actor:
    values = {
        **{"kind": "pedestrian", "ahead_m": 12.0, "aside_m": 1.5, "along_mps": 0.0},
        **{"across_mps": -1.4, "length_m": 0.5, "width_m": 0.6, "height_m": 1.8},
    } | changes
    return Actor(actor_id=actor_id, **values)  # type: ignore[arg-type]


def record(**changes: object) -> DecisionRecord:
    values: dict[str, object] = {
        **{"source": "test", "frame_id": 1, "speed_mps": 8.0, "accel_mps2": 0.0, "aside_m": 0.1},
        **{"limit_mps": 13.9, "lane_width_m": 3.5, "light": "red", "light_m": 23.0},
        **{"yield_m": None, "bend_m": 0.0, "bend_1pm": 0.0, "left_lane_m": 0.0},
        **{"right_lane_m": 0.0, "rung": "full"},
        "actors": (actor(17), actor(4, kind="truck", ahead_m=8.0, across_mps=0.0, height_m=3.0)),
        "decision": Decision(longitudinal="stop", lateral="keep the lane", demand_mps2=-2.0),
        "causes": (Factor(kind="light"), Factor(kind="actor", actor_id=17)),
    } | changes
    return DecisionRecord(**values)  # type: ignore[arg-type]


def spoken(of: DecisionRecord, *words: str) -> str:
    speaker = Speaker(of)
    return "".join(speaker.say(ID[w]) for w in words)


def test_a_tested_record_is_told_in_a_sentence_of_its_own_numbers() -> None:
    tokens = answer_of(record())
    assert spoken(record(), *(TOKENS[t] for t in tokens)) == (
        "because the light is red 23 m ahead and pedestrian 17 is crossing 12 m ahead "
        "therefore stop and keep the lane."
    )
    assert said_factors(tokens, record()) == causes_told(record())


def test_another_decision_than_the_actuated_one_ends_without_an_explanation() -> None:
    assert spoken(record(), "speed up") == NO_EXPLANATION
    assert spoken(record(), "stop", "move left") == NO_EXPLANATION
    assert spoken(record(), "stop", "keep the lane", "free") == NO_EXPLANATION


def test_nobody_can_be_named_who_is_not_there() -> None:
    speaker = Speaker(record())
    speaker.say(ID["stop"])
    speaker.say(ID["keep the lane"])
    for word in ("actor 2", "hides 0", "yield line", "bend", "does stands", "number ahead"):
        with pytest.raises(MisspokenError):
            speaker.say(ID[word])


def test_only_what_somebody_does_may_be_said_of_them() -> None:
    speaker = Speaker(record())
    for word in ("stop", "keep the lane", "actor 0"):
        speaker.say(ID[word])
    said = {TOKENS[i] for i in np.flatnonzero(speaker.allowed())}
    assert said == {"does is crossing", "does is near"}


@pytest.mark.parametrize("seed", range(40))
def test_whatever_a_decoder_prefers_the_answer_ends_and_names_only_what_is_there(seed: int) -> None:
    random, of = np.random.default_rng(seed), record()
    speaker, tokens = Speaker(of), []
    while not speaker.ended:
        token = int(np.where(speaker.allowed(), random.normal(size=VOCABULARY), -1e9).argmax())
        if len(tokens) < 2:
            token = ID[("stop", "keep the lane")[len(tokens)]]
        tokens.append(token)
        speaker.say(token)
    assert len(tokens) <= MAX_ANSWER
    assert said_factors(tokens, of) <= set(candidates(of))


def test_the_decision_is_not_in_what_a_decoder_reads() -> None:
    other = Decision(longitudinal="speed up", lateral="move left", demand_mps2=1.0)
    one, two = read(record()), read(record(decision=other, causes=None))
    assert (one.numbers == two.numbers).all()
    assert (one.words == two.words).all()
    assert one.numbers.shape == (5, NUMBERS)


def test_who_matters_by_what_is_behind_it_is_told_of_once() -> None:
    both = (Factor(kind="actor", actor_id=4), Factor(kind="hides", actor_id=4))
    assert causes_told(record(causes=both)) == {both[1]}


def test_numbers_that_no_road_has_are_refused() -> None:
    for changes in ({"speed_mps": 1e200}, {"light_m": float("nan")}, {"bend_1pm": -1e9}):
        with pytest.raises(wire.ContractError, match=r"over 100000|finite"):
            record(**changes)
    with pytest.raises(wire.ContractError, match=r"Actor\.ahead_m"):
        actor(1, ahead_m=1e308)


def test_a_record_comes_back_from_its_bytes_and_a_broken_one_is_refused() -> None:
    data = wire.to_bytes(record())
    assert wire.from_bytes(DecisionRecord, data) == record()
    with pytest.raises(wire.ContractError, match="no actor 99"):
        replace(record(), causes=(Factor(kind="actor", actor_id=99),))
    with pytest.raises(wire.ContractError, match="same id"):
        replace(record(), actors=(actor(1), actor(1)))
