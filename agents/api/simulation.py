"""Simulates a job over data frames: all its parties in this process, without a broker.

It touches no file of the caller's. What the agents write goes to a private folder that is gone at the end.
"""

import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, Unpack

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from pydantic import ValidationError

from tercet.agents.alignment.named_split import FOLDER as SPLITS
from tercet.agents.api.errors import JobFailed, WorthlessModel, raise_if_failed
from tercet.agents.api.fields import TrainingFields
from tercet.agents.api.frames import check_parties, find_label, table_of, unused_name
from tercet.agents.api.jobs import training_job
from tercet.agents.api.joint_model import joint_model
from tercet.agents.api.logs import quieten_logs
from tercet.agents.api.report import Report
from tercet.agents.api.result import Result, read_scores
from tercet.agents.core.event_loop import background_loop
from tercet.agents.core.problems import JobProblem
from tercet.agents.models.plain_weights import blocks_of_model, class_names, weights_by_party
from tercet.agents.models.scorer import as_scorer
from tercet.agents.reports.build import report_data
from tercet.agents.reports.report import render
from tercet.agents.scorecards.card_file import make_cards
from tercet.agents.simulation.exactness import data_roles, part_folder
from tercet.agents.simulation.simulate import Simulation, Watch, simulate_job
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import TrainingJob
from tercet.schemas.files.mistakes import explain
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.settings import Limits, Partner, Settings, TableSettings

TABLE: Final = "table"  # the name of each party's table
HOLDOUT: Final = 0.2
T = TypeVar("T")

_splits: dict[Path, bytes] = {}  # keys of named splits, by their place in the folder; they end with this process


@dataclass(frozen=True, slots=True)
class Simulated:
    """Holds what a simulation takes.

    Attributes:
        job: with a table called TABLE of each data party.
        tables: by party.
        options: of each party's table, as [tables.NAME] of its settings has them.
        limits: of every party.
    """

    job: TrainingJob
    tables: Mapping[str, pa.Table] = field(repr=False)
    options: Mapping[str, Mapping[str, Any]]
    limits: Limits


def simulate(
    frames: Mapping[str, Any],
    *,
    label: str,
    id: str | None = None,  # noqa: A002 - the word of the settings
    options: Mapping[str, Mapping[str, Any]] | None = None,
    watch: Watch = lambda _: None,
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
        fields: every field of JOB.toml, without its section; docs/jobs.md explains them. `holdout` is 0.2 where nothing
            is said of held-out rows. All simulations of this process that name one `split` hold out the same rows.

    Raises:
        Invalid: an argument is wrong; the text names it.
        JobFailed: the job failed, as it would among real parties.
    """
    check_parties(frames)
    ids = () if id is None else (id,)
    tables = {party: table_of(f"frames[{party!r}]", frame, ids) for party, frame in frames.items()}
    found = find_label(tables, label)
    setup = arrange(tables, label=found, id=id, options=options or {}, fields=_with_held_out_rows(fields))
    return run_simulation(setup, _collect_result, watch)


def _with_held_out_rows(fields: TrainingFields) -> dict[str, Any]:
    chosen = fields.keys() & {"holdout_column", "folds"}
    return {**({} if chosen else {"holdout": HOLDOUT}), **fields}


def arrange(
    tables: Mapping[str, pa.Table],
    *,
    label: tuple[str, str],
    id: str | None,  # noqa: A002
    options: Mapping[str, Mapping[str, Any]],
    fields: Mapping[str, Any],
    limits: Limits | None = None,
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
    job = training_job("simulate", {**names, **more, **fields})
    used = {party: {**options.get(party, {}), "id": id} for party in tables}
    used[owner]["label"] = column
    return Simulated(job, tables, used, limits or Limits())


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
    holds = job.release == "label" and party != job.label
    return Settings(
        party=party,
        role="data" if tables else "helper",
        identity=folder / "unused",
        state=folder / "unused",
        tables=tables,
        partners={job.label: Partner(key="", may_hold_model=True)} if holds else {},
        policy=PolicySettings(
            helper_sees="nothing" if job.is_blind else "scores",
            narrow=job.accept_narrow,
            held_out_scores=job.evaluation.held_out_scores,
        ),
        limits=setup.limits,
        report=False,
    )


def _check_end(simulation: Simulation) -> None:
    status = simulation.label_run.status()
    culprit = None if status.failure is None else simulation.runs.get(status.failure.culprit)
    raise_if_failed(status, None if culprit is None else culprit.status().detail)
    if status.worthless:
        warnings.warn(status.worthless, WorthlessModel, stacklevel=4)


def _collect_result(simulation: Simulation) -> Result:
    run, model = simulation.label_run, joint_model(simulation)
    about = model.description
    outputs = class_names(about.classes, about.outputs)
    weights = weights_by_party(blocks_of_model(model), outputs, network=about.network is not None)
    label = simulation.description.label
    data = report_data(data_roles(simulation)[label], part_folder(simulation, label))
    scores = None if run.scores is None else read_scores(run.scores)
    return Result(
        run.status(),
        weights=lambda: weights,
        report=Report(lambda: render(data)),
        scorer=lambda: as_scorer(model),
        scores=lambda: scores,
        cards=lambda changes: make_cards(model, changes),
    )
