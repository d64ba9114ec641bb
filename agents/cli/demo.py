"""Runs the credit example from two companies' files to scores of new customers.

`simulate_job` runs trainings and prediction. Each model is trained twice: once the helper sees nothing, and once scores
in secret order. The second network has ReLU, as the other mode allows. The plaintext comparisons need everybody's rows
in one place, and exist here only.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.compute as pc
import typer
from pyarrow import csv
from rich.table import Table as RichTable

from tercet.agents.cli import rendering
from tercet.agents.cli.runner import JOB_FAILED, Format
from tercet.agents.core.shipped_files import shipped
from tercet.agents.evaluation import baseline_network, baselines
from tercet.agents.session.training_defaults import with_planned_numbers
from tercet.agents.simulation.exactness import first_weights, label_party, row_order
from tercet.agents.simulation.simulate import Simulation, data_roles, simulate_job, summary
from tercet.mpc.arithmetic.fixed import Floats, decode
from tercet.mpc.reference.network import release
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import AnyJob, PredictionJob, TrainingJob, read_job
from tercet.schemas.files.settings import Settings, read_settings

JOINT = "tercet"
SHOWN = "helper_sees_scores"  # the second training
SEES = {True: "nothing", False: "scores in secret order"}  # the helper, by whether the job is blind

J = TypeVar("J", TrainingJob, PredictionJob)

JOBS = {"logistic": "job.toml", "mlp": "mlp.toml"}  # by model


async def run_demo(out: Path, output: Format, model: str = "logistic") -> None:
    """Match, train, compare, score new customers, print."""
    folder = shipped("credit")
    training = _read(TrainingJob, folder / JOBS[model])
    prediction = _read(PredictionJob, folder / "predict.toml")
    prediction = prediction.model_copy(update={"of": training.id})
    settings = {party: read_settings(folder / f"{party}.toml") for party in training.parties}
    introduction(training)
    result = await _train(training, settings, out)
    if training.is_blind:
        result[SHOWN] = await _train(shown(training), settings, out)
    scored = await _run(prediction, settings, out)
    scores = Path(summary(scored)["scores"][prediction.label])
    result["prediction"] = summary(scored) | {"auc": prediction_auc(scores, folder / "new_outcomes.csv")}
    if output is Format.JSON:
        rendering.print_json(result)
    else:
        _print(training, result)


def _read(kind: type[J], path: Path) -> J:
    job = read_job(path)
    if not isinstance(job, kind):
        raise Invalid(f"{path} is not the demo's {kind.__name__}")
    return job


def shown(training: TrainingJob) -> TrainingJob:
    """Return the same job for a helper that sees scores; a network has ReLU there."""
    update: dict[str, Any] = {"privacy": training.privacy.model_copy(update={"helper_sees": "scores"})}
    if training.network is not None:
        update["network"] = training.network.model_copy(update={"activation": "relu"})
    return training.model_copy(update=update)


async def _train(training: TrainingJob, settings: Mapping[str, Settings], out: Path) -> dict[str, Any]:
    """Train, and compare with plaintext over the same rows."""
    trained = await _run(training, settings, out)
    return summary(trained) | {"held_out_auc": compare(trained)}


async def _run(job: AnyJob, settings: Mapping[str, Settings], out: Path) -> Simulation:
    with rendering.Bar(job.name) as bar:
        simulation = await simulate_job(job, settings, out, watch=bar.show)
    if not simulation.done:
        rendering.print_summary(summary(simulation))
        raise typer.Exit(JOB_FAILED)
    return simulation


def introduction(description: TrainingJob) -> None:
    """Describe the demo's plan on standard error."""
    label, (other,) = description.label, [p for p in description.data_parties if p != description.label]
    helper = f"[bold]{description.helper}[/] matches pseudonyms, and "
    if description.is_blind:
        helper += (
            "deals randomness: it sees nothing of the training.\nThen they train once more by the other mode: it "
            "computes activations on noised values in secret order.\n"
        )
    else:
        helper += "computes activations on noised values in secret order with secret signs.\n"
    rendering.err.print(
        f"[bold]{label}[/] knows limits, demographics, payments and who defaulted; [bold]{other}[/] knows delays and "
        f"bills.\nThey find their common customers, train one model over all columns, and score new ones;\n{helper}"
    )


def compare(simulation: Simulation) -> dict[str, float]:
    """Compute held-out AUC of each party alone, of Tercet, and of all columns pooled."""
    label, labels = label_party(simulation)
    held_out, y, plan = label.held_out, labels.centred[:, 0] + 0.5, label.context.plan
    x = {}
    for party, trained in data_roles(simulation).items():
        words = trained.all_words
        x[party] = decode(words.read_rows(np.arange(words.shape[0])), plan.fx)
    alone = baselines.compare(
        {party: columns[~held_out] for party, columns in x.items()},
        {party: columns[held_out] for party, columns in x.items()},
        y[~held_out],
        y[held_out],
        partial(_fit, with_planned_numbers(label.context.description, plan)),
        _train_pooled(simulation),
    )
    return alone | {JOINT: label.context.history.last_metrics["auc"]}


