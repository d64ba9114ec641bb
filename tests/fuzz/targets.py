"""What reads bytes that others wrote, each as a function of bytes that raises nothing unless something is wrong.

The same targets are fed by Hypothesis in the tests and, guided by coverage, by `python -m tests.fuzz`. Nothing here
makes up inputs, and nothing looks at what was read but whether it is what was promised.
"""

import asyncio
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from structlog.testing import capture_logs

from tercet.agents.access.broker import read_credentials
from tercet.agents.jobs.records import Records
from tercet.agents.models.full_model import read as read_model
from tercet.agents.models.manifest import ModelPartProblem
from tercet.agents.models.model_part import MANIFEST, load
from tercet.agents.policy.audit_log import BrokenLog, _hash, entries
from tercet.agents.session.checkpoint_store import CheckpointFolder
from tercet.agents.session.fixed_randomness import FILE, FixedRandomness
from tercet.broker.rabbitmq import frames
from tercet.broker.rabbitmq.wire import Wire
from tercet.broker.sealing.handshake import SessionSecrets
from tercet.broker.sealing.identity import Forged, Identity, load_identity, parse_public
from tercet.broker.sealing.key_problem import KeyProblem
from tercet.broker.sealing.seal import SessionSeal
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import read_job
from tercet.schemas.files.settings import read_settings
from tercet.schemas.messages.address import MalformedAddress, parse_address
from tercet.schemas.messages.codec import MalformedMessage, decode_all, encode
from tercet.schemas.messages.message import Message
from tests.fuzz import seeds

