"""Every name at the broker: unambiguous, readable, short enough, and bound so that nobody hears too much."""

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from tercet.broker.interface import topology
from tercet.broker.interface.base import MAX_NAME_BYTES, Lane, Queue
from tercet.broker.memory.memory_queue import matches
from tercet.schemas.messages.address import Round
from tercet.schemas.messages.kinds import Message
from tests.schemas.strategies import job_ids, names

PARTIES = ("bank", "card", "notary")
JOBS = ("credit-0a1b2c3d", "churn-9f8e7d6c")


def routed(exchange: str, key: str, queues: list[Queue]) -> set[str]:
    """The queues that take a routing key."""
    return {
        queue.name
        for queue in queues
        if any(exchange == source and matches(pattern, key) for source, pattern in queue.bindings)
    }


def all_queues() -> list[Queue]:
    """Of three parties with two jobs each, and a console."""
    queues = [topology.console_queue("bank", "console-1")]
    for party in PARTIES:
        others = [other for other in PARTIES if other != party]
        queues.append(topology.standing_queue(party, others))
        role = "helper" if party == "notary" else "data"
        queues += [topology.job_queue(party, job, r, others) for job in JOBS for r in topology.ROUNDS[role]]
    return queues


def test_a_message_goes_to_exactly_the_queue_of_its_job_round_and_receiver() -> None:
    """Not to another job's, not to another party's, not to a standing one."""
    queues = all_queues()
    for sender, receiver in itertools.permutations(PARTIES, 2):
        for job in JOBS:
            role = "helper" if receiver == "notary" else "data"
            for round_ in topology.ROUNDS[role]:
                found = routed(topology.exchange(sender), topology.routing_key(job, round_, receiver), queues)
                assert found == {topology.job_queue_name(receiver, job, round_)}


def test_an_announcement_goes_to_the_standing_queue_alone() -> None:
    """From each partner, and from the party's own console."""
    queues = all_queues()
    for sender, receiver in itertools.product(PARTIES, repeat=2):
        key = topology.announce_key(JOBS[0], receiver)
        assert routed(topology.exchange(sender), key, queues) == {f"tercet.{receiver}.jobs"}


def test_an_answer_goes_to_its_console_alone_and_only_from_its_own_agent() -> None:
    """A partner cannot even route one there."""
    queues = all_queues()
    key = topology.console_key("console-1", "bank")
    assert routed(topology.exchange("bank"), key, queues) == {"tercet.bank.console.console-1"}
    assert routed(topology.exchange("card"), key, queues) == set()


@given(names, job_ids, st.sampled_from(Round))
def test_names_and_keys_fit_and_hold_no_wildcards(party: str, job: str, round_: Round) -> None:
    """Whatever the parties and jobs are called."""
    queue = topology.job_queue(party, job, round_, [party])
    texts = [queue.name, topology.exchange(party), topology.routing_key(job, round_, party)]
    texts += [topology.announce_key(job, party), topology.console_key(job, party)]
    for text in texts:
        assert len(text.encode()) <= MAX_NAME_BYTES
        assert re.fullmatch(r"[a-z0-9.-]+", text)


@given(names, names, job_ids, job_ids, st.sampled_from(Round), st.sampled_from(Round))
def test_two_queues_never_share_a_name(
    party: str, other: str, job: str, other_job: str, round_: Round, other_round: Round
) -> None:
    """Neither party, job nor round can be mistaken."""
    one = topology.job_queue_name(party, job, round_)
    same = (party, job, round_) == (other, other_job, other_round)
    assert (one == topology.job_queue_name(other, other_job, other_round)) == same
    assert one != topology.standing_queue(other, []).name


def test_every_round_that_is_spoken_has_a_queue_somewhere() -> None:
    """And the number of queues of a job is fixed."""
    spoken = {model.round for model in Message.__subclasses__()}
    assert spoken <= {round_ for rounds in topology.ROUNDS.values() for round_ in rounds}
    assert len(topology.ROUNDS["data"]) <= 9
    assert len(topology.ROUNDS["helper"]) <= 5


def test_the_helper_has_no_queue_for_what_it_must_not_hear() -> None:
    """Masked inputs, masked weights and opened blocks cannot reach it by mistake."""
    assert not {Round.MASKED_INPUTS, Round.DEALT, Round.OPENINGS, Round.RELEASE} & set(topology.ROUNDS["helper"])


def test_what_is_large_and_ahead_of_time_travels_apart_from_what_is_awaited() -> None:
    """Activations, scores and heartbeats do not queue behind pseudonyms or masked inputs."""
    bulk = {round_ for round_ in Round if topology.lane(round_) is Lane.BULK}
    assert bulk == {Round.ALIGNMENT, Round.MASKED_INPUTS, Round.DEALT, Round.RELEASE}
