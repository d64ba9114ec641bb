"""Simulates a job over data frames: all its parties in this process, without a broker.

It touches no file of the caller's. What the agents write goes to a private folder that is gone at the end.
"""

import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, Unpack
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from pydantic import ValidationError

from tercet.agents.alignment.named_split import FOLDER as SPLITS
from tercet.agents.api.errors import JobFailed, WorthlessModel, raise_if_failed
from tercet.agents.api.fields import StatisticsFields, TrainingFields
from tercet.agents.api.frames import check_parties, find_label, table_of, unused_name
from tercet.agents.api.jobs import HELD_OUT, Statistics, training_job
from tercet.agents.api.joint_model import Counted, collect_result, collect_statistics
from tercet.agents.api.logs import quieten_logs
from tercet.agents.api.result import Result
from tercet.agents.core.event_loop import background_loop
from tercet.agents.core.problems import JobProblem
from tercet.agents.simulation.simulate import Simulation, Watch, simulate_job
from tercet.agents.statistics.result import statistics_file
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import StatisticsJob, TrainingJob
from tercet.schemas.files.mistakes import explain
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.settings import Limits, Partner, Settings, TableSettings
from tercet.tables.core.similar_names import list_existing

TABLE: Final = "table"  # the name of each party's table
HOLDOUT: Final = 0.2
NARROW: Final = {"policy.exposure", "policy.narrow"}  # codes of columns that hold too little for scores
ACCEPT: Final = "accept_narrow=True simulates it all the same; real parties would have to agree to that"
T = TypeVar("T")

_splits: dict[Path, bytes] = {}  # keys of named splits, by their place in the folder; they end with this process
_counted: "WeakKeyDictionary[Result, Counted]" = WeakKeyDictionary()  # as long as somebody has the result


@dataclass(frozen=True, slots=True)
class Simulated:
    """Holds what a simulation takes.

    Attributes:
        job: with a table called TABLE of each data party.
        tables: by party.
        options: of each party's table, as [tables.NAME] of its settings has them.
        limits: of every party.
        counted: the statistics job by whose weights of evidence columns are encoded, if any.
    """

    job: TrainingJob | StatisticsJob
    tables: Mapping[str, pa.Table] = field(repr=False)
    options: Mapping[str, Mapping[str, Any]]
    limits: Limits
    counted: Counted | None = None


def simulate(
    frames: Mapping[str, Any],
    *,
    label: str,
    id: str | None = None,  # noqa: A002 - the word of the settings
    options: Mapping[str, Mapping[str, Any]] | None = None,
    watch: Watch = lambda _: None,
    woe: Result | None = None,
    **fields: Unpack[TrainingFields],
) -> Result:
    """Train one model over several parties' frames, as their agents would, in this process.

    >>> import tercet
    >>> bank = {"customer": range(99), "limit": [n % 7 for n in range(99)], "default": [n % 2 for n in range(99)]}
    >>> card = {"customer": range(99), "delay": [n % 5 + 3 * (n % 2) for n in range(99)]}
    >>> frames = {"bank": bank, "card": card}
    >>> result = tercet.simulate(frames, label="bank.default", id="customer", holdout=0, epochs=2)
    >>> [epoch["epoch"] for epoch in result.history]
    [1, 2]
    >>> result.weights["card"]["delay"] > 0
    True

    Args:
        frames: of each data party, in the job's order: of pandas, polars or pyarrow, or a mapping of columns.
        label: the column to predict, `party.column`, or its name where one party alone has it.
        id: the column by which rows are matched, in every frame; without it row n of all frames is the same customer.
        options: by party what [tables.NAME] of its settings may say of its table, such as `categorical`.
        watch: called with the job's status ten times a second.
        woe: what `simulate_statistics` returned with `woe=True`: columns are encoded by its weights of evidence, and
            where nothing is said of held-out rows the same are held out.
        fields: every field of JOB.toml, without its section; docs/jobs.md explains them. `holdout` is 0.2 where nothing
            is said of held-out rows. All simulations of this process that name one `split` hold out the same rows.
            Columns that they name, such as `exposure` or `weights`, are of the label party's frame, and no features.

    Raises:
        Invalid: an argument is wrong; the text names it.
        JobFailed: the job failed, as it would among real parties.
    """
    counted = None if woe is None else _counted.get(woe) if isinstance(woe, Result) else None
    if woe is not None and counted is None:
        raise Invalid("woe: give what tercet.simulate_statistics(..., woe=True) has returned")
    tables, said = _tables_of(frames, id), _with_held_out_rows(fields, counted)
    found = find_label(tables, label)
    setup = arrange(tables, label=found, id=id, options=options or {}, fields=said, counted=counted)
    return run_simulation(setup, collect_result, watch)


