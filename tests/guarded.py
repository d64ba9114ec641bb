"""A RabbitMQ node that was loaded with the generated definitions, and its users' logins, for tests.

It makes definitions by the command itself, and loads them as RabbitMQ's own command does.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.rabbitmq_node import Node

PARTIES = ("bank", "bank-2", "card", "eve", "notary")
VHOST = "tercet"


@dataclass(frozen=True)
class Guarded:
    """A node, and a folder with definitions.json and each party's credentials."""

    node: Node
    folder: Path

    def credentials(self, party: str) -> Path:
        """The file that goes into a party's settings."""
        return self.folder / f"{party}.credentials.toml"

    def login(self, party: str) -> tuple[str, str]:
        """User and password."""
        found = tomllib.loads(self.credentials(party).read_text())
        return found["username"], found["password"]

    @property
    def bare_url(self) -> str:
        """The address without a login."""
        return f"amqp://{self.node.address}:{self.node.port}/{VHOST}"

    def url(self, party: str) -> str:
        """The address with a party's login."""
        user, password = self.login(party)
        return f"amqp://{user}:{quote(password)}@{self.node.address}:{self.node.port}/{VHOST}"

    def queues(self) -> dict[str, tuple[int, int, str]]:
        """By name of each of the virtual host's queues its messages, its consumers and its policy."""
        return self.node.queues(VHOST)


def guard(node: Node, folder: Path, *options: str) -> Guarded:
    """Write definitions for these parties, and an operator, and load them into a running node."""
    from typer.testing import CliRunner

    from tercet.agents.cli.app import app

    out = folder / "definitions.json"
    command = ["broker", "definitions", *PARTIES, "--out", str(out), "--operator", "admin", *options]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    node.load_definitions(out)
    return Guarded(node, folder)
