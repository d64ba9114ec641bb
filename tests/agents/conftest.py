"""What several files of tests at the agents' level share."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import blake2b
from typing import Any

import pytest
from markupsafe import Markup

import tercet.mpc.plan.planner
from tercet.agents.alignment import first_rows
from tercet.agents.reports import charts
from tercet.broker.sealing.identity import Forged, Identity, PublicIdentity
from tercet.schemas.files.settings import TableSettings
from tercet.tables.snapshot.preview import PreviewResult, preview_table
from tests.agents.scenes import quick_switches as quick_switches  # a fixture of all of them
from tests.virtual_time import VirtualLoop

# Rooms whose tests have sealed control messages. In the others jobs are many and nobody asks what an envelope hides,
# but for tests that are marked `sealed`.
SEALED = {"access", "cli", "core", "daemon", "kit", "machine", "messaging", "page", "scoring", "serving"}
TAG_BYTES = 32


@pytest.fixture(autouse=True)
def cheap_seals(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bind control messages to sender, receiver and address as ever, without their asymmetric cryptography.

    It took a fourth of what a small job takes. A changed byte, or another key, is noticed all the same. Fixtures of a
    module come before this one: their jobs are sealed.
    """
    if request.path.parent.name not in SEALED and not request.node.get_closest_marker("sealed"):
        monkeypatch.setattr(Identity, "seal", _tag)
        monkeypatch.setattr(Identity, "open", _check_tag)


def _tag_of(sender: PublicIdentity, receiver: PublicIdentity, associated: bytes, plaintext: bytes) -> bytes:
    head = sender._raw + receiver._raw + len(associated).to_bytes(4, "big") + associated
    return blake2b(head + plaintext, digest_size=TAG_BYTES).digest()


def _tag(identity: Identity, plaintext: bytes, receiver: PublicIdentity, associated: bytes) -> bytes:
    return _tag_of(identity.public, receiver, associated, plaintext) + plaintext


def _check_tag(identity: Identity, sealed: bytes, sender: PublicIdentity, associated: bytes) -> bytes:
    plaintext = sealed[TAG_BYTES:]
    if sealed[:TAG_BYTES] != _tag_of(sender, identity.public, associated, plaintext):
        raise Forged("a sealed control message does not open")
    return plaintext


LOOKS: dict[tuple[str, ...], PreviewResult] = {}


@pytest.fixture(autouse=True)
def one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look once at tables with the same bytes and settings, of which there are hundreds.

    It took a twentieth of what a small job takes. What is seen in a table is asked in tests/tables.
    """
    monkeypatch.setattr(first_rows, "preview_table", _look)


def _look(name: str, settings: TableSettings, **how: Any) -> PreviewResult:
    path = settings.path
    if how["woe"] or path is None or not path.is_file():
        return preview_table(name, settings, **how)
    content = blake2b(path.read_bytes()).hexdigest()
    key = (name, content, path.suffix, settings.model_dump_json(exclude={"path"}), repr(how))
    if key not in LOOKS:
        LOOKS[key] = preview_table(name, settings, **how)
    return LOOKS[key]


@pytest.fixture(autouse=True)
def empty_charts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw charts where they are looked at alone: they took a quarter of what jobs with pages took."""
    if request.path.parent.name != "reports" or request.node.get_closest_marker("draws_nothing"):
        monkeypatch.setattr(charts, "_figure", lambda *_: Markup('<svg class="chart"></svg>'))


@pytest.fixture
def quiet_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise on what the helper sees that is too small to matter, so that plaintext can be compared with."""
    monkeypatch.setattr(tercet.mpc.plan.planner, "noise_bits_of", lambda _: 24)


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run tests in virtual time, but for those that are marked as having to do with sockets or processes."""
    if item.get_closest_marker("real_time"):
        return {"real": asyncio.new_event_loop}
    return {"virtual": partial(VirtualLoop, threads=item.get_closest_marker("threads") is not None)}
