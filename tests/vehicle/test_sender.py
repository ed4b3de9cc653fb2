"""How the process beside the loop learns how the car is connected."""

import pytest

from vehicle.contracts.wire import ContractError
from vehicle.sender import LINK, read_link
from vehicle.uplink_policy import Link


def test_link_is_what_the_cars_folder_says_and_none_where_nobody_says(tmp_path):
    assert read_link(tmp_path) is None
    (tmp_path / LINK).write_text('{"schema": "link/1", "kind": "cellular", "metered": true}')
    assert read_link(tmp_path) == Link(kind="cellular", metered=True)


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "link/1", "kind": "pigeon"}'])
def test_link_that_says_something_else_is_named_and_nothing_is_sent_meanwhile(tmp_path, text):
    (tmp_path / LINK).write_text(text)
    with pytest.raises(ContractError, match=r"link\.json: .*nothing is sent until"):
        read_link(tmp_path)
