"""Addresses: each has one text, each text at most one address, and both fit where the broker puts them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.schemas.messages.address import Address, MalformedAddress, Round, parse_address
from tests.schemas.strategies import job_ids, names

numbers = st.integers(0, 10**10 - 1)
items = st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True)


@st.composite
def addresses(draw: st.DrawFn) -> Address:
    """Any address."""
    parts = draw(st.integers(1, 10**10 - 1))
    return Address(
        draw(job_ids), draw(numbers), draw(st.sampled_from(Round)), draw(items), draw(numbers), draw(numbers),
        draw(names), draw(names), draw(st.integers(1, parts)), parts,
    )  # fmt: skip


@given(addresses())
def test_an_address_comes_back_from_its_text(address: Address) -> None:
    """All ten fields."""
    assert parse_address(str(address)) == address


@given(addresses())
def test_the_text_fits_into_a_message_id_with_room_to_spare(address: Address) -> None:
    """AMQP allows 255 bytes."""
    assert len(str(address)) <= 255


@given(addresses(), addresses())
def test_two_addresses_never_share_a_text(one: Address, other: Address) -> None:
    """Repeats are dropped by it."""
    assert (str(one) == str(other)) == (one == other)


@given(st.text(max_size=80))
def test_any_text_is_an_address_in_its_one_form_or_the_one_error(text: str) -> None:
    """Whatever a sender writes."""
    try:
        address = parse_address(text)
    except MalformedAddress:
        return
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "job/1/control/x/0/0/a/b/1.1\n",
        "job/01/control/x/0/0/a/b/1.1",
        "job/1/control/x/0/0/a/b/2.1",
        "job/1/control/x/0/0/a/b/0.1",
        "job/1/control/x/0/0/a/b/1",
        "job/1/control/x/-1/0/a/b/1.1",
        "Job/1/control/x/0/0/a/b/1.1",
        "job/1/control/x/0/0/a.b/b/1.1",
        "job/1/control//0/0/a/b/1.1",
        "job/\u0661/control/x/0/0/a/b/1.1",
        "job/1/control/x/0/0/a/b/1.1/",
    ],
)
def test_texts_that_are_nearly_addresses_are_none(text: str) -> None:
    """Other spellings of one address would be other keys."""
    with pytest.raises(MalformedAddress):
        parse_address(text)


def test_all_parts_of_a_body_belong_to_one_whole() -> None:
    """Under which they are gathered."""
    parts = {Address("job", 1, "control", "x", 0, 0, "a", "b", part, 3).whole for part in (1, 2, 3)}
    assert parts == {Address("job", 1, "control", "x", 0, 0, "a", "b", 1, 1)}