def simulate_statistics(
    frames: Mapping[str, Any],
    *,
    label: str,
    id: str | None = None,  # noqa: A002
    options: Mapping[str, Mapping[str, Any]] | None = None,
    watch: Watch = lambda _: None,
    **fields: Unpack[StatisticsFields],
) -> Result:
    """Count the label by bins of several parties' columns, as a statistics job would.

    >>> import tercet
    >>> bank = {"customer": range(400), "limit": [n % 7 for n in range(400)], "default": [n % 2 for n in range(400)]}
    >>> card = {"customer": range(400), "delay": [n % 5 + 3 * (n % 2) for n in range(400)]}
    >>> frames = {"bank": bank, "card": card}
    >>> look = tercet.simulate_statistics(frames, label="bank.default", id="customer", bins=4, woe=True)
    >>> [row["column"] for row in look.columns]
    ['delay', 'limit']

    All parties allow whatever a statistics job can tell, bins of `least` rows, and names of columns. The result has
    what the label party is told, and the bins of every party's own columns.

    Args:
        frames: as of `simulate`.
        label: as of `simulate`.
        id: as of `simulate`.
        options: as of `simulate`.
        watch: as of `simulate`.
        fields: every field of JOB.toml of a statistics job, without its section; docs/jobs.md explains them.

    Raises:
        Invalid: an argument is wrong; the text names it.
        JobFailed: the job failed, as it would among real parties.
    """
    tables, limits = _tables_of(frames, id), Limits(min_cell=fields.get("least", Limits().min_cell))
    found = find_label(tables, label)
    setup = arrange(
        tables, label=found, id=id, options=options or {}, fields=fields, limits=limits, make=_statistics_job
    )
    result, _counted[result] = run_simulation(setup, collect_statistics, watch)
    return result


def _with_held_out_rows(fields: TrainingFields, counted: Counted | None) -> dict[str, Any]:
    """Hold out a part of the rows, or those that were not counted, where nothing is said."""
    if counted is not None and not fields.keys() & {*HELD_OUT, "folds"}:
        evaluation = counted.job.evaluation
        return {**fields, **{name: one for name in HELD_OUT if (one := getattr(evaluation, name)) is not None}}
    chosen = fields.keys() & {"holdout_column", "folds"}
    return {**({} if chosen else {"holdout": HOLDOUT}), **fields}


def _training_job(content: Mapping[str, Any]) -> TrainingJob:
    return training_job("simulate", content)


def _statistics_job(content: Mapping[str, Any]) -> StatisticsJob:
    return Statistics(**content).description


def _tables_of(frames: Mapping[str, Any], id_name: str | None) -> dict[str, pa.Table]:
    """Read all parties' frames as they come."""
    check_parties(frames)
    ids = () if id_name is None else (id_name,)
    return {party: table_of(f"frames[{party!r}]", frame, ids) for party, frame in frames.items()}


def arrange(
    tables: Mapping[str, pa.Table],
    *,
    label: tuple[str, str],
    id: str | None,  # noqa: A002
    options: Mapping[str, Mapping[str, Any]],
    fields: Mapping[str, Any],
    limits: Limits | None = None,
    counted: Counted | None = None,
    make: Callable[[Mapping[str, Any]], TrainingJob | StatisticsJob] = _training_job,
) -> Simulated:
    """Arrange a job over tables by party; `label` is a party and its column.

    Raises:
        Invalid: an argument is wrong; the text names it.
    """
    owner, column = label
    if unknown := options.keys() - tables.keys():
        raise Invalid(f"options: {min(unknown)!r} has no frame")
    helper = "helper"
    while helper in tables:
        helper += "-"
    more: dict[str, Any] = {}
    if id is None:
        tables, id = _numbered(tables)  # noqa: A001
        more["alignment"] = "aligned"
    elif lacking := [party for party, table in tables.items() if id not in table.column_names]:
        raise Invalid(f"id: the frame of {lacking[0]} has no column {id!r}")
    names = {"name": "simulation", "label": owner, "helper": helper, "tables": dict.fromkeys(tables, TABLE)}
    job = make({**names, **more, **fields, **({} if counted is None else {"woe": counted.job.id})})
    used = {party: {**options.get(party, {}), "id": id} for party in tables}
    used[owner] |= {"label": column, **_allowed_beside(job, tables[owner], used[owner])}
    return Simulated(job, tables, used, limits or Limits(), counted)


