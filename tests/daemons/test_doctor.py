"""`tercet doctor` over a real RabbitMQ: nothing to say of a sound party, and for each fault what to do."""

import asyncio
import datetime as dt
import json
import shutil
import ssl
from collections import namedtuple
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tercet.agents.access import console
from tercet.agents.access.broker import connect, read_credentials
from tercet.agents.access.identity import own_identity
from tercet.agents.cli.app import app
from tercet.agents.daemon import ping
from tercet.agents.daemon.agent import Agent
from tercet.agents.doctor import broker as doctor_broker
from tercet.agents.doctor import local
from tercet.agents.doctor import partners as doctor_partners
from tercet.agents.doctor.broker import check_tls
from tercet.agents.doctor.finding import Finding, Outcome, fail
from tercet.agents.doctor.run import examine
from tercet.broker.sealing.identity import Identity, save_identity
from tercet.schemas.files.settings import BrokerSettings, read_settings
from tercet.schemas.messages.kinds import PROTOCOL_VERSION, PartnerAnswer
from tests.certificates import write_certificate
from tests.guarded import VHOST, Guarded
from tests.rabbitmq_node import Node

PARTIES = ("bank", "card", "notary")
NOWHERE = "amqp://127.0.0.1:1/"


@dataclass
class Place:
    """Three parties' files around one broker; a test spoils them and asks the bank's doctor."""

    folder: Path
    logins: dict[str, str]  # by party, the [broker] part
    keys: dict[str, str] = field(default_factory=dict)

    def write(self) -> "Place":
        """Keys, tables and settings."""
        for party in PARTIES:
            identity = Identity.generate()
            save_identity(identity, self.folder / f"{party}.key")
            self.keys[party] = str(identity.public)
        for party in ("bank", "card"):
            rows = "\n".join(f"c{row},{row % 7},{row % 2}" for row in range(50))
            (self.folder / f"{party}.csv").write_text(f"id,a,label\n{rows}\n")
        for party in PARTIES:
            self.settings(party).write_text(self._text(party))
        return self

    def _text(self, party: str) -> str:
        partners = "".join(f'[partners.{p}]\nkey = "{key}"\n' for p, key in self.keys.items() if p != party)
        table = f'[tables.people]\npath = "{party}.csv"\nid = "id"\n' if party != "notary" else ""
        role = "helper" if party == "notary" else "data"
        head = f'party = "{party}"\nrole = "{role}"\nidentity = "{party}.key"\nstate = "{party}"\n'
        return f"{head}[broker]\n{self.logins[party]}\n{partners}{table}"

    def settings(self, party: str = "bank") -> Path:
        """A party's settings file."""
        return self.folder / f"{party}.toml"

    def edit(self, old: str, new: str) -> None:
        """Change the bank's settings."""
        text = self.settings().read_text()
        assert old in text
        self.settings().write_text(text.replace(old, new))

    async def findings(self) -> list[Finding]:
        """All that the bank's doctor finds."""
        return [finding async for finding in examine(self.settings())]

    async def troubles(self) -> dict[str, Finding]:
        """What is not ok, by check."""
        return {found.check: found for found in await self.findings() if found.outcome is not Outcome.OK}


@pytest.fixture
def place(tmp_path: Path, guarded: Guarded) -> Place:
    """On a node with the generated definitions."""
    logins = {p: f'url = "{guarded.bare_url}"\ncredentials = "{guarded.credentials(p)}"' for p in PARTIES}
    return Place(tmp_path, logins).write()


