"""Definitions give a party its own and nothing else, whatever the others are called; what a broker holds is bounded."""

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tercet.agents.cli.app import app
from tercet.broker.interface import topology
from tercet.broker.memory.memory_queue import matches
from tercet.broker.rabbitmq.definitions import (
    NO_PASSWORD,
    NoName,
    definitions,
    password_hash,
    policies,
    rights,
    topic_rights,
)
from tercet.schemas.core.names import RESERVED
from tercet.schemas.messages.address import Round
from tests.schemas.strategies import job_ids, names

party_names = names.filter(lambda name: name not in RESERVED)
two_parties = st.tuples(party_names, party_names).filter(lambda pair: pair[0] != pair[1])


def pcre(pattern: str) -> re.Pattern[str]:
    """RabbitMQ's patterns as Python's: the one sign that they write differently is the end of the text."""
    return re.compile(pattern.replace(r"\z", r"\Z"))


def allows(pattern: str, name: str) -> bool:
    """As RabbitMQ asks: anchored nowhere."""
    return pcre(pattern).search(name) is not None


def names_of(party: str, job: str) -> list[str]:
    """All queues that a party ever has."""
    rounds = [topology.job_queue_name(party, job, round_) for round_ in Round]
    single = [topology.standing_queue(party, []), topology.dead_letter_queue(party)]
    return [*rounds, *(queue.name for queue in single), topology.console_queue(party, "console-0a1b").name]


@given(two_parties, job_ids)
def test_a_party_may_do_everything_with_its_own_queues_and_nothing_with_anothers(pair: tuple[str, str], job: str):
    """Names that begin alike, like bank and bank-2, included."""
    one, other = pair
    own = rights(one, pair)
    for name in names_of(one, job):
        assert all(allows(pattern, name) for pattern in own.values()), name
    for name in names_of(other, job):
        assert not any(allows(pattern, name) for pattern in own.values()), name


@given(two_parties)
def test_a_party_writes_its_own_exchange_alone_and_creates_none(pair: tuple[str, str]):
    """And binds to those of the parties listed, but not to a stranger's."""
    one, other = pair
    own = rights(one, pair)
    assert allows(own["write"], topology.exchange(one))
    assert allows(own["read"], topology.exchange(one))
    assert allows(own["read"], topology.exchange(other))
    foreign = [topology.exchange(other), topology.DEAD_EXCHANGE, "amq.default", "amq.topic", "amq.gen-abc", ""]
    assert not any(allows(own["write"], name) for name in foreign)
    assert not any(allows(own["configure"], name) for name in [*foreign, topology.exchange(one)])
    assert not allows(rights(one, [one])["read"], topology.exchange(other))
    for what in ("configure", "write", "read"):
        assert not allows(own[what], f"{topology.exchange(one)}\n")


@given(two_parties, job_ids, st.sampled_from(Round))
def test_a_party_binds_by_its_own_keys_and_by_none_that_take_anothers(pair: tuple[str, str], job: str, round_: Round):
    """Wildcards before its name are its own matter; none can stand for the name itself."""
    one, other = pair
    mine = topic_rights(one, other)["read"]
    theirs = topology.routing_key(job, round_, other)
    for key in (topology.routing_key(job, round_, one), topology.announce_key("*", one), f"#.to.{one}", f"*.to.{one}"):
        assert allows(mine, key)
        assert not matches(key, theirs)
    for key in ("#", "*.#", "#.to.*", "#.to.#", "job.#", theirs, f"#.to.{one}.#", f"#.to.{one}.*", f"#.to.{one}\n"):
        assert not allows(mine, key), key
    assert topic_rights(one, other)["write"] != topic_rights(one, one)["write"]


@given(st.lists(party_names, min_size=1, max_size=4, unique=True), job_ids)
def test_every_queue_of_a_party_is_bounded_by_one_policy(parties: list[str], job: str):
    """The one of the highest priority; standing queues and dead letters never expire, a job's do."""
    found = {party: policies(party) for party in parties}
    for party in parties:
        for name in [*names_of(party, job), f"tercet.{party}.whatever"]:
            fitting = [p for each in found.values() for p in each if allows(p["pattern"], name)]
            best = max(p["priority"] for p in fitting)
            (policy,) = (p for p in fitting if p["priority"] == best)
            assert policy in found[party]
            assert policy["definition"]["max-length-bytes"] > 0
            lasts = name in (topology.standing_queue(party, []).name, topology.dead_letter_queue(party).name)
            assert ("expires" in policy["definition"]) == (not lasts)


