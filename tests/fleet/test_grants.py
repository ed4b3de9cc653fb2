import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.grants import Grant, GrantError, GrantExpiredError, Grants
from vehicle.contracts.home import Home

GRANT = Grant(
    car_id="car-1",
    sha256="a" * 64,
    size_bytes=10,
    number=1,
    offset=0,
    length=10,
    part_sha256="b" * 64,
    until_s=100,
)


@pytest.fixture(scope="module")
def grants(tmp_path_factory):
    return Grants(Home(tmp_path_factory.mktemp("home")))


def test_grant_survives_the_address_and_ends(grants):
    word = grants.seal(GRANT)
    assert grants.open(word, "car-1", 99.9) == GRANT
    with pytest.raises(GrantExpiredError, match="ask for it again"):
        grants.open(word, "car-1", 100.0)
    with pytest.raises(GrantError, match="another car"):
        grants.open(word, "car-2", 0.0)


def test_grant_of_another_home_is_none_here(grants, tmp_path):
    with pytest.raises(GrantError):
        grants.open(Grants(Home(tmp_path)).seal(GRANT), "car-1", 0.0)
    changed = dataclasses.replace(GRANT, length=11)
    assert grants.seal(changed).partition(".")[2] != grants.seal(GRANT).partition(".")[2]


@given(st.data())
def test_no_character_of_an_address_can_be_changed(grants, data):
    word = grants.seal(GRANT)
    at = data.draw(st.integers(0, len(word) - 1))
    other = data.draw(st.characters(max_codepoint=0x2FF).filter(lambda c: c != word[at]))
    try:
        opened = grants.open(word[:at] + other + word[at + 1 :], "car-1", 0.0)
    except GrantError:
        return
    assert opened == GRANT  # unused bits of base64's last letter: the same bytes


@given(st.text(max_size=200))
def test_no_text_is_a_grant(grants, text):
    with pytest.raises(GrantError):
        grants.open(text, "car-1", 0.0)
