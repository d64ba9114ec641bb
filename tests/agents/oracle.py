"""What tests of whole trainings compare with: the oracle's model, losses and scores of a run, linear or of a network.

Everything may be looked at here, and nothing here decides what any party may see.
"""

import tempfile
from pathlib import Path
from typing import Any

from tercet.agents.simulation.simulate import bit_exact, joint_words, network_arguments, network_words
from tercet.mpc.arithmetic.fixed import Floats, decode
from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.reference import linear as linear_reference
from tercet.mpc.reference import network as network_reference
from tercet.mpc.reference.network import PassSetting
from tercet.mpc.scoring.linear import scoring_steps
from tests.agents.recording import SCORING_BATCH, Heard, Tables, hear
from tests.agents.world import Sample


def heard(sample: Sample, tables: Tables | None = None) -> Heard:
    """A run in a folder that is gone afterwards, whose model is the oracle's."""
    with tempfile.TemporaryDirectory() as folder:
        run = hear(sample, Path(folder), tables=tables)
        assert bit_exact(run.simulation)
        return run


def weights_after(run: Heard, steps: int) -> Any:
    """The oracle's model after so many steps."""
    if run.sample.network is None:
        return linear_reference.train(run.xs, run.y, run.plan, run.order, steps)
    return network_reference.train(network_arguments(run.simulation), steps)


def model_words(run: Heard, steps: int) -> list[Words]:
    """All words of it."""
    weights = weights_after(run, steps)
    if run.sample.network is None:
        return [*weights.blocks, weights.intercept]
    return [*weights.blocks, *weights.upper, *weights.biases]


def trained_words(run: Heard) -> list[Words]:
    """Likewise, of the model that the parties have."""
    if run.sample.network is None:
        blocks, intercept = joint_words(run.simulation)
        return [*blocks, intercept]
    return network_words(run.simulation)


def oracle_losses(run: Heard) -> list[Words]:
    """The summed loss of each epoch."""
    if run.sample.network is None:
        return linear_reference.losses(run.xs, run.y, run.plan, run.order)
    return network_reference.losses(network_arguments(run.simulation))


def oracle_scores(run: Heard, steps: int, epoch: int) -> Floats:
    """What the oracle's model after so many steps says of the held-out rows, (rows, outputs)."""
    xs, plan, weights = run.held_out_xs, run.plan, weights_after(run, steps)
    passed = scoring_steps(len(xs[0]), SCORING_BATCH, epoch, plan.alpha_after(steps))
    if run.sample.network is None:
        return linear_reference.scores(xs, weights, plan, run.scoring_order, passed)
    setting = PassSetting(plan, run.scoring_order, Elements(run.label.key, "scoring"))
    return network_reference.scores(xs, weights, setting, passed)


def held_out_loss_after(run: Heard, epoch: int) -> float:
    """The oracle's, in the mean."""
    plan, rows, order = run.plan, len(run.held_out_y), run.held_out_order
    steps = (epoch + 1) * plan.steps_per_epoch
    passed = list(scoring_steps(rows, SCORING_BATCH, epoch, plan.alpha_after(steps)))
    held_out = run.held_out_xs, run.held_out_y, weights_after(run, steps)
    if run.sample.network is None:
        words = linear_reference.held_out_loss(*held_out, plan=plan, order=order, steps=passed)
    else:
        setting = PassSetting(plan, order, Elements(run.label.key, "held-out loss"))
        words = network_reference.held_out_loss(*held_out, plan=plan, setting=setting, steps=passed)
    return float(decode(words, plan.loss_bits_of(rows).total)[0, 0]) / rows