Run = Callable[[bytes], None]
SLACK = 2 * 2**20  # bytes that reading anything may take: regular expressions, validators, a traceback


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        run: reads the bytes; whatever it raises is a finding.
        seeds: inputs to begin with, all of them valid.
        memory: bytes that it may take at most for each byte of its input, beside `SLACK`.
    """

    name: str
    run: Run
    seeds: Callable[[], list[bytes]]
    memory_mib: int = 200


class Finding(AssertionError):
    """A reader has let something through that it promises not to."""


def promised(holds: bool, what: str) -> None:
    """Raises Finding unless it holds."""
    if not holds:
        raise Finding(what)


def _codec(data: bytes) -> None:
    try:
        message, along = decode_all(data)
    except MalformedMessage as error:
        promised(len(str(error)) < 200, "the error is long enough to hold what was refused")
        return
    promised(isinstance(message, Message), "something else than a message")
    again, companions = decode_all(encode(message, along))
    promised(encode(again, companions) == encode(message, along), "a message that changes on its way")


def _address(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        address = parse_address(text)
    except MalformedAddress:
        return
    promised(str(address) == text, "two texts for one address")
    promised(len(text.encode()) <= 255, "an address that fits no message id")


class _Hearer:
    """Reads all of what it hears, as consumers and publishers do."""

    def on_answer(self, tag: int, *, many: bool, positive: bool) -> None:
        promised(0 <= tag < 2**64, "a confirm of no message")

    def on_message(self, method: bytes, header: bytes, body: bytes) -> None:
        if method.startswith(frames.DELIVER):
            frames.read_delivery(method)
        promised(all(len(text) <= 255 for text in frames.read_properties(header)), "a text without end")

    def on_close(self, error: BaseException) -> None:
        promised(isinstance(error, Exception), "a reason that is none")


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _frames(data: bytes) -> None:
    """In two pieces, on a channel of ours."""
    wire = Wire(_loop())
    wire.listen(1, _Hearer())
    with capture_logs():
        wire.feed_data(data[: len(data) // 2])
        wire.feed_data(data[len(data) // 2 :])


def _settings(data: bytes) -> None:
    try:
        settings = read_settings(_file(data, "party.toml"))
    except Invalid as error:
        promised(len(str(error)) < 2000 + 400 * data.count(b"\n") + 8 * len(data), "an endless error")
        return
    promised(settings.state.is_absolute(), "a path that depends on where the agent was started")


def _job(data: bytes) -> None:
    try:
        job = read_job(_file(data, "job.toml"))
    except Invalid:
        return
    promised(read_job(_file(data, "job.toml")).id == job.id, "two ids for one job")
    promised(job.label in job.data_parties, "a job that nobody leads")


def _key(data: bytes) -> None:
    try:
        load_identity(_file(data, "party.key"))
    except KeyProblem as error:
        promised(not _quotes(str(error), data), "an error that holds part of a key file")


def _public(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        key = parse_public(text)
    except KeyProblem as error:
        promised(not _quotes(str(error), data), "an error that holds part of a key")
        return
    promised(str(key) == text, "two texts for one key")


@cache
def _two() -> tuple[Identity, Identity, SessionSeal]:
    pairs = {"card": b"s" * 32}
    return Identity.generate(), Identity.generate(), SessionSeal(SessionSecrets(b"t" * 32, pairs), "bank")


def _seal(data: bytes) -> None:
    bank, card, session = _two()
    for opened in (
        lambda: bank.open(data, card.public, b"address"),
        lambda: session.open("card", data, b"address"),
    ):
        try:
            opened()
        except Forged:
            continue
        raise Finding("a seal that nobody made")


def _credentials(data: bytes) -> None:
    try:
        read_credentials(_file(data, "credentials.toml"))
    except (Invalid, KeyProblem):
        return


def _manifest(data: bytes) -> None:
    _part(_file(data, MANIFEST, _folder_of_weights()).parent)


def _weights(data: bytes) -> None:
    _empty()
    for name, content in seeds.part_with_weights(data).items():
        _file(content, name)
    _part(_folder())


def _part(folder: Path) -> None:
    try:
        part, arrays = load(folder)
        asked = (part.outputs, part.columns_of, part.norm, part.link, part.digest)
    except ModelPartProblem:
        return
    promised(all(array.ndim == 2 for array in arrays.values()), "an array that is no matrix")
    promised(all(known is not None for known in asked), "a manifest that says nothing")


def _exported(data: bytes) -> None:
    try:
        model = read_model(_file(data, "model.safetensors"))
    except ModelPartProblem:
        return
    promised(all(array.ndim == 2 for array in model.arrays.values()), "an array that is no matrix")


def _record(data: bytes) -> None:
    _empty()
    _file(data, "job.json")
    records, strange = Records(_folder()).read_all()
    promised(len(records) + len(strange) == 1, "a file that is neither a record nor strange")


def _audit(data: bytes) -> None:
    try:
        found = list(entries(data))
    except BrokenLog:
        return
    promised(b"".join(entry.line() for entry in found) == data, "two texts of one log")


def _audit_line(data: bytes) -> None:
    """A line with any content, whose hash is right: its own party could have written it."""
    try:
        content = json.loads(data)
        content["hash"] = _hash({k: v for k, v in content.items() if k != "signature"}, content.get("signature", ""))
        line = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return
    _audit(line + b"\n")


def _checkpoint(data: bytes) -> None:
    """A file with any content, whose digest is right."""
    _empty()
    _file(hashlib.sha256(data).digest() + data, seeds.CHECKPOINT)
    folder = CheckpointFolder(_folder(), bytes(32))
    with capture_logs() as logs:
        held = folder.list_held()
    promised(len(held) + len(logs) == 1, "a checkpoint that is neither one nor told")
    if held:
        promised(folder.read(held[0]).held == held[0], "a checkpoint that changes")


def _draws(data: bytes) -> None:
    _empty()
    _file(data, FILE)
    source = FixedRandomness(_folder(), lambda: bytes(32)).start_attempt(bytes(32))
    if source is not None:
        promised(len(source()) == 32, "a contribution of another length")


# --- files


def _empty() -> None:
    for other in _folder().iterdir():
        other.unlink()


@cache
def _temporary(_: str) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tercet-fuzz-")


def _folder(purpose: str = "") -> Path:
    return Path(_temporary(purpose).name)


@cache
def _folder_of_weights() -> Path:
    """A folder with all of a model part but its manifest, which thousands of manifests take turns in."""
    for name, content in seeds.weights_files().items():
        path = _file(content, name, _folder("weights"))
    return path.parent


def _file(data: bytes, name: str, folder: Path | None = None) -> Path:
    """A file of this user's own."""
    path = (folder or _folder()) / name
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    return path


def _quotes(text: str, data: bytes, length: int = 24) -> bool:
    """Whether a text holds so many bytes in a row of what was read."""
    said = text.encode("utf-8", "surrogateescape")
    return any(data[start : start + length] in said for start in range(len(data) - length + 1))


TARGETS = {
    target.name: target
    for target in (
        Target("codec", _codec, seeds.bodies),
        Target("frames", _frames, seeds.frames),
        Target("address", _address, seeds.addresses),
        Target("settings", _settings, seeds.settings_files, memory_mib=2000),
        Target("job", _job, seeds.job_files, memory_mib=2000),
        Target("key", _key, seeds.key_files),
        Target("public-key", _public, seeds.public_keys),
        Target("seal", _seal, seeds.sealed),
        Target("credentials", _credentials, seeds.credentials_files, memory_mib=2000),
        Target("manifest", _manifest, seeds.manifests, memory_mib=2000),
        Target("weights", _weights, seeds.weights),
        Target("exported", _exported, seeds.exported, memory_mib=2000),
        Target("record", _record, seeds.records, memory_mib=2000),
        Target("audit", _audit, seeds.audit_logs, memory_mib=2000),
        Target("audit-line", _audit_line, seeds.audit_lines, memory_mib=2000),
        Target("checkpoint", _checkpoint, seeds.checkpoints, memory_mib=2000),
        Target("drawn", _draws, seeds.draws),
    )
}
