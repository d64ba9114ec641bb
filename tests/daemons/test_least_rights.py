"""Whole jobs between daemons that have no more rights at the broker than the generated definitions give them."""

import asyncio
import json
from collections.abc import Iterator

import aio_pika
import pytest

from tercet.broker.interface import topology
from tests.daemons.test_over_rabbitmq import DEADLINES, job_file, submit, until, wait_until, write_tables
from tests.deployment import Deployment
from tests.guarded import Guarded

PARTIES = ("bank", "card", "notary")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, guarded: Guarded) -> Iterator[Deployment]:
    """Three agents, each with a login of its own."""
    folder = tmp_path_factory.mktemp("least-rights")
    logins = {p: f'url = "{guarded.bare_url}"\ncredentials = "{guarded.credentials(p)}"' for p in PARTIES}
    with Deployment(
        folder, guarded.url("bank"), write_tables(folder), "notary", extra=DEADLINES, logins=logins
    ) as three:
        three.start()
        three.wait_until_up()
        for party in PARTIES:  # so that consoles, too, go through the broker
            three.without_socket(party)
        yield three


def test_a_job_needs_no_more_rights_than_the_definitions_give(deployment: Deployment, guarded: Guarded):
    """Consoles of any party neither; afterwards only standing queues and dead letters are left."""
    job = submit(deployment, job_file(deployment, "least"), "card")
    for party in PARTIES:
        until(deployment, party, job, "done")
    left = {name: policy for name, (_, _, policy) in guarded.queues().items()}
    for party in PARTIES:
        mine = {name: policy for name, policy in left.items() if name.startswith(f"tercet.{party}.")}
        assert mine == {
            topology.standing_queue(party, []).name: f"tercet-{party}-standing",
            topology.dead_letter_queue(party).name: f"tercet-{party}-dead-letters",
        }


async def poison(guarded: Guarded) -> None:
    """Two messages through bank's exchange that no agent of bank's has made."""
    async with await aio_pika.connect(guarded.url("bank")) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(topology.exchange("bank"))
        for number in range(2):
            message = aio_pika.Message(b"poison", message_id=f"[red]nonsense {number}\x1b[2J", type="job")
            await exchange.publish(message, topology.announce_key("x-1", "card"))


def test_dead_letters_are_shown_and_removed_by_their_party(deployment: Deployment, guarded: Guarded):
    """As they are, whatever is in them; for people and for scripts."""
    deployment.asked("broker", "dead-letters", "--remove", party="card")  # of other tests
    asyncio.run(poison(guarded))

    def dead_letters() -> list[dict[str, str]]:
        shown = deployment.asked("broker", "dead-letters", "--format", "json", party="card")
        return list(json.loads(shown.stdout))

    wait_until(lambda: len(dead_letters()) > 1)
    letters = dead_letters()
    assert [letter["exchange"] for letter in letters] == ["tercet.from.bank"] * 2
    assert letters[0]["address"] == "[red]nonsense 0\\x1b[2J"
    removed = deployment.asked("broker", "dead-letters", "--remove", "--limit", "1", party="card")
    assert removed.returncode == 0
    assert "nonsense" in removed.stdout
    assert "[red]" in removed.stdout
    assert "1 more" in removed.stderr
    assert dead_letters() == letters[1:]
