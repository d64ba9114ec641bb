"""The plain values of a recorded run of a network, worked out anew: what the helper may see, and what nobody may.

They come from the oracle's weights, the secret order and the rows; of what the parties sent nothing is used.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from tercet.agents.simulation.simulate import network_arguments
from tercet.mpc.arithmetic.fixed import decode, encode, encode_number
from tercet.mpc.arithmetic.ring import Signed, Words, total
from tercet.mpc.functions.hidden import HIDDEN
from tercet.mpc.plan.architecture import NARROW_BITS, Layout, NetworkForward
from tercet.mpc.plan.forward import noise_half_width, noise_width
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.elements import Elements
from tercet.mpc.randomness.secret_order import Order
from tercet.mpc.reference import network as network_reference
from tercet.mpc.reference.network import NetworkWeights
from tercet.mpc.scoring.linear import Numbers, scoring_steps
from tercet.schemas.files.job import TrainingJob
from tercet.schemas.messages.kinds import (
    HeldOutHiddenShare,
    HeldOutShare,
    HiddenShare,
    Message,
    PreactivationShare,
    ScoringHiddenShare,
    ScoringShare,
)
from tests.agents.networks import opened
from tests.agents.recording import SCORING_BATCH, Heard, all_words


class Layers(NamedTuple):
    """One batch in plaintext: pre-activations of the hidden layers in place, what they become, and the scores."""

    hidden: list[Words]  # f_z bits
    activations: list[Words]  # f_x bits
    slopes: list[Words]  # in the helper's view
    scores: Words  # (rows, outputs), f_z bits, as the classes are numbered


@dataclass(frozen=True)
class View:
    """What the helper sees of one training, or of one pass over rows that are scored."""

    heard: Heard
    numbers: NetworkForward
    steps: Sequence[Step]
    xs: Sequence[Words]
    weights: Callable[[Step], NetworkWeights]  # before the step
    order: Order
    elements: Elements
    purpose: str
    hidden: type[Message]
    output: type[Message]

    def signs(self, step: Step) -> Words:
        """Of the rows, (rows, 1)."""
        return self.order.signs(step, odd=self.numbers.link.odd)

    def batch(self, step: Step) -> list[Words]:
        """Everybody's rows."""
        return [x[self.order.rows(step)] for x in self.xs]

    def layers(self, step: Step) -> Layers:
        """In plaintext."""
        weights, column = self.weights(step), encode_number(1.0 / step.alpha, self.numbers.fx)
        z = total(x @ block for x, block in zip(self.batch(step), weights.blocks, strict=True))
        z = z + column * weights.biases[0]
        found = Layers([], [], [], z)
        for k, (above, bias) in enumerate(zip(weights.upper, weights.biases[1:], strict=True)):
            activation, slope = self._activated(step, k, z)
            found.hidden.append(z)
            found.activations.append(activation)
            found.slopes.append(slope)
            z = activation @ above + column * bias
        return found._replace(scores=z)

    def arranged(self, step: Step, k: int, z: Words) -> tuple[Signed, Words, Words]:
        """Order, signs and noise of a hidden layer, (elements,)."""
        count = z.size
        return (
            self.elements.permutation(step, k, count),
            self.elements.signs(step, k, count),
            self.elements.noise(step, k, count, noise_width(self.numbers, step.alpha)),
        )

    def seen(self, step: Step, k: int, z: Words) -> Words:
        """What the helper may see of a hidden layer, (elements,)."""
        order, signs, noise = self.arranged(step, k, z)
        return z.reshape(-1)[order] * signs + noise

    def _activated(self, step: Step, k: int, z: Words) -> tuple[Words, Words]:
        assert self.numbers.network is not None
        link, fx = HIDDEN[self.numbers.network.activation], self.numbers.fx
        order, signs, _ = self.arranged(step, k, z)
        scores = step.alpha * decode(self.seen(step, k, z), self.numbers.fz)
        if link.kappa is None:
            reported = signs * encode(link.phi(scores), fx) + encode_number(link.centre, fx)
        else:
            reported = np.where(signs == 1, encode(link.phi(scores), fx), encode(link.phi(-scores), fx))
        placed = np.empty_like(reported)
        placed[order] = reported
        return placed.reshape(z.shape), encode(step.alpha * link.slope(scores), fx)


