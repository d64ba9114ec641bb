"""Describes one agent's settings: name, keys, broker, tables, partners and waits.

Its operator writes them.

Read once at start; holds paths to secrets and never a secret itself.
"""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator

from tercet.schemas.core.key_text import without_checksum
from tercet.schemas.core.names import RESERVED
from tercet.schemas.core.strict import Name, TomlModel
from tercet.schemas.files.agent_settings import ConsoleSettings, MonitorSettings
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import read_toml
from tercet.schemas.files.mistakes import explain
from tercet.schemas.files.page_settings import PageSettings
from tercet.schemas.files.policy import DAY_SECONDS, PartnerPolicy, PolicySettings, TablePolicy
from tercet.schemas.files.recovery import Recovery

MIB = 2**20
SOCKET = "agent.sock"
Cuts = Annotated[tuple[float, ...], Field(min_length=1, max_length=999)]
SECRETS = {"password", "sslpassword"}  # options of a database's URL


class BrokerSettings(TomlModel):
    """Says where RabbitMQ is and how to prove who connects."""

    url: str = "amqp://localhost:5672/"
    credentials: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @field_validator("url")
    @classmethod
    def _no_secret_in_the_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"amqp", "amqps"} or not parts.hostname:
            raise ValueError("write amqp://host:port/ or amqps://host:port/")
        if parts.password is not None:
            raise ValueError("a password does not belong in the settings; put it into the credentials file")
        return url

    @model_validator(mode="after")
    def _certificates_fit(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        if not self.url.startswith("amqps:") and (self.ca, self.certificate) != (None, None):
            raise ValueError("ca, certificate and key need TLS: write amqps:// in url, or leave them out")
        return self


BESIDE = ("holdouts", "offsets", "weights")  # settings that list columns which are no features


class TableSettings(TablePolicy):
    """Describes one table that jobs may name: a file, or a query of a database.

    Attributes:
        path: a .csv, .csv.gz or .parquet file, or a folder of .parquet files that make one table.
        database: postgresql://host:port/name or sqlite:///file instead, together with `query`.
        query: what to ask it; run once for each job.
        credentials: file with `username` and `password` of the database.
        id: the column by which rows of different parties are matched.
        label: the column to predict.
        positive: of a label of two classes the one that becomes 1.
        columns: the ones to use; by default all but the id and the label.
        exclude: instead of `columns`: the ones not to use.
        holdouts: columns that are not features, by which a job of this label party may hold rows out: dates or flags.
        weights: likewise, by which a job of this label party may weigh rows.
        offsets: likewise, which a job of this label party may add to scores: offsets, or exposures by their logarithms.
        numeric: columns to take as numbers, whatever they look like.
        categorical: columns to one-hot encode. Of those in neither list the type decides.
        cuts: for some numeric columns where their bins begin, from the second on, rising, whatever a job says of bins.
        monotone: whether numeric columns' bins are merged until the label's rate rises or falls from bin to bin, where
            this party is told weights of evidence.
        missing: what becomes of a value that is not there.
        clip: standardised numbers end here.
        rare: categories with fewer training rows than this become one.
        whiten: whether to decorrelate the encoded columns for models without hidden layers, which then take fewer
            epochs; not where there are more than 1024. Unset it does so unless another party would
            get the covariance of the columns with them, by `release = "label"`.
    """

    path: Path | None = None
    database: str | None = None
    query: str | None = None
    credentials: Path | None = None
    id: str
    label: str | None = None
    positive: str | None = Field(default=None, min_length=1)
    columns: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    holdouts: tuple[str, ...] = ()
    offsets: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    cuts: dict[str, Cuts] = {}
    monotone: bool = False
    missing: Literal["impute", "refuse"] = "impute"
    clip: float = Field(default=16.0, gt=0, le=16)
    rare: int = Field(default=0, ge=0)
    whiten: bool | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.database is None):
            raise ValueError("write path for a file, or database and query; one of them")
        if (self.database is None) != (self.query is None):
            raise ValueError("database and query go together")
        if self.credentials is not None and self.database is None:
            raise ValueError("credentials are for a database")
        return self

    @field_validator("database")
    @classmethod
    def _no_secret_in_the_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in {"postgresql", "sqlite"}:
            raise ValueError("write postgresql://host:port/name or sqlite:///file")
        if parts.password is not None or SECRETS & parse_qs(parts.query, keep_blank_values=True).keys():
            raise ValueError("a password does not belong in the settings; put it into the credentials file")
        return url

    @field_validator("positive", mode="before")
    @classmethod
    def _class_as_text(cls, positive: object) -> object:
        """Turn a class into text: TOML has 1 and true as well."""
        if isinstance(positive, bool):
            return str(positive).lower()
        return str(positive) if isinstance(positive, int) else positive

    @model_validator(mode="after")
    def _words_go_together(self) -> Self:
        if self.positive is not None and self.label is None:
            raise ValueError("positive names a class of the label; write label too")
        if self.columns is not None and self.exclude:
            raise ValueError("write columns for the ones to use, or exclude for the others; one of them")
        return self

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        both = {*self.numeric, *self.cuts} & set(self.categorical)
        if both:
            raise ValueError(f"{min(both)!r} is listed as numeric and as categorical")
        unused = set(self.exclude) & {*self.numeric, *self.cuts, *self.categorical}
        if unused:
            raise ValueError(f"{min(unused)!r} is excluded, and listed as numeric or categorical")
        return self

    @field_validator("cuts")
    @classmethod
    def _cuts_rise(cls, cuts: dict[str, Cuts]) -> dict[str, Cuts]:
        for name, numbers in cuts.items():
            if any(low >= high for low, high in pairwise(numbers)):
                raise ValueError(f"the cuts of {name!r} rise from each to the next: write them so, each once")
        return cuts

    @model_validator(mode="after")
    def _what_stands_beside_is_no_feature(self) -> Self:
        features = {self.id, self.label, *(self.columns or ()), *self.numeric, *self.cuts, *self.categorical}
        for name in BESIDE:
            used = set(getattr(self, name)) & features
            if used:
                raise ValueError(f"{min(filter(None, used))!r} is listed under {name}, and has another part too")
        return self

    @property
    def beside(self) -> tuple[str, ...]:
        """Columns that are no features, and that a job of this label party may name."""
        return tuple(dict.fromkeys(column for name in BESIDE for column in getattr(self, name)))


