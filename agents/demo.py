"""`tercet demo`: the credit example from tables to held-out AUC, with everybody's alternatives beside it.

Training runs as `simulate` runs it. Afterwards the demo reads the held-out tables of both parties and scores them with
the released parts, which in life would be a joint prediction; the plaintext comparisons exist here only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table as RichTable

from agents import baselines, model_part, show
from agents.exits import JOB_FAILED, Format
from agents.simulate import Simulation, data_roles, simulate, summary
from schemas.job import JobDescription, read_job
from schemas.settings import Settings, read_settings
from tables.source import Table, read_table

Floats = NDArray[np.float64]
JOINT = "tercet"


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The rows that no agent has seen, by party, and their labels."""

    tables: Mapping[str, Table]
    labels: Floats


async def run_demo(out: Path, output: Format) -> None:
    """Train, score, compare, print."""
    folder = example_folder()
    description = read_job(folder / "job.toml")
    settings = {party: read_settings(folder / f"{party}.toml") for party in description.parties}
    introduction(description)
    with show.Bar(description.name) as bar:
        simulation = await simulate(description, settings, out, watch=bar.show)
    result = summary(simulation)
    if not simulation.done:
        show.out.print(show.summary_table(result))
        raise typer.Exit(JOB_FAILED)
    result["held_out_auc"] = compare(simulation, settings)
    if output is Format.JSON:
        show.print_json(result)
    else:
        _print(description, result)


def example_folder() -> Path:
    """Where the credit example is: beside the rooms in a checkout, inside the package in a wheel."""
    here = Path(__file__).parent  # a wheel is unpacked when it is installed, so its data are files too
    installed = here / "credit"
    return installed if installed.is_dir() else here.parent / "examples" / "credit"


def introduction(description: JobDescription) -> None:
    """What is about to happen, on standard error."""
    label, (other,) = description.label, [p for p in description.data_parties if p != description.label]
    show.err.print(
        f"24,000 customers. [bold]{label}[/] knows limits, demographics, payments and who defaulted; [bold]{other}[/] "
        f"knows delays and bills.\nThey train one model over both; [bold]{description.helper}[/] computes the "
        f"activations on values in secret order with secret signs.\n"
    )


def compare(simulation: Simulation, settings: Mapping[str, Settings]) -> dict[str, float]:
    """Held-out AUC: each party alone, Tercet, and all columns pooled in plaintext, all with the job's schedule."""
    description = simulation.description
    roles, held_out = data_roles(simulation), read_held_out(description, settings)
    data = {party: role.data for party, role in roles.items() if role.data is not None}
    label = data[description.label].label
    assert label is not None
    alone = baselines.compare(
        {party: own.features for party, own in data.items()},
        {party: own.encoding.apply(held_out.tables[party]) for party, own in data.items()},
        label[:, 0] + 0.5,
        held_out.labels,
        description.training,
    )
    return alone | {JOINT: baselines.auc(held_out.labels, joint_scores(simulation, held_out))}


def joint_scores(simulation: Simulation, held_out: HeldOut) -> Floats:
    """The sum of what the parties' parts, read back from disk, say of each held-out row."""
    scores = []
    for party, table in held_out.tables.items():
        folder = simulation.runs[party].model_part
        assert folder is not None
        scores.append(model_part.partial_scores(*model_part.load(folder), table))
    return np.asarray(np.sum(scores, axis=0))


def read_held_out(description: JobDescription, settings: Mapping[str, Settings]) -> HeldOut:
    """The held-out file beside each party's training file."""
    tables = {}
    for party, name in description.tables:
        table = settings[party].tables[name]
        path = table.path.with_name(table.path.name.replace("_train", "_heldout"))
        tables[party] = read_table(name, table.model_copy(update={"path": path}), with_label=party == description.label)
    labels = tables[description.label].label
    assert labels is not None
    return HeldOut(tables, labels)


def _print(description: JobDescription, result: dict[str, Any]) -> None:
    table = RichTable("who trains", "columns", "held-out AUC", title="6,000 customers nobody trained on")
    auc, columns = result["held_out_auc"], result["columns"]
    for party in description.data_parties:
        table.add_row(f"{party} alone", str(columns[party]), f"{auc[party]:.4f}")
    total = str(sum(columns.values()))
    table.add_row("[bold]Tercet[/], nobody shows a row", total, f"[bold]{auc[JOINT]:.4f}[/]")
    table.add_row("all pooled in plaintext", total, f"{auc[baselines.POOLED]:.4f}")
    show.out.print(table)
    exact = "equals plaintext fixed point bit for bit" if result["bit_exact"] else "DIFFERS from plaintext"
    show.out.print(
        f"{result['steps']} steps in {result['seconds']:.1f} s, {1000 * result['seconds_per_step']:.1f} ms each, "
        f"{sum(result['bytes'].values()) / 1e6:.0f} MB sent. The joint model {exact}."
    )
    for party, path in result["model_parts"].items():
        show.out.print(f"{party}'s model part: {path}", soft_wrap=True)