@pytest.mark.parametrize("name", ["", "from", "broker", "Bank", "b.*", "bank|card", "a" * 33, "bank\n", "-bank"])
def test_a_name_that_no_party_has_is_refused(name: str):
    """Before it is part of a pattern."""
    with pytest.raises(NoName):
        definitions({name: NO_PASSWORD}, "tercet")


def run(*arguments: Any) -> Any:
    """The command."""
    return CliRunner().invoke(app, ["broker", "definitions", *map(str, arguments)])


def test_passwords_are_in_private_files_and_nowhere_else(tmp_path: Path):
    """Not in the output, not in the definitions; and no two are the same."""
    out = tmp_path / "definitions.json"
    done = run("bank", "card", "--out", out)
    assert done.exit_code == 0, done.output
    logins = {party: (tmp_path / f"{party}.credentials.toml") for party in ("bank", "card")}
    passwords = {party: re.findall(r'password = "(.+)"', path.read_text())[0] for party, path in logins.items()}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in logins.values())
    assert passwords["bank"] != passwords["card"]
    assert all(len(password) >= 40 for password in passwords.values())
    for password in passwords.values():
        assert password not in done.output + out.read_text()
    users = {user["name"]: user for user in json.loads(out.read_text())["users"]}
    assert users["bank"]["password_hash"] != users["card"]["password_hash"]


def test_a_password_hash_is_salted():
    """Two of one password differ."""
    assert password_hash("secret") != password_hash("secret")


def test_a_party_joins_and_the_others_keep_their_logins(tmp_path: Path):
    """By the definitions that were written before."""
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    assert run("bank", "card", "--out", first).exit_code == 0
    refused = run("bank", "card", "telco", "--out", second)
    assert refused.exit_code == 3
    assert not second.exists()
    done = run("bank", "telco", "--out", second, "--from", first)
    assert done.exit_code == 0, done.output
    before, after = (
        {user["name"]: user["password_hash"] for user in json.loads(path.read_text())["users"]}
        for path in (first, second)
    )
    assert after["bank"] == before["bank"]
    assert after.keys() == {"bank", "telco"}
    assert "delete_user card" in done.output


@pytest.mark.parametrize(
    ("vhost", "path"), [((), "tercet"), (("--vhost", "/"), ""), (("--vhost", "two parties"), "two%20parties")]
)
def test_the_url_that_parties_need_is_printed(tmp_path: Path, vhost: tuple[str, ...], path: str):
    """With the virtual host that was made."""
    done = run("bank", "card", "--out", tmp_path / "definitions.json", *vhost)
    assert f'url = "amqps://HOST/{path}" under [broker]' in done.output


def test_with_certificates_nobody_has_a_password(tmp_path: Path):
    """RabbitMQ takes no password at all for a user whose hash is empty."""
    out = tmp_path / "definitions.json"
    assert run("bank", "notary", "--certificates", "--out", out).exit_code == 0
    assert [user["password_hash"] for user in json.loads(out.read_text())["users"]] == ["", ""]
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("arguments", [["bank", "bank"], ["Bank"], ["bank", "--operator", "bank"], ["from"]])
def test_parties_that_cannot_be_are_refused(tmp_path: Path, arguments: list[str]):
    """And nothing is written."""
    assert run(*arguments, "--out", tmp_path / "out.json").exit_code == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"users": [1]}', "[" * 100_000])
def test_earlier_definitions_that_are_none_are_refused(tmp_path: Path, content: str | None):
    """With what to do."""
    earlier = tmp_path / "earlier.json"
    if content is not None:
        earlier.write_text(content)
    done = run("bank", "--from", earlier, "--out", tmp_path / "out.json")
    assert done.exit_code == 3
    assert "error" in done.output
