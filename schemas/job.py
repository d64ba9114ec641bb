"""What a training job is: the description that a person writes, and the canonical form that everybody signs.

A description names tables and parties; it never carries a seed, a path, a column's content or a key.
"""

import hashlib
import secrets
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

import msgpack
from pydantic import Field, ValidationError, model_validator

from schemas.strict import Name, Strict

MAX_PARTIES = 16


class Invalid(ValueError):
    """A file that a person wrote does not say what it should; the text says where and how to mend it."""


class Training(Strict):
    """How long and how fast to train; everything a schedule needs."""

    epochs: int = Field(ge=1, le=100_000)
    batch: int = Field(ge=1, le=2**24)
    rate: float = Field(gt=0)
    schedule: Literal["constant", "inverse-time", "exponential"] = "constant"
    decay: float = Field(default=0.0, ge=0)
    l2: float = Field(default=0.0, ge=0, lt=1)


class JobDescription(Strict):
    """One model over several parties' columns."""

    name: Name
    model: Literal["logistic", "linear"]
    label: Name
    helper: Name
    tables: tuple[tuple[Name, Name], ...] = Field(min_length=2, max_length=MAX_PARTIES)
    training: Training
    release: Literal["owners", "shared"] = "owners"
    alignment: Literal["aligned"] = "aligned"
    accept_narrow: bool = False
    again: str = Field(default="", max_length=32)

    @model_validator(mode="after")
    def _parties_fit(self) -> Self:
        names = self.data_parties
        if len(set(names)) != len(names):
            raise ValueError("a data party is named twice in [tables]")
        if self.label not in names:
            raise ValueError(f"the label party {self.label!r} has no entry in [tables]")
        if self.helper in names:
            raise ValueError(f"{self.helper!r} can't be both helper and data party")
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
    def id(self) -> str:
        """The name and the beginning of the digest: the same description has the same id."""
        return f"{self.name}-{self.digest.hex()[:8]}"

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form."""
        return canonical_digest("tercet job description", self.model_dump())

    def anew(self) -> "JobDescription":
        """The same job under an id of its own, to run it again."""
        return self.model_copy(update={"again": secrets.token_hex(8)})

    def table_of(self, party: str) -> str:
        """The name under which a data party's settings list the table to use."""
        return dict(self.tables)[party]


def canonical_digest(domain: str, value: Any) -> bytes:
    """SHA-256 of a domain string and a value of plain types, the same at every party."""
    return hashlib.sha256(msgpack.packb([domain, value])).digest()


def read_job(path: Path) -> JobDescription:
    """Read JOB.toml.

    Raises:
        Invalid: the file is missing, is not TOML or is no job; the text names the field.
    """
    content = read_toml(path)
    tables = content.get("tables")
    if isinstance(tables, dict):
        content["tables"] = tuple(tables.items())
    try:
        return JobDescription.model_validate(content)
    except ValidationError as error:
        raise Invalid(explain(path, error)) from None


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        Invalid: it is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}; give the path of a file that you may read") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path}: not TOML: {error}") from None


def explain(path: Path, error: ValidationError) -> str:
    """One line for each field that is wrong, without the value, which may be secret."""
    lines = [
        f"{path}: {'.'.join(map(str, item['loc'])) or 'the whole'}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors(include_input=False, include_url=False)
    ]
    return "\n".join(lines)