class Partner(PartnerPolicy):
    """Describes another party and what it may do.

    `tercet keygen` told its operator the key, and its operator told us.

    Attributes:
        key: as agents write it; in the file it may have a checksum behind it.
    """

    key: str

    @field_validator("key")
    @classmethod
    def _no_letter_is_wrong(cls, key: str) -> str:
        return without_checksum(key)


class Deadlines(TomlModel):
    """Sets seconds to wait, by the name that a report of lateness uses."""

    accept: float = Field(default=30, gt=0)
    approve: float = Field(default=3 * DAY_SECONDS, gt=0)
    ready: float = Field(default=600, gt=0)
    start: float = Field(default=900, gt=0)
    handshake: float = Field(default=60, gt=0)
    alignment: float = Field(default=300, gt=0)
    fit: float = Field(default=600, gt=0)
    terms: float = Field(default=900, gt=0)
    step: float = Field(default=60, gt=0)
    release: float = Field(default=60, gt=0)
    recover: float = Field(default=600, gt=0)
    takeover: float = Field(default=30, gt=0)
    verdict: float = Field(default=5, gt=0)
    heartbeat: float = Field(default=1, gt=0, le=600)
    drain: float = Field(default=10, gt=0)
    serve: float = Field(default=2, gt=0, le=4)

    @model_validator(mode="after")
    def _each_outlasts_what_comes_before(self) -> Self:
        # A party counts as silent after four missed heartbeats, and the helper's step deadline is half of `step`.
        shortest = min(self.accept, self.handshake, self.alignment, self.fit, self.step / 2, self.release)
        if shortest < 5 * self.heartbeat:
            raise ValueError(
                "accept, handshake, alignment, fit and release last at least 5 heartbeats, step at least 10"
            )
        # The label party says `start` when everybody has accepted and is ready, one wait after the other.
        if self.start < self.accept + self.ready:
            raise ValueError("start lasts at least as long as accept and ready together")
        # The helper may wait for them from the moment that its part in the alignment is done.
        if self.terms < self.alignment + self.fit:
            raise ValueError("terms lasts at least as long as alignment and fit together")
        return self


