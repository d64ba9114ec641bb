"""Trains on the label party's own columns alone, and scores the same held-out rows.

It uses this party's own rows only, and sends nothing.
"""

import numpy as np

from tercet.agents.evaluation import baseline_network, baselines
from tercet.agents.evaluation.metrics import metrics
from tercet.agents.roles.data_party import Trained
from tercet.agents.roles.own_labels import OwnLabels
from tercet.agents.session.training_defaults import with_planned_numbers
from tercet.mpc.arithmetic.fixed import Floats, decode
from tercet.mpc.functions.links import LINKS
from tercet.mpc.functions.row_labels import RowLabels
from tercet.schemas.files.job import TrainingJob

CENTRED = {"logistic", "one-vs-rest"}  # links whose labels are -1/2 and 1/2, for 0 and 1
MOST_WORDS = 2**25  # 256 MiB; a larger table has no comparison


def alone(trained: Trained, labels: OwnLabels) -> dict[str, float]:
    """Measure a model of this party's columns alone, trained by the job's own schedule.

    It scores the held-out rows of the joint model. A table that is too large or has no columns gives no metrics.
    """
    context, words, held_out = trained.context, trained.all_words, trained.held_out
    if not 0 < words.shape[0] * words.shape[1] <= MOST_WORDS or context.history.labels is None:
        return {}
    x = decode(words.read_rows(np.arange(words.shape[0])), context.plan.fx)
    job = with_planned_numbers(context.description, context.plan)
    y = labels.centred + (0.5 if job.link in CENTRED else 0.0)
    y = y if LINKS[job.link].classes else y[:, 0]
    best = context.history.best_epoch  # as many epochs as the joint model
    epochs = None if best is None else best + 1
    scores = _fit(job, x[~held_out], y[~held_out], epochs, labels.trained_rows).scores(x[held_out])
    if not np.isfinite(scores).all():  # the rate fits the joint model, and may be too large for fewer columns
        return {}
    held = labels.evaluated
    return metrics(job.link, context.history.labels, held.to_label(scores), held.offset, job.link_power)


def _fit(job: TrainingJob, x: Floats, y: Floats, epochs: int | None, rows: RowLabels) -> baselines.Model:
    if job.network is None:
        offset = None if rows.offset is None else rows.offset[:, 0]
        return baselines.sgd(
            x, y, job.training, link=job.link, epochs=epochs, offset=offset, counts=rows.weights, power=job.link_power
        )
    return baseline_network.sgd(x, y, job.training, job.network, epochs=epochs)
