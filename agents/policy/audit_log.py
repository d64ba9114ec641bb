"""Writes a party's audit log: chained JSON lines, on the disk before anything goes on.

It holds names, codes, counts and digests, never a row, a share or a key. Somebody who may write the file can cut off
its end: a copy of the last hash in another place reveals that. Or they can write the whole file anew: the signed lines
that end each job reveal that.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tercet.broker.sealing.identity import Forged, Identity, PublicIdentity, parse_public
from tercet.schemas.files.invalid import Invalid
from tercet.tables.core.durable import append_durably

GENESIS: Final = "0" * 64
FIELDS: Final = frozenset({"seq", "time", "event", "job", "run", "fields", "previous", "hash"})
KEYS: Final = frozenset({"opened", "rekeyed"})  # events whose lines name the party's key for the lines that follow
SIGNED: Final = KEYS | {"ended"}  # events whose lines are signed
_HASH_DOMAIN, _SIGNATURE_DOMAIN = b"tercet audit line", b"tercet audit signature"


class BrokenLog(ValueError):
    """Names the line of an audit log that was changed, and why it is known to be."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Holds one line; `run` is in hexadecimal, `fields` belong to the event."""

    seq: int
    time: str
    event: str
    job: str
    run: str
    fields: dict[str, Any]
    previous: str
    hash: str
    signature: str = ""

    @property
    def content(self) -> dict[str, Any]:
        """The bytes that a signature covers."""
        names = FIELDS - {"hash"}
        return {name: getattr(self, name) for name in names}

    def line(self) -> bytes:
        """Format this entry; equal entries give the same bytes."""
        return _canonical(_signed(self.content, self.signature) | {"hash": self.hash}) + b"\n"


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _signed(content: dict[str, Any], signature: str) -> dict[str, Any]:
    return content | {"signature": signature} if signature else content


def _hash(content: dict[str, Any], signature: str) -> str:
    return hashlib.sha256(_HASH_DOMAIN + _canonical(_signed(content, signature))).hexdigest()


def _statement(content: dict[str, Any]) -> bytes:
    return _SIGNATURE_DOMAIN + _canonical(content)


# --- reading


def entries(content: bytes) -> Iterator[Entry]:
    """Read the entries of a log in order; its last line must be whole.

    It checks signatures by the key that the log names last. The reader must check that this is the party's key.

    Raises:
        BrokenLog: at the first line that was altered, removed, added or moved.
    """
    previous, lines, key = GENESIS, content.split(b"\n"), None
    if lines.pop():
        raise BrokenLog(f"line {len(lines) + 1} has no end: the log was cut off, or its agent is writing")
    for number, line in enumerate(lines, 1):
        entry = _parse(number, line)
        if entry.seq != number or entry.previous != previous:
            raise BrokenLog(f"line {number} does not follow the one before it: lines were removed, added or moved")
        if key is None or entry.event in KEYS:
            key = _key_of(number, entry)
        _check_signature(number, entry, key)
        previous = entry.hash
        yield entry


def _parse(number: int, line: bytes) -> Entry:
    try:
        entry = Entry(**json.loads(line))
        if entry.line() == line + b"\n" and entry.hash == _hash(entry.content, entry.signature) and _has_types(entry):
            return entry
    except (ValueError, TypeError, RecursionError):
        pass
    raise BrokenLog(f"line {number} was altered")


def _has_types(entry: Entry) -> bool:
    texts = (entry.time, entry.event, entry.job, entry.run, entry.previous, entry.signature)
    return type(entry.seq) is int and isinstance(entry.fields, dict) and all(isinstance(text, str) for text in texts)


def _key_of(number: int, entry: Entry) -> PublicIdentity:
    try:
        return parse_public(str(entry.fields.get("key")))
    except (ValueError, AttributeError):
        raise BrokenLog(f"line {number} does not name the party's key, which it would if it were the first") from None


def _check_signature(number: int, entry: Entry, key: PublicIdentity) -> None:
    if (entry.event in SIGNED) != bool(entry.signature):
        raise BrokenLog(f"line {number} {'lacks its signature' if entry.event in SIGNED else 'should not be signed'}")
    if not entry.signature:
        return
    try:
        key.verify(bytes.fromhex(entry.signature), _statement(entry.content))
    except (Forged, ValueError):
        raise BrokenLog(
            f"line {number} is not signed by the log's party: the log was written anew by somebody else"
        ) from None


def key_named_last(found: Iterable[Entry]) -> str:
    """Find the public key that checks a log's last signatures."""
    return next((str(entry.fields.get("key")) for entry in reversed(list(found)) if entry.event in KEYS), "")


# --- writing


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class AuditLog:
    """Writes the log of one agent, as its only writer."""

    def __init__(self, path: Path, party: str, identity: Identity, *, now: Callable[[], str] = _now) -> None:
        self.path, self._party, self._identity, self._now = path, party, identity, now
        self._seq, self._last = 0, GENESIS

    def open(self, **known: int) -> list[Entry]:
        """Check the existing log and mend a torn last line, or begin a new log.

        The first line of a new log holds `known`.

        Raises:
            Invalid: somebody has changed the log.
            OSError: the disk cannot be written.
        """
        content = self._content()
        whole, torn = content[: content.rfind(b"\n") + 1], content[content.rfind(b"\n") + 1 :]
        try:
            found = list(entries(whole))
        except BrokenLog as broken:
            raise Invalid(
                f"{self.path}: {broken}; keep this file as evidence, move it away, and start the agent again"
            ) from None
        if found:
            self._seq, self._last = found[-1].seq, found[-1].hash
        if torn:
            self._cut(len(whole))
            digest = hashlib.sha256(torn).hexdigest()
            found.append(self.append("torn", fields={"bytes": len(torn), "sha256": digest}))
        key = str(self._identity.public)
        if not self._seq:
            found.append(self.append("opened", fields={"party": self._party, "key": key, **known}))
        elif key_named_last(found) != key:
            found.append(self.append("rekeyed", fields={"key": key}))
        return found

    def append(self, event: str, job: str = "", run: str = "", fields: dict[str, Any] | None = None) -> Entry:
        """Write a line; it is on the disk when this returns.

        Raises:
            OSError: the disk cannot be written; the log has not changed.
        """
        content: dict[str, Any] = {"seq": self._seq + 1, "time": self._now(), "event": event, "job": job, "run": run}
        content |= {"fields": fields or {}, "previous": self._last}
        signature = self._identity.sign(_statement(content)).hex() if event in SIGNED else ""
        entry = Entry(**content, hash=_hash(content, signature), signature=signature)
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        append_durably(self.path, entry.line())
        self._seq, self._last = entry.seq, entry.hash
        return entry

    def _content(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""

    def _cut(self, size: int) -> None:
        with self.path.open("r+b") as file:
            file.truncate(size)
            os.fsync(file.fileno())
