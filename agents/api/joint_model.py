"""Puts together what all parties of a simulation hold: the joint model, and a result.

Only a simulation may: it holds everybody's parts. No party of a real job can do this, whatever its release.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tercet.agents.api.report import Report
from tercet.agents.api.result import Result, read_scores
from tercet.agents.models import model_part
from tercet.agents.models.full_model import FullModel, describe
from tercet.agents.models.plain_weights import blocks_of_model, class_names, weights_by_party
from tercet.agents.models.scorer import as_scorer
from tercet.agents.reports.build import report_data, statistics_report
from tercet.agents.reports.report import render
from tercet.agents.reports.statistics import render_statistics
from tercet.agents.scorecards.card import Cards
from tercet.agents.scorecards.card_file import make_cards
from tercet.agents.simulation.exactness import Simulation, data_roles, joint_words, network_words, part_folder
from tercet.agents.statistics.data_party import Counting
from tercet.agents.statistics.result import StatisticsResult, read_statistics
from tercet.mpc.arithmetic.fixed import decode
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.job import StatisticsJob


@dataclass(frozen=True, slots=True)
class Counted:
    """Holds what all parties have learnt in a simulated statistics job, the label party first."""

    job: StatisticsJob
    results: tuple[StatisticsResult, ...]


def joint_model(simulation: Simulation) -> FullModel:
    """Open every weight of a finished training, whoever would get it."""
    trained = data_roles(simulation)
    parts = {party: model_part.manifest(part_folder(simulation, party)) for party in trained}
    context = trained[simulation.description.label].context
    job, plan, part = context.description, context.plan, parts[context.label]
    about = describe(part, {party: one.encoding for party, one in parts.items()})
    if job.network is None:
        blocks, intercept = joint_words(simulation)
        return FullModel(
            about, tuple(part.alpha * decode(block, plan.fw) for block in blocks), (), (decode(intercept, plan.fw),)
        )
    words, count, layers = network_words(simulation), len(parts), len(job.network.hidden)
    blocks, upper, biases = words[:count], words[count : count + layers], words[count + layers :]
    return FullModel(
        about,
        tuple(part.alpha * decode(block, plan.fw) for block in blocks),
        tuple(part.alpha * decode(layer, plan.finished_bits) for layer in upper),
        tuple(decode(bias, plan.fw) for bias in biases),
    )


def collect_result(simulation: Simulation) -> Result:
    """Collect what a finished training gives."""
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


def collect_statistics(simulation: Simulation) -> tuple[Result, Counted]:
    """Collect what a finished statistics job gives."""
    job, run = simulation.description, simulation.label_run
    if not (isinstance(job, StatisticsJob) and isinstance(run.reached, Counting)):
        raise TypeError("no statistics job that is done")
    parties = (job.label, *(party for party in job.data_parties if party != job.label))
    paths = [simulation.runs[party].statistics for party in parties]
    results = tuple(read_statistics(path) for path in paths if path is not None)
    data = statistics_report(run.reached)
    result = Result(
        run.status(),
        weights=dict,
        report=Report(lambda: render_statistics(data)),
        scorer=lambda: None,
        statistics=lambda: results,
        cards=_no_cards,
    )
    return result, Counted(job, results)


def _no_cards(_: Mapping[str, Any]) -> Cards:
    raise Invalid("a statistics job has no model, and so no scorecard; ask for that of a training")