def _train_pooled(simulation: Simulation) -> baselines.Fit | None:
    """Train a plaintext network with the joint one's first weights and order.

    With others it would end some thousandths apart.
    """
    context = label_party(simulation)[0].context
    job, order = context.description, row_order(simulation)
    if job.network is None:
        return None
    begin = release(first_weights(simulation), context.plan, 0)
    weights, biases = [np.vstack(begin.blocks), *begin.upper], [bias[0] for bias in begin.biases]
    model = baseline_network.FittedNetwork(weights, biases, job.network.activation)
    start = baseline_network.Start(model, order.permutation)
    training = with_planned_numbers(job, context.plan).training
    return partial(baseline_network.sgd, training=training, network=job.network, start=start)


def _fit(job: TrainingJob, x: Floats, y: Floats) -> baselines.Model:
    if job.network is None:
        return baselines.sgd(x, y, job.training)
    return baseline_network.sgd(x, y, job.training, job.network)


def prediction_auc(scores: Path, outcomes: Path) -> float:
    """Compute the AUC of new customers' scores against their outcomes."""
    table, truth = csv.read_csv(scores), csv.read_csv(outcomes)
    place = pc.index_in(table["id"], truth["customer"])
    known = truth["defaulted"].take(place)
    return baselines.auc(known.to_numpy().astype(float), table["score"].to_numpy())


def _print(description: TrainingJob, result: dict[str, Any]) -> None:
    rows, prediction = result["table_rows"], result["prediction"]
    sizes = ", ".join(f"{party} has {count:,}" for party, count in rows.items())
    rendering.out.print(
        f"{sizes} customers; {result['rows'] + result['held_out']:,} are in both tables, "
        f"of which {result['held_out']:,} were held out."
    )
    rendering.out.print(comparison(description, result))
    rendering.out.print(f"Rows were matched in {result['stage_seconds']['alignment']:.1f} s.")
    for sees, trained in trainings(description, result).items():
        exact = "equals plaintext fixed point bit for bit" if trained["bit_exact"] else "DIFFERS from plaintext"
        rendering.out.print(
            f"Helper sees {sees}: {trained['steps']} steps in {trained['stage_seconds']['training']:.1f} s, "
            f"{1000 * trained['seconds_per_step']:.1f} ms each; {sum(trained['bytes'].values()) / 1e6:.0f} MB sent. "
            f"The joint model {exact}."
        )
    rendering.out.print(
        f"{prediction['rows']:,} new customers scored in {prediction['seconds']:.1f} s; of what became of them since, "
        f"the scores have an AUC of {prediction['auc']:.4f}.\n"
    )
    for line in next_steps(description.label, result):
        rendering.out.print(line, soft_wrap=True)


def next_steps(label: str, result: dict[str, Any]) -> list[str]:
    """Say what there is to open, and what to do next, by commands that run here as they stand."""
    files = {"scores": result["prediction"]["scores"], "model part": result["model_parts"]}
    tercet = own_command()
    return [
        *(rendering.fit(f"{label}'s {what}: {found[label]}") for what, found in files.items()),
        f"[bold]Open {label}'s report in a browser:[/] {rendering.fit(result['reports'][label])}",
        f"[bold]Train on tables of your own:[/] {tercet} kit --example > consortium.toml; change that file, then",
        f"{tercet} kit consortium.toml",
    ]


def own_command() -> str:
    """Return how a shell here runs this program: by name, or by path if that leads elsewhere."""
    program, found = Path(sys.argv[0]).absolute(), shutil.which("tercet")
    if program.name != "tercet" or (found is not None and Path(found).absolute() == program):
        return "tercet"
    return rendering.fit(shlex.quote(os.path.relpath(program)))


def trainings(description: TrainingJob, result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """List the result of each training, by what the helper saw and the hidden activation."""
    found = {_mode(description): result}
    return found | ({_mode(shown(description)): result[SHOWN]} if SHOWN in result else {})


def _mode(job: TrainingJob) -> str:
    activation = "" if job.network is None else f", {job.network.activation}"
    return f"{SEES[job.is_blind]}{activation}"


def comparison(description: TrainingJob, result: dict[str, Any]) -> RichTable:
    """Compare who trains over how many columns, and how well, in a table."""
    title = f"{result['held_out']:,} customers nobody trained on"
    table = RichTable("who trains", "columns", "held-out AUC", title=title)
    auc, columns, runs = result["held_out_auc"], result["columns"], trainings(description, result)
    for party in description.data_parties:
        table.add_row(f"{party} alone, if it had the label", str(columns[party]), f"{auc[party]:.4f}")
    for sees, trained in runs.items():
        auc, total = trained["held_out_auc"], str(sum(trained["columns"].values()))
        table.add_section()
        table.add_row(f"[bold]Tercet[/], helper sees {sees}", total, f"[bold]{auc[JOINT]:.4f}[/]")
        table.add_row("all pooled in plaintext", total, f"{auc[baselines.POOLED]:.4f}")
    if len(runs) > 1:
        table.caption = "Each training holds out other customers: compare with the line below."
    return table