@dataclass
class NetworkBook:
    """The plain values of a run, by the protocol's symbols."""

    heard: Heard

    @cached_property
    def history(self) -> list[NetworkWeights]:
        """The oracle's weights before each step that was taken, and at the end."""
        run, party = network_arguments(self.heard.simulation), self.heard.label.party
        assert party is not None
        assert run.first_step == 0
        found = [run.initial]
        for t in range(party.shares().step):
            found.append(network_reference.train(run._replace(initial=found[t], first_step=t), t + 1))
        return found

    @cached_property
    def views(self) -> list[View]:
        """The training, if it is one, and every pass over rows that are scored."""
        if not isinstance(self.heard.job, TrainingJob):
            return [self._prediction()]
        heard, plan, job = self.heard, self.heard.plan, self.heard.job
        steps, obtained = list(plan.steps()), len(self.history) - 1
        training = View(
            heard, plan, steps[:obtained], heard.xs, lambda step: self.history[step.index], heard.order,
            Elements(heard.label.key), "training", HiddenShare, PreactivationShare,
        )  # fmt: skip
        epochs = range(obtained // plan.steps_per_epoch)
        lost = epochs if job.evaluation.held_out_loss else range(0)
        passes = [self._pass((epoch + 1) * plan.steps_per_epoch, epoch, held_out_loss=True) for epoch in lost]
        return [training, *passes, *self._scored(job, epochs)]

    def _scored(self, job: TrainingJob, epochs: range) -> list[View]:
        """The passes by which scores are told."""
        plan, heard = self.heard.plan, self.heard
        if not job.scorings:
            return []
        if job.scorings and job.evaluation.metrics == "end":
            return [self._pass(heard.label.shares.step, job.training.epochs - 1)]
        return [self._pass((epoch + 1) * plan.steps_per_epoch, epoch) for epoch in epochs]

    def _pass(self, steps: int, epoch: int, *, held_out_loss: bool = False) -> View:
        heard, plan, xs = self.heard, self.heard.plan, self.heard.held_out_xs
        passed = list(scoring_steps(len(xs[0]), SCORING_BATCH, epoch, plan.alpha_after(steps)))
        if held_out_loss:
            elements = Elements(heard.label.key, "held-out loss")
            return View(heard, plan, passed, xs, lambda _: self.history[steps], heard.held_out_order, elements,
                        "held-out loss", HeldOutHiddenShare, HeldOutShare)  # fmt: skip
        elements = Elements(heard.label.key, "scoring")
        return View(heard, plan, passed, xs, lambda _: self.history[steps], heard.scoring_order, elements, "validation",
                    ScoringHiddenShare, ScoringShare)  # fmt: skip

    def _prediction(self) -> View:
        roles = self.heard.parts
        numbers, alpha = Numbers.from_canonical(roles[0].part.plan), roles[0].part.alpha
        parts = {role.part.party: (role.part, role.arrays) for role in roles}
        layers = range(len(Layout(numbers).hidden))
        weights = NetworkWeights(
            tuple(opened(parts, party) for party in parts),
            tuple(opened(parts, f"upper.{k}") for k in layers),
            tuple(opened(parts, f"bias.{k}") for k in range(len(layers) + 1)),
        )
        xs = [all_words(role) for role in roles]
        steps, elements = list(scoring_steps(len(xs[0]), SCORING_BATCH, 0, alpha)), Elements(roles[0].key, "scoring")
        return View(self.heard, numbers, steps, xs, lambda _: weights, self.heard.scoring_order, elements, "prediction",
                    ScoringHiddenShare, ScoringShare)  # fmt: skip

    def values(self) -> Iterator[Words]:
        """Everything that is a word in this run and nobody's to know, with either sign."""
        for view in self.views:
            for step in view.steps:
                layers, weights = view.layers(step), view.weights(step)
                found = [*view.batch(step), *layers.hidden, *layers.activations, layers.scores]
                found += [*weights.blocks, *weights.upper, *weights.biases]
                if view.purpose == "training":
                    found += [*layers.slopes, *self._errors(view, step, layers), *self._gradients(step)]
                for words in found:
                    yield words
                    yield np.uint64(0) - words

    def _gradients(self, step: Step) -> Iterator[Words]:
        """By how much all weights fall in a step."""
        before, after = self.history[step.index], self.history[step.index + 1]
        yield from (a - b for a, b in zip((*before.blocks, *before.upper, *before.biases),
                                          (*after.blocks, *after.upper, *after.biases), strict=True))  # fmt: skip

    def _errors(self, view: View, step: Step, layers: Layers) -> Iterator[Words]:
        """Of the scores and of the activations below; labels, activations of the output, narrow weights."""
        plan, order, classes = self.heard.plan, view.order, view.order.classes(step, self.heard.plan.outputs)
        noise = order.noise(step, noise_width(plan, step.alpha), plan.outputs)
        z = view.signs(step) * layers.scores[:, classes] + noise
        z = z - z[:, :1] if plan.outputs > 1 else z
        half = noise_half_width(plan, step.alpha)
        a = encode(step.scale * plan.link.phi_of_noisy(step.alpha * decode(z, plan.fz), half), plan.f)
        y = view.signs(step) * encode(step.scale * self.heard.y[order.rows(step)], plan.f)[:, classes]
        dealt = network_arguments(self.heard.simulation).dealt
        last = len(view.weights(step).upper) - 1
        above = view.weights(step).upper[last]
        narrow = cut(above[:, classes], dealt("rw", last, step), plan.fw - NARROW_BITS)
        yield from (a, y, a - y, narrow, (a - y) @ narrow.T)


def cut(x: Words, r: Words, bits: int) -> Words:
    """X with so many fractional bits fewer, up or down as r says."""
    rounded: Words = ((x + (r & np.uint64((1 << bits) - 1))).view(np.int64) >> np.int64(bits)).view(np.uint64)
    return rounded