def _allowed_beside(
    job: TrainingJob | StatisticsJob, table: pa.Table, options: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    """Allow the columns that the job names beside features: the frame is the caller's own.

    Raises:
        Invalid: the label party's frame lacks one.
    """
    named = {"holdout_column": ("holdouts", job.evaluation.holdout_column)}
    if isinstance(job, TrainingJob):
        named |= {
            "offset": ("offsets", job.offset),
            "exposure": ("offsets", job.exposure),
            "weights": ("weights", job.training.weights),
        }
    allowed = {}
    for field_name, (option, column) in named.items():
        if column is None:
            continue
        if column not in table.column_names:
            existing = list_existing(table.column_names, [column])
            raise Invalid(f"{field_name}: the frame of {job.label} has no column {column!r}; {existing}")
        if isinstance(listed := options.get(option, []), list | tuple):
            allowed[option] = (*listed, column)
    return allowed


def _numbered(tables: Mapping[str, pa.Table]) -> tuple[dict[str, pa.Table], str]:
    """Give rows their number as an id; all tables must have as many."""
    rows = {party: table.num_rows for party, table in tables.items()}
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"{party} has {count:,}" for party, count in rows.items())
        raise Invalid(f"id: {counts} rows; without an id all frames have the same customers in the same order")
    name = unused_name("row", tables)
    return {
        party: table.append_column(name, pa.array(np.arange(table.num_rows))) for party, table in tables.items()
    }, name


def run_simulation(setup: Simulated, collect: Callable[[Simulation], T], watch: Watch = lambda _: None) -> T:
    """Run a job with all its parties, and collect what is needed before its folder goes.

    Raises:
        Invalid: an option of a table is wrong.
        JobFailed: the job failed.
    """
    quieten_logs()
    with tempfile.TemporaryDirectory(prefix="tercet-") as name:
        folder = Path(name)
        settings = {party: _settings(setup, party, folder) for party in setup.job.parties}
        for party, table in setup.tables.items():
            parquet.write_table(table, folder / f"{party}.parquet")
        _restore_splits(folder)
        for result in () if setup.counted is None else setup.counted.results:
            result.save(statistics_file(folder / result.party, result.job).parent)
        with background_loop() as run:
            try:
                simulation = run(simulate_job(setup.job, settings, folder, watch=watch))
            except JobProblem as problem:
                raise JobFailed.of_problem(setup.job.id, problem) from None
        _remember_splits(folder)
        _check_end(simulation)
        return collect(simulation)


def _restore_splits(folder: Path) -> None:
    """Give each party its keys of named splits, from this process's earlier simulations."""
    for place, content in _splits.items():
        path = folder / place
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(content)


def _remember_splits(folder: Path) -> None:
    _splits.update({path.relative_to(folder): path.read_bytes() for path in folder.glob(f"*/{SPLITS}/*")})


def _settings(setup: Simulated, party: str, folder: Path) -> Settings:
    job, tables = setup.job, {}
    if party in setup.tables:
        content = {**setup.options[party], "path": folder / f"{party}.parquet"}
        try:
            tables[TABLE] = TableSettings.model_validate(content)
        except ValidationError as error:
            raise Invalid(explain(f"options[{party!r}]", error, TableSettings, content=content)) from None
    holds = isinstance(job, TrainingJob) and job.release == "label" and party != job.label
    return Settings(
        party=party,
        role="data" if tables else "helper",
        identity=folder / "unused",
        state=folder / "unused",
        tables=tables,
        partners={job.label: Partner(key="", may_hold_model=True)} if holds else {},
        policy=_policy(job),
        limits=setup.limits,
        report=False,
    )


def _policy(job: TrainingJob | StatisticsJob) -> PolicySettings:
    """Allow what the job asks for."""
    if isinstance(job, StatisticsJob):
        return PolicySettings(
            statistics="woe", statistics_of_amounts=True, correlations=job.statistics.correlations, column_names=True
        )
    return PolicySettings(
        helper_sees="nothing" if job.is_blind else "scores",
        narrow=job.accept_narrow,
        held_out_scores=job.evaluation.held_out_scores,
    )


def _check_end(simulation: Simulation) -> None:
    status = simulation.label_run.status()
    culprit = None if status.failure is None else simulation.runs.get(status.failure.culprit)
    detail = None if culprit is None else culprit.status().detail
    narrow = status.failure is not None and status.failure.code in NARROW
    if narrow and isinstance(simulation.description, TrainingJob) and not simulation.description.accept_narrow:
        detail = f"{detail}; {ACCEPT}" if detail else ACCEPT
    raise_if_failed(status, detail)
    if status.worthless:
        warnings.warn(status.worthless, WorthlessModel, stacklevel=4)
