"""Describes who takes part in a job of any kind, with which table, and how rows are matched.

A description names tables and parties; it never carries a seed, a path, a column's content or a key.
"""

import hashlib
import secrets
from typing import Annotated, Any, ClassVar, Literal, Self

import msgpack
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tercet.schemas.core.names import RESERVED
from tercet.schemas.core.strict import Name, Strict

MAX_PARTIES = 16
MAX_STANDBY = 4

ColumnName = Annotated[str, Field(min_length=1, max_length=256)]
NamedColumns = Annotated[tuple[tuple[Name, tuple[ColumnName, ...]], ...], Field(max_length=MAX_PARTIES)]
"""For some data parties the columns of theirs that a job uses."""


class OmitUnset(Strict):
    """Leaves fields of later releases out of its plain values where they are unset.

    So a job without them keeps its id.
    """

    added: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        said: dict[str, Any] = dump(self)
        fields = type(self).model_fields
        for name in self.added:
            if getattr(self, name) == fields[name].default:
                said.pop(name, None)
        return said


class JobDescription(OmitUnset):
    """Says who takes part with which table, and how rows are matched.

    Attributes:
        alignment: "helper" matches pseudonyms at the helper; "ecdh" between two data parties alone; "aligned" takes
            tables that hold the same ids in the same order already.
        tables: for each data party, in the job's order, the name under which its settings list the table.
        purpose: what the result is for, in the words that the parties have agreed on.
        standby: helpers that take over, in this order, if the one before them falls silent.
    """

    added = frozenset({"purpose", "standby"})

    name: Name
    label: Name
    helper: Name
    tables: tuple[tuple[Name, Name], ...] = Field(min_length=2, max_length=MAX_PARTIES)
    alignment: Literal["helper", "ecdh", "aligned"] = "helper"
    again: str = Field(default="", max_length=32)
    purpose: str = Field(default="", max_length=200)
    standby: tuple[Name, ...] = Field(default=(), max_length=MAX_STANDBY)

    @model_validator(mode="after")
    def _parties_fit(self) -> Self:
        names = self.data_parties
        if len(set(names)) != len(names):
            raise ValueError("a data party is named twice in [tables]")
        if self.label not in names:
            raise ValueError(f"the label party {self.label!r} has no entry in [tables]")
        if len(set(self.helpers)) != len(self.helpers) or set(names) & set(self.standby):
            raise ValueError("standby names parties that have no other part in the job, each once")
        if RESERVED & {*names, *self.helpers}:
            raise ValueError(f"no party can be called {' or '.join(sorted(RESERVED))}")
        if self.helper in names:
            raise ValueError(f"{self.helper!r} can't be both helper and data party")
        if self.alignment == "ecdh" and len(names) > 2:
            raise ValueError(
                'alignment = "ecdh" is for two data parties; among more, some would learn who is in common'
            )
        return self

    @property
    def data_parties(self) -> tuple[str, ...]:
        """The data parties in the job's order, which numbers them in the protocol."""
        return tuple(name for name, _ in self.tables)

    @property
    def parties(self) -> tuple[str, ...]:
        """Everybody: the data parties in order, then the helper."""
        return (*self.data_parties, self.helper)

    @property
    def helpers(self) -> tuple[str, ...]:
        """The helper, and those who stand by."""
        return (self.helper, *self.standby)

    @property
    def everybody(self) -> tuple[str, ...]:
        """The data parties in order, then the helper, then those who stand by."""
        return (*self.data_parties, *self.helpers)

    def helped_by(self, helper: str) -> Self:
        """Return the same job with another one of its helpers at work."""
        return self if helper == self.helper else self.model_copy(update={"helper": helper})

    @property
    def id(self) -> str:
        """The name and the beginning of the digest: the same description has the same id."""
        return f"{self.name}-{self.digest.hex()[:8]}"

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form."""
        return canonical_digest("tercet job description", self.canonical())

    def canonical(self) -> dict[str, Any]:
        """Return everything that the description says, as plain values."""
        return self.model_dump()

    def with_new_id(self) -> Self:
        """Return the same job under an id of its own, to run it again."""
        return self.model_copy(update={"again": secrets.token_hex(8)})

    def table_of(self, party: str) -> str:
        """Return the name under which a data party's settings list the table to use."""
        return dict(self.tables)[party]

    def columns_of(self, _party: str) -> tuple[str, ...] | None:
        """Return the columns of a data party that the job names.

        None where it leaves them to that party, or to the model.
        """
        return None

    def columns_beside(self, party: str) -> tuple[str, ...]:
        """List the columns of a party that the job reads, and that are no features."""
        column = self.holdout_column_of(party)
        return () if column is None else (column,)

    def holdout_column_of(self, _party: str) -> str | None:
        """Return the column of a party that says which rows are held out; None where no column does."""
        return None


def canonical_digest(domain: str, value: Any) -> bytes:
    """Hash a domain string and a value of plain types by SHA-256.

    It is the same at every party.
    """
    return hashlib.sha256(msgpack.packb([domain, value])).digest()


def check_columns(job: JobDescription, named: NamedColumns) -> None:
    """Check that a job names each data party's columns once.

    Raises:
        ValueError: it does not.
    """
    names = [party for party, _ in named]
    if len(set(names)) != len(names) or not set(names) <= set(job.data_parties):
        raise ValueError("[columns] names each data party once, and nobody else")
    for party, columns in named:
        if not (columns or party == job.label) or len(set(columns)) != len(columns):
            raise ValueError(
                f"{party}'s columns under [columns] are each named once, and at least one but at the label party"
            )
