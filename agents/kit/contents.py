"""Fills in the files of each party's start-up kit, from templates beside it.

No private key is among them, and a party's password is in one file of its own folder alone. It touches no disk.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

from jinja2 import Environment

from tercet.agents.core.templates import template_environment
from tercet.agents.kit.logins import credentials_text, hash_passwords
from tercet.agents.kit.toml_text import toml_value
from tercet.broker.rabbitmq.definitions import definitions
from tercet.schemas.files.consortium import Consortium

BROKER: Final = "broker"  # the folder of whoever runs RabbitMQ; no party can be called that
STEPS: Final = "NEXT-STEPS.md"
DEFAULT_TABLE: Final = "records"  # by which the first job names the table of a party that lists none
ROLES: Final = {"label": "label party", "data": "data party", "helper": "helper"}


def kit_contents(consortium: Consortium, passwords: Mapping[str, str], authority: str | None) -> dict[str, str]:
    """Return the text of each file, by its path in the kits' folder.

    Args:
        consortium: the parties and their broker.
        passwords: each party's, or none where they log in by certificate.
        authority: certificates that vouch for the broker, as PEM.
    """
    files = {f"{BROKER}/{name}": text for name, text in _broker_files(consortium, passwords)}
    for party in consortium.parties:
        files |= {f"{party}/{name}": text for name, text in _party_files(consortium, party, passwords)}
        if authority is not None:
            files[f"{party}/authority.pem"] = authority
    return files


def _broker_files(consortium: Consortium, passwords: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    broker = consortium.broker
    hashes = hash_passwords(consortium.parties, passwords)
    yield "definitions.json", json.dumps(definitions(hashes, broker.vhost), indent=1) + "\n"
    values = {"consortium": consortium, "passwords": bool(passwords), "tls": broker.url.startswith("amqps:")}
    yield STEPS, _fill("broker_steps.md", values)


def _party_files(consortium: Consortium, party: str, passwords: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    values = _values(consortium, party, passwords=bool(passwords))
    yield "settings.toml", _fill("settings.toml", values)
    yield "service.conf", _fill("service.conf", values)
    yield STEPS, _fill("party_steps.md", values)
    if party == consortium.label:
        yield "job.toml", _fill("job.toml", values)
    if party in passwords:
        yield "credentials.toml", credentials_text(party, passwords[party])


def _values(consortium: Consortium, party: str, *, passwords: bool) -> dict[str, Any]:
    """Gather what the templates of a party's files say; no password is among it."""
    parties = consortium.parties
    certificates = [] if passwords else [f"{party}.pem"]
    return {
        "consortium": consortium,
        "party": party,
        "partners": [name for name in parties if name != party],
        "roles": {name: ROLES[member.role] for name, member in parties.items()},
        "helper": parties[party].role == "helper",
        "helpers": consortium.of_role("helper"),
        "tables": {
            name: table.model_dump(mode="json", exclude_unset=True) for name, table in parties[party].tables.items()
        },
        "default_table": DEFAULT_TABLE,
        "job_tables": {name: next(iter(parties[name].tables), DEFAULT_TABLE) for name in consortium.data_parties},
        "passwords": passwords,
        "public_files": [*(["authority.pem"] if consortium.broker.authority else []), *certificates],
    }


@cache
def _templates() -> Environment:
    # Neither TOML nor Markdown is HTML; names and addresses have no markup.
    environment = template_environment("kit", "templates", escape=False)
    environment.filters["toml"] = toml_value
    return environment


def _fill(name: str, values: Mapping[str, Any]) -> str:
    return _templates().get_template(f"{name}.j2").render(values)