@pytest.fixture
def alone(tmp_path: Path) -> Place:
    """Without a broker, for what is looked at before it."""
    return Place(tmp_path, dict.fromkeys(PARTIES, f'url = "{NOWHERE}"')).write()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not there is not waited for long; this machine's clock and disk are not what is tested."""
    monkeypatch.setattr(ping, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(console, "ANSWER_SECONDS", 2.0)
    monkeypatch.setattr(local, "is_synchronised", lambda: True)
    monkeypatch.setattr(local, "SPARE_BYTES", 0)


@asynccontextmanager
async def agents_of(place: Place, *parties: str) -> AsyncIterator[None]:
    """The agents of these parties, over the place's broker."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for party in parties:
            settings = read_settings(place.settings(party))
            broker = await connect(settings)
            agent = Agent(settings, own_identity(settings), broker)
            serving = tasks.create_task(agent.serve(stop))
            serving.add_done_callback(lambda _, broker=broker: tasks.create_task(broker.close()))  # type: ignore[misc]
            await agent.ready.wait()
        try:
            yield
        finally:
            stop.set()


async def test_a_sound_party_is_told_that_all_is_well(place: Place) -> None:
    """Each check has one line, the partners' among them; nobody's queues are left, and nothing is mended."""
    async with agents_of(place, *PARTIES):
        found = await place.findings()
    assert {finding.outcome for finding in found} == {Outcome.OK}, [f for f in found if f.outcome is not Outcome.OK]
    checks = [
        "settings", "key", "key of card", "key of notary", "table people", "state", "disk", "clock", "broker", "tls",
        "login", "version", "rights", "rights", "agent", "running settings", "partner card", "clock of card",
        "partner notary", "clock of notary",
    ]  # fmt: skip
    assert [finding.check for finding in found] == checks
    said = {finding.check: finding.said for finding in found}
    assert said["table people"] == "50 rows, 3 columns, every id once"
    assert said["rights"] == "no wider than needed"
    assert said["partner notary"].endswith("helper")


async def test_an_agent_that_is_not_running_is_a_failure(place: Place, guarded: Guarded) -> None:
    """With the command that starts it; and no queue of the doctor's is left."""
    troubles = await place.troubles()
    assert troubles.keys() == {"agent"}
    assert troubles["agent"].outcome is Outcome.FAIL
    assert "`tercet agent`" in troubles["agent"].hint
    assert not [name for name in guarded.queues() if "doctor" in name or "console" in name]


async def test_rights_that_are_wider_than_needed_are_a_warning(tmp_path: Path, rabbitmq: Node) -> None:
    """A broker without the generated definitions works, and lets everybody do everything."""
    login = tmp_path / "credentials.toml"
    login.touch(0o600)
    login.write_text(f'username = "tercet"\npassword = "{rabbitmq.password}"\n')
    bare = f'url = "amqp://127.0.0.1:{rabbitmq.port}/"\ncredentials = "{login}"'
    place = Place(tmp_path, dict.fromkeys(PARTIES, bare)).write()
    async with agents_of(place, "bank", "card", "notary"):
        troubles = await place.troubles()
    assert troubles.keys() == {"rights"}
    assert troubles["rights"].outcome is Outcome.WARN
    assert "wider than needed" in troubles["rights"].said
    assert "tercet broker definitions" in troubles["rights"].hint


async def test_every_right_beyond_the_needed_is_found(place: Place, guarded: Guarded) -> None:
    """To read, declare, write and overhear what is another's, and the default exchange; and one that is missing."""
    settings = read_settings(place.settings())
    login = read_credentials(guarded.credentials("bank"))
    rights = json.loads((guarded.folder / "definitions.json").read_text())["permissions"]
    (own,) = [each for each in rights if each["user"] == "bank"]
    usual = [own[what] for what in ("configure", "write", "read")]

    def permit(user: str, *rights: str) -> None:
        guarded.node.call("rabbit_auth_backend_internal:set_permissions", user, VHOST, *rights, "tests")

    def permit_topics(user: str, *rights: str) -> None:
        guarded.node.call("rabbit_auth_backend_internal:set_topic_permissions", user, VHOST, *rights, "tests")

    async def reported(configure: str, write: str, read: str) -> str:
        permit("bank", configure, write, read)
        found = [finding async for finding in doctor_broker.check_rights(settings, login)]
        return next(finding.said for finding in found if finding.check == "rights" and finding.hint)

    configure, write, read = usual
    try:
        said = await reported(configure + r"|^tercet\.card\.", write + "|^$|^amq.default$", read + r"|^tercet\.card\.")
        assert "declare or delete card's queues, publish to any queue through the default exchange" in said
        assert "read card's queues" in said
        assert "does not let us publish to our exchange" in await reported(configure, r"^tercet\.bank\.", read)
        permit_topics("bank", "tercet.from.card", ".*", ".*")
        said = await reported(configure, write + r"|^tercet\.from\.card$", read)
        assert "publish as card" in said
        assert "overhear what card says to card" in said
    finally:
        permit_topics("bank", "tercet.from.card", r"^\z", r"\.to\.bank\z")
        permit("bank", *usual)


async def test_partners_that_are_away_or_strangers_are_named(place: Place) -> None:
    """One does not run, the other pins another key of ours."""
    text = place.settings("card").read_text().replace(place.keys["bank"], place.keys["card"])
    place.settings("card").write_text(text)
    async with agents_of(place, "bank", "card"):
        troubles = await place.troubles()
    assert troubles.keys() == {"partner card", "partner notary"}
    assert "whether its agent runs" in troubles["partner notary"].hint
    assert "compare each other's keys" in troubles["partner card"].hint


async def test_a_login_that_is_refused_or_unreadable_is_a_failure(place: Place, guarded: Guarded) -> None:
    """And nothing further is asked."""
    wrong = place.folder / "wrong.toml"
    wrong.touch(0o600)
    wrong.write_text('username = "bank"\npassword = "guessed"\n')
    place.edit(str(guarded.credentials("bank")), str(wrong))
    troubles = await place.troubles()
    assert troubles.keys() == {"login"}
    assert troubles["login"].outcome is Outcome.FAIL
    assert "compare `credentials`" in troubles["login"].hint
    assert "guessed" not in str(troubles)
    wrong.chmod(0o644)
    assert "mode 600" in (await place.troubles())["login"].hint


async def test_a_virtual_host_that_is_not_there_is_no_matter_of_credentials(place: Place) -> None:
    """The hint is about the URL."""
    place.edit("/tercet", "/nosuch")
    troubles = await place.troubles()
    assert troubles.keys() == {"login"}
    assert "virtual host 'nosuch'" in troubles["login"].said
    assert "compare `url`" in troubles["login"].hint


@pytest.mark.parametrize(
    ("old", "new", "check", "hint"),
    [
        ('state = "bank"', 'sate = "bank"', "settings", "docs/operations.md lists every field"),
        ('key = "tercet-key-1:', 'key = "tercet-key-0:', "settings", "its keygen printed"),
        ('identity = "bank.key"', 'identity = "nothing.key"', "key", "tercet keygen"),
        ('path = "bank.csv"', 'path = "nothing.csv"', "table people", "tercet table"),
        ('id = "id"', 'id = "a"', "table people", "tercet table"),
        ('state = "bank"', 'state = "bank.csv"', "state", "that the agent's user may write to"),
        (NOWHERE, "amqp://no-such-host.invalid/", "broker", "firewall"),
        ("", "", "broker", "is RabbitMQ running"),
    ],
)
async def test_a_fault_of_this_machine_is_told_with_what_to_do(
    alone: Place, old: str, new: str, check: str, hint: str
) -> None:
    """Whatever else is in order, it is a failure."""
    alone.edit(old, new)
    found = (await alone.troubles())[check]
    assert (found.outcome, hint in found.hint) == (Outcome.FAIL, True), found


async def test_a_key_that_others_may_read_is_a_failure(alone: Place) -> None:
    """It has leaked already, perhaps."""
    (alone.folder / "bank.key").chmod(0o640)
    found = (await alone.troubles())["key"]
    assert found.outcome is Outcome.FAIL
    assert "chmod 600" in found.said


async def test_a_key_from_the_environment_is_taken_out_of_it(alone: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """And serves as the file would."""
    monkeypatch.setenv("TERCET_IDENTITY", (alone.folder / "bank.key").read_text())
    (alone.folder / "bank.key").unlink()
    found = {finding.check: finding for finding in await alone.findings()}
    assert found["key"].outcome is Outcome.OK
    assert alone.keys["bank"] in found["key"].said
    assert "PRIVATE" not in str(found)


async def test_full_disks_wide_folders_and_clocks_that_nobody_keeps_are_told(
    alone: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that has no room for the largest table fails; the others are warnings."""
    monkeypatch.setattr(local, "is_synchronised", lambda: False)
    (alone.folder / "bank").mkdir(mode=0o755)
    usage = namedtuple("usage", "total used free")  # noqa: PYI024
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**40, 0, 100))
    troubles = await alone.troubles()
    assert {check: troubles[check].outcome for check in ("state", "disk", "clock")} == {
        "state": Outcome.WARN, "disk": Outcome.FAIL, "clock": Outcome.WARN,
    }  # fmt: skip
    assert "chmod 700" in troubles["state"].hint
    assert "NTP" in troubles["clock"].hint
    monkeypatch.setattr(local, "SPARE_BYTES", 2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**40, 0, 2**29))
    assert (await alone.troubles())["disk"].outcome is Outcome.WARN


@pytest.mark.parametrize(
    ("answer", "outcomes"),
    [
        ({"lowest": 0, "highest": PROTOCOL_VERSION + 3}, [Outcome.OK, Outcome.OK]),
        ({"lowest": 0, "highest": 0}, [Outcome.FAIL, Outcome.OK]),
        ({"clock": 20.0}, [Outcome.OK, Outcome.WARN]),
        ({"clock": 20.0, "seconds": 15.0}, [Outcome.OK, Outcome.OK]),
        ({"clock": -4000.0}, [Outcome.OK, Outcome.FAIL]),
    ],
)
def test_versions_and_clocks_of_partners_are_judged(answer: dict[str, float], outcomes: list[Outcome]) -> None:
    """No common version, or clocks so far apart that signed jobs are refused: no job can run."""
    usual = {"party": "card", "answered": True, "lowest": PROTOCOL_VERSION, "highest": PROTOCOL_VERSION}
    found = list(doctor_partners._partner(PartnerAnswer.model_validate(usual | answer)))
    assert [finding.outcome for finding in found] == outcomes


@pytest.mark.parametrize(
    ("version", "outcome"),
    [
        ("3.10.8", Outcome.OK),
        ("4.0.5", Outcome.OK),
        ("3.13.7", Outcome.WARN),
        ("4.1.0", Outcome.WARN),
        ("3.9.29", Outcome.FAIL),
    ],
)
def test_versions_of_rabbitmq_are_judged(version: str, outcome: Outcome) -> None:
    """What Tercet was run on, what it was not, and what is too old."""
    assert doctor_broker._version("RabbitMQ", version).outcome is outcome


async def test_certificates_are_told_with_their_last_day(tmp_path: Path) -> None:
    """Ours and the broker's: valid, soon to end, ended; and TLS that does not come about."""
    authority = write_certificate(tmp_path, "authority", None)
    for name in ("server", "bank"):
        write_certificate(tmp_path, name, authority)
    (tmp_path / "bank.key").chmod(0o600)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=serving)
    async with server:
        url = f"amqps://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        files = {"ca": tmp_path / "authority.pem", "certificate": tmp_path / "bank.pem", "key": tmp_path / "bank.key"}
        broker, now = BrokerSettings(url=url, **files), dt.datetime.now(dt.UTC)
        for days, outcome in ((-40, Outcome.OK), (0, Outcome.WARN), (3, Outcome.FAIL)):
            found = [finding async for finding in check_tls(broker, now + dt.timedelta(days=days))]
            assert [finding.outcome for finding in found] == [outcome] * 3
        (stranger,) = [finding async for finding in check_tls(BrokerSettings(url=url), now)]
        assert (stranger.outcome, "authority" in stranger.hint) == (Outcome.FAIL, True)


async def test_a_password_that_crosses_a_network_in_clear_is_a_warning() -> None:
    """On this machine it does not."""
    for url, outcome in (("amqp://localhost/", Outcome.OK), ("amqp://broker.example/", Outcome.WARN)):
        (found,) = [finding async for finding in check_tls(BrokerSettings(url=url), dt.datetime.now(dt.UTC))]
        assert found.outcome is outcome


def test_the_command_prints_a_line_for_each_check_and_ends_with_3(alone: Place) -> None:
    """For people and for scripts."""
    done = CliRunner().invoke(app, ["doctor", "--settings", str(alone.settings())])
    assert done.exit_code == 3
    assert "ok   table people: 50 rows" in done.output
    assert "fail broker: nobody answers" in done.output
    assert "     do: is RabbitMQ running" in done.output
    done = CliRunner().invoke(app, ["doctor", "--settings", str(alone.settings()), "--format", "json"])
    assert done.exit_code == 3
    reported = json.loads(done.output)
    assert {"check", "outcome", "said", "hint"} == reported[0].keys()
    assert all(found["hint"] for found in reported if found["outcome"] != "ok")


def test_no_finding_goes_without_a_hint() -> None:
    """Not even by mistake."""
    with pytest.raises(ValueError, match="what to do"):
        fail("rights", "none", "")