class Limits(TomlModel):
    """Limits the machine's share that one agent may use.

    A large product takes as many threads as there are processors.
    """

    in_flight_mib: int = Field(default=64, ge=1)
    part_bytes: int = Field(default=MIB, ge=1024, le=8 * MIB)
    message_mib: int = Field(default=1024, ge=1)
    look_ahead: int = Field(default=4, ge=1, le=64)
    parallel_jobs: int = Field(default=16, ge=1)
    min_rows: int = Field(default=32, ge=1)
    min_scored_rows: int = Field(default=32, ge=1)
    min_loss_rows: int = Field(default=32, ge=32)  # of each label value; fewer would tell of single rows
    min_cell: int = Field(default=20, ge=1)  # rows of a bin, of each class, of which statistics tell
    max_scorings: int = Field(default=16, ge=0)
    threads: int | None = Field(default=None, ge=1)


class Settings(TomlModel):
    """Describes one agent."""

    party: Name
    role: Literal["data", "helper"] = "data"
    identity: Path
    state: Path
    broker: BrokerSettings = BrokerSettings()
    tables: dict[Name, TableSettings] = {}
    partners: dict[Name, Partner] = {}
    deadlines: Deadlines = Deadlines()
    limits: Limits = Limits()
    recovery: Recovery = Recovery()
    monitor: MonitorSettings = MonitorSettings()
    page: PageSettings = PageSettings()
    console: ConsoleSettings = ConsoleSettings()
    policy: PolicySettings = PolicySettings()
    report: bool = True  # whether a page is written about each job that is done

    @property
    def socket(self) -> Path:
        """Path at which people on the same machine reach the agent."""
        return self.console.socket or self.state / SOCKET

    @model_validator(mode="after")
    def _role_fits(self) -> Self:
        if self.role == "helper" and self.tables:
            raise ValueError('a helper holds no tables; remove [tables] or write role = "data"')
        if RESERVED & {self.party, *self.partners}:
            raise ValueError(f"no party can be called {' or '.join(sorted(RESERVED))}")
        if self.party in self.partners:
            raise ValueError("[partners] lists the party itself")
        return self

    @model_validator(mode="after")
    def _served_tables_exist(self) -> Self:
        for name, partner in self.partners.items():
            if partner.serving_table not in {None, *self.tables}:
                raise ValueError(f"serving_table under [partners.{name}] names a table that [tables] does not list")
        return self

    @model_validator(mode="after")
    def _keys_differ(self) -> Self:
        holders: dict[str, str] = {}
        for name, partner in self.partners.items():
            if (other := holders.setdefault(partner.key, name)) != name:
                raise ValueError(
                    f"{other} and {name} have the same key under [partners]; each party has a key of its own, so ask "
                    f"both again, by telephone"
                )
        return self


def read_settings(path: Path) -> Settings:
    """Read SETTINGS.toml; relative paths in it are relative to its folder.

    Raises:
        Invalid: the file is missing, is not TOML or has a field that is wrong; the text names it.
    """
    content = read_toml(path)
    try:
        settings = Settings.model_validate(content)
    except ValidationError as error:
        raise Invalid(explain(path, error, Settings, content=content)) from None
    try:
        return _anchored(settings, path.parent)
    except RuntimeError:
        raise Invalid(f"{path}: a path begins with ~ and somebody who has no home here; write the whole path") from None


def _anchored(settings: Settings, folder: Path) -> Settings:
    def anchor(model: TomlModel, *fields: str) -> dict[str, Path]:
        paths = {field: getattr(model, field) for field in fields}
        return {field: folder / value.expanduser() for field, value in paths.items() if value is not None}

    broker = settings.broker
    broker = broker.model_copy(update=anchor(broker, "credentials", "ca", "certificate", "key"))
    tables = {
        name: t.model_copy(update=anchor(t, "path", "credentials") | {"database": _anchored_url(t.database, folder)})
        for name, t in settings.tables.items()
    }
    console = settings.console.model_copy(update=anchor(settings.console, "socket"))
    page = settings.page.model_copy(update=anchor(settings.page, "certificate", "key"))
    sections = {"broker": broker, "console": console, "page": page, "tables": tables}
    return settings.model_copy(update=anchor(settings, "identity", "state") | sections)


def _anchored_url(url: str | None, folder: Path) -> str | None:
    """Make the file of SQLite's URL relative to the folder; any other URL stays."""
    prefix = "sqlite:///"
    if url is None or not url.startswith(prefix):
        return url
    return prefix + str(folder / Path(url.removeprefix(prefix)).expanduser())
