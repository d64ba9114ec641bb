"""Tells whether a model beats a constant prediction, by what the label party knows.

It sees losses and metrics that the job opens, and labels; nothing of it leaves the label party but what an early stop
tells all: that no epoch was worth keeping.
"""

from dataclasses import dataclass

from tercet.agents.core.problems import JobProblem
from tercet.agents.session.context import JobContext
from tercet.agents.session.history import History
from tercet.mpc.functions.links import LINKS
from tercet.mpc.functions.row_labels import RowLabels

SLOWER = 'leave rate out of the job (it is "auto" then), or use a smaller one; or the columns tell nothing of the label'
EXPLAINED = ("d2", "r2")  # metrics that are 0 where a model is as good as the mean label


@dataclass(frozen=True, slots=True)
class Constant:
    """Holds mean losses of the best constant prediction, in the units of the job's losses.

    Attributes:
        training: of these rows.
        held_out: of the others, if there are any; `log_loss`: their metric of this name, where that is another number.
        unit: what a loss is multiplied by to be in the label's own unit.
    """

    training: float
    held_out: float | None = None
    unit: float = 1.0
    log_loss: float | None = None

    @classmethod
    def of(cls, training: RowLabels, held_out: RowLabels, unit: float) -> "Constant":
        """Measure it by centred labels; offsets are added to the constant."""
        apart = unit * held_out.constant_loss(training) if len(held_out) else None
        log_loss = None
        if training.link.name == "one-vs-rest" and len(held_out):  # whose loss is a sum; shares of classes add up to 1
            log_loss = LINKS["softmax"].constant_loss(held_out.y + 0.5, training.y + 0.5)
        return cls(unit * training.constant_loss(training), apart, unit, log_loss)


def shortfall(constant: Constant, history: History, epoch: int, *, last: bool) -> str:
    """Say why an epoch's model is no better than a constant; empty if it is, or unknown.

    Held-out rows count, where anything is known of them, and else the training loss.

    Args:
        constant: Its losses.
        history: Of the job so far.
        epoch: From 0.
        last: Whether metrics of the finished model, which are noted under the job's last epoch, are of this one.
    """
    found = history.last_metrics if last else history.metrics.get(epoch, {})
    trained = _worse_than_constant("training loss", _loss_at(history.losses, epoch), constant.training)
    explained = [(name, found[name]) for name in EXPLAINED if name in found]
    held_out, best = _loss_at(history.held_out_losses, epoch), constant.held_out
    if held_out is None:
        held_out, best = found.get("log_loss"), constant.held_out if constant.log_loss is None else constant.log_loss
    if held_out is not None and best is not None:
        said = _worse_than_constant("held-out loss", held_out, best)
    elif explained:
        name, value = explained[0]
        said = f"the held-out rows' {name} is {value:.3g}, and a constant has 0" if not value > 0 else ""
    else:
        said = trained
    if not said:
        return ""
    by_heart = "it has learned its training rows by heart: use l2, fewer columns or more rows, or stop early"
    fits = bool(history.losses) and not trained
    return f"no better than a constant: {said}; {by_heart if fits else SLOWER}"


def _loss_at(losses: list[float], epoch: int) -> float | None:
    return losses[epoch] if epoch < len(losses) else None


def _worse_than_constant(name: str, loss: float | None, constant: float) -> str:
    if loss is None or loss < constant:
        return ""
    return f"the {name} is {loss:.4g}, and that of a constant {constant:.4g}"


def worthless_model(context: JobContext) -> JobProblem:
    """Make the problem of a job without a model worth keeping, which every data party knows."""
    return JobProblem(
        "training.worthless",
        context.job.submitter,
        f"no epoch's model was better than a constant, so none is kept: {SLOWER}",
    )
