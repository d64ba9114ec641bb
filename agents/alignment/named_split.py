"""Keeps the keys of named splits, by which jobs hold out the same rows.

The data parties make a key in the first job that names the split, from what all of them contribute. The helper has no
part in it. Each keeps it on its own disk, and sends a proof of it and never the key.
"""

import hashlib
import hmac
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import msgpack
from pydantic import Field, ValidationError

from tercet.agents.core.problems import JobProblem
from tercet.agents.session.context import JobContext
from tercet.mpc.randomness.secret_order import derive_subkey
from tercet.schemas.core.strict import Name, Strict
from tercet.schemas.files.job import PredictionJob
from tercet.schemas.messages.kinds import SplitKey
from tercet.schemas.messages.message import Digest
from tercet.tables.core.durable import write_durably

FOLDER: Final = "splits"  # in the state folder
MOST_BYTES: Final = 2**12

_in_progress: set[Path] = set()  # keys that jobs of this process are agreeing on


class StoredKey(Strict):
    """Holds a split's key as the disk has it.

    Attributes:
        agreed: whether all data parties are known to have stored it.
    """

    split: Name
    parties: tuple[Name, ...]
    key: Digest = Field(repr=False)
    agreed: bool


class UnusableKey(ValueError):
    """Says that a stored key cannot be read."""


class NamedSplit:
    """Agrees on one split's key with the other data parties of a job."""

    def __init__(self, context: JobContext, name: str) -> None:
        self._context, self._name = context, name
        self._parties = tuple(sorted(context.description.data_parties))
        digest = hashlib.sha256(msgpack.packb(["tercet split", name, self._parties])).hexdigest()
        self._path = context.settings.state / FOLDER / f"{name}.{digest[:16]}"

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Keep other jobs of this agent from agreeing on the same key meanwhile.

        Raises:
            JobProblem: another job is at it.
        """
        if self._path in _in_progress:
            raise self._problem(self._context.me, "is agreeing on its key in another job", "run this one again")
        _in_progress.add(self._path)
        try:
            yield
        finally:
            _in_progress.discard(self._path)

    async def agree(self, alignment_key: bytes) -> bytes:
        """Return the split's key, 32 bytes; where no party has one yet, that of this run.

        Raises:
            JobProblem: a party has lost the key or has another one, or the disk cannot be used.
        """
        context, stored = self._context, self._stored()
        key = derive_subkey(alignment_key, "named split") if stored is None else stored.key
        nonce, agreed = derive_subkey(alignment_key, "proof of a split"), stored is not None and stored.agreed
        mine, deadline = SplitKey(agreed=agreed, proof=_proof(key, nonce, context.me)), context.deadline("alignment")
        await context.mailbox.send(mine, context.partners, deadline)
        theirs = await context.mailbox.receive(SplitKey, context.partners, deadline)
        if not (agreed or any(one.agreed for one in theirs.values())):
            key = derive_subkey(alignment_key, "named split")
            self._store(key, agreed=False)
            return key
        fits = {party: hmac.compare_digest(one.proof, _proof(key, nonce, party)) for party, one in theirs.items()}
        self._check(theirs, fits, agreed=agreed)
        return key

    def confirm(self, key: bytes) -> None:
        """Note that all data parties have stored the key; only now may a later job rely on it.

        Raises:
            JobProblem: the disk cannot be used.
        """
        stored = self._stored()
        if stored is None or not stored.agreed:
            self._store(key, agreed=True)

    def _check(self, theirs: Mapping[str, SplitKey], fits: Mapping[str, bool], *, agreed: bool) -> None:
        me, label = self._context.me, self._context.description.label
        wrong = [party for party in self._context.partners if not fits[party]]
        if not wrong:
            return
        restore = f"restore it from a copy of the folder {FOLDER} in its state, or name another split in the job"
        for party in wrong:
            if agreed and not theirs[party].agreed:
                raise self._problem(party, "has no key of it any more, and the others have", restore)
        if not agreed:
            raise self._problem(me, "has no key of it any more, and the others have", restore)
        # A party that differs from the label party is at fault.
        raise self._problem(me if label in wrong else wrong[0], "has another key of it than the others", restore)

    def _problem(self, party: str, what: str, mend: str) -> JobProblem:
        return JobProblem("split.key", party, f"no split {self._name!r}: {party} {what}; {mend}", f"{self._path}")

    def _stored(self) -> StoredKey | None:
        try:
            found = read_key(self._path)
        except (UnusableKey, OSError) as problem:
            me = self._context.me
            public = f"no split {self._name!r}: {me} cannot read its key; restore it from a copy, or name another split"
            why = problem.strerror if isinstance(problem, OSError) else str(problem)
            raise JobProblem("split.key", me, public, f"{self._path}: {why}") from None
        if found is not None and (found.split, found.parties) != (self._name, self._parties):
            raise self._problem(self._context.me, "has the key of another split in its place", "restore it from a copy")
        return found

    def _store(self, key: bytes, *, agreed: bool) -> None:
        stored = StoredKey(split=self._name, parties=self._parties, key=key, agreed=agreed)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(self._path, msgpack.packb(stored.model_dump()))
        except OSError as error:
            me = self._context.me
            public = f"{me} cannot write the key of the split {self._name!r} to its disk"
            raise JobProblem("disk.write", me, public, f"{self._path}: {error.strerror}") from None


@asynccontextmanager
async def agree_on_split_key(context: JobContext, alignment_key: bytes) -> AsyncIterator[bytes]:
    """Agree on the key of held-out rows; it counts once the body has found the rows.

    Without a split it is that of the alignment.

    Raises:
        JobProblem: as `NamedSplit` does.
    """
    job = context.description
    name = None if isinstance(job, PredictionJob) else job.evaluation.split
    if name is None:
        yield alignment_key
        return
    split = NamedSplit(context, name)
    with split.reserve():
        key = await split.agree(alignment_key)
        yield key
        split.confirm(key)  # a partner that has found the same rows had stored this key before


def read_key(path: Path) -> StoredKey | None:
    """Read a key's file; None if there is none.

    Raises:
        UnusableKey: it is damaged.
        OSError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return StoredKey.model_validate(msgpack.unpackb(file.read(MOST_BYTES), use_list=False))
    except FileNotFoundError:
        return None
    except (ValidationError, ValueError, msgpack.UnpackException):
        raise UnusableKey("damaged") from None


def _proof(key: bytes, nonce: bytes, party: str) -> bytes:
    """Prove that `party` has the key, in this run only."""
    return hmac.digest(derive_subkey(key, "proof"), nonce + party.encode(), "sha256")
