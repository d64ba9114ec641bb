"""The state table: every way through it, and none beside it."""

from itertools import product

import pytest

from tercet.agents.core.states import NEXT, TERMINAL, IllegalMove, State, move


@pytest.mark.parametrize("work", [State.TRAINING, State.SCORING])
def test_a_job_can_go_from_received_to_done_one_state_at_a_time(work: State) -> None:
    """In the order of the architecture's table; a prediction scores where a training trains, and none does both."""
    here = State.RECEIVED
    for there in (State.ACCEPTED, State.READY, State.ALIGNED, work, State.RELEASED, State.DONE):
        here = move(here, there)
    assert here == State.DONE
    other = {State.TRAINING, State.SCORING} - {work}
    assert not other & NEXT[work]


@pytest.mark.parametrize("state", sorted(set(State) - TERMINAL))
def test_any_state_but_an_end_may_fail_or_be_cancelled(state: State) -> None:
    """A job never has to go on in order to stop."""
    assert move(state, State.FAILED) == State.FAILED
    assert move(state, State.CANCELLED) == State.CANCELLED


def test_only_the_tables_moves_are_made_and_none_from_an_end() -> None:
    """Everything else is a bug of ours and says so; not even a cancel changes what has ended."""
    assert not any(NEXT[end] for end in TERMINAL)
    for here, there in product(State, State):
        if there in NEXT[here]:
            assert move(here, there) == there
        else:
            with pytest.raises(IllegalMove, match=f"from {here} to {there}"):
                move(here, there)


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    """And from each an end."""
    assert set(NEXT) == set(State)
    assert {there for nexts in NEXT.values() for there in nexts} == set(State) - {State.RECEIVED}
