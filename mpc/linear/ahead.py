"""Masks batches as a data party, and takes in the others', ahead of the activations.

It sees its own columns, and words of the others that are masked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from tercet.mpc.arithmetic.fixed import Floats, encode, encode_number
from tercet.mpc.arithmetic.ring import ShapeProblem, Signed, Words, expect, product, total
from tercet.mpc.interface.feature_source import FeatureSource
from tercet.mpc.interface.script import Await, Receive, Script, Send, Signal, received_words
from tercet.mpc.linear.algebra import apply_order, intercept_update, partner_update
from tercet.mpc.linear.checks import Checks
from tercet.mpc.linear.loss import LossParty
from tercet.mpc.linear.shares import Shares, first_shares
from tercet.mpc.plan.architecture import Layout
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import LookAhead, OutOfTurn, Step, Turns
from tercet.mpc.randomness.masks import Masks
from tercet.mpc.randomness.secret_order import Order

NO_OPENINGS: Mapping[int, Words] = MappingProxyType({})
NO_LOOK_AHEAD = LookAhead()
EARLY = 2  # steps that masked weights leave before their own: a step lasts as long as they are under way, or longer


@dataclass(slots=True)
class Batch:
    """Holds a step's data between its masked inputs and its update."""

    x: Words
    signs: Words
    classes: Signed
    labels: Words | None  # at the label party, F fractional bits
    known: dict[int, Words]  # m_i, less m_y at the label party, of every other data party i
    openings: dict[int, Words] = field(default_factory=dict)  # by receiver, where the helper's dealing is checked
    ahead: Words | None = None  # the part of the pre-activation share that needs no update


class AheadParty:
    """Acts as data party `me` ahead of the activations; `label` is the index of the label party.

    Not to be shared by threads.

    For each step, in order, the scripts `prepare_step` and `absorb_step`, which are driven side by side.

    Args:
        me: This party's index.
        label: The label party's.
        plan: The job's agreed numbers.
        x: This party's features, (rows, columns), f_x fractional bits, as `fixed.encode_features` makes them; read
            batch by batch.
        y: At the label party the centred labels, (rows, outputs); elsewhere None.
        order: The order of samples and classes, signs and noise.
        helper_masks: Shared with the helper.
        zero_masks: Shared with each other data party, by its index.
        shares: Where to go on from; the first step's zeros if None.
        checks: Where the helper's dealing is checked.
        loss: Where the job wants that.
        look_ahead: How far ahead masked inputs leave, by which masked weights wait for them or not.
    """

    def __init__(
        self,
        me: int,
        label: int,
        plan: Plan,
        x: FeatureSource,
        y: Floats | None,
        *,
        order: Order,
        helper_masks: Masks,
        zero_masks: Mapping[int, Masks],
        shares: Shares | None = None,
        checks: Checks | None = None,
        loss: LossParty | None = None,
        look_ahead: LookAhead = NO_LOOK_AHEAD,
    ) -> None:
        self._others = [i for i in range(len(plan.columns)) if i != me]
        if (y is not None) != (me == label) or set(zero_masks) != set(self._others):
            raise ValueError("labels belong to the label party, and zero masks to every other data party")
        if x.shape != (plan.request.rows, plan.columns[me]):
            raise ShapeProblem(f"features: expected {(plan.request.rows, plan.columns[me])}, got {x.shape}")
        if y is not None and y.shape != (plan.request.rows, plan.outputs):
            raise ShapeProblem(f"labels: expected {(plan.request.rows, plan.outputs)}, got {y.shape}")
        if (checks is not None) != (plan.request.checks > 0):
            raise ValueError("checks belong to jobs in which the helper's dealing is checked")
        self._me, self._label, self._plan, self._order, self._look_ahead = me, label, plan, order, look_ahead
        self.layout, self.loss, self._x, self._y = Layout(plan), loss, x, y
        self._helper_masks, self._zero_masks, self._checks = helper_masks, zero_masks, checks
        start = shares or first_shares(me, plan)
        self._done, self._own = start.step, start.own
        # By step: these run ahead of the updates, and a step's stay until its update.
        self._partners = {start.step: dict(start.partners)}
        self._intercepts = {start.step: start.intercept}
        self._batches: dict[int, Batch] = {}
        self._unsent: dict[int, dict[int, Words]] = {}  # masked weights by step and receiver
        self._turns = Turns(start.step)

    # --- what leaves

    def prepare_step(self, step: Step) -> Script[None]:
        """Send this party's masked words."""
        inputs, openings, along = self.masked_inputs(step), self._batch(step).openings, []
        if self._y is not None:
            along.append(("masked labels", self.masked_labels(step)))
            if self.loss is not None:
                along.append(("loss labels", self.loss.masked_labels(step)))
        unsent, self._unsent = self._unsent, {}
        yield Signal("masked")
        for i in self._others:
            checked = [("checks", openings[i])] if openings else []
            weights = tuple((index - step.index, "masked weights", words[i]) for index, words in unsent.items())
            yield Send("masked inputs", 0, (i,), inputs, (*along, *checked), weights)

    def masked_inputs(self, step: Step) -> Words:
        """Compute E_me = s X - U for every other data party.

        (rows of the batch, columns), f_x fractional bits. Keeps what lets each check the helper's dealing.
        """
        self._turns.begin_step("masked inputs", step)
        rows, signs = self._order.rows(step), self._order.signs(step, odd=self._plan.link.odd)
        x = expect(self._x.read_rows(rows), (step.rows, self._x.shape[1]), "features of a batch")
        classes = self._order.classes(step, self._plan.outputs)
        batch = Batch(x, signs, classes, self._encoded_labels(step, signs, classes), self._known(step))
        batch.x *= signs
        self._batches[step.index] = batch
        u = self._helper_masks("U", self._me, self._me, step, batch.x.shape)
        if self._checks is not None:
            batch.openings = self._checks.openings(step, u, batch.known)
        return batch.x - u

    def masked_labels(self, step: Step) -> Words:
        """Compute y~ = scale s y P - m_y for every other data party.

        (rows of the batch, outputs), F fractional bits.
        """
        labels = self._batch(step).labels
        if labels is None:
            raise OutOfTurn("only the label party has labels")
        self._turns.begin_step("masked labels", step)
        return labels - self._label_mask(step)

    def masked_weights(self, step: Step) -> dict[int, Words]:
        """Compute f_ij = w_ij P - v_ij for each other data party i.

        It goes to party i, and needs the step before absorbed.
        """
        if step.index not in self._partners:
            raise OutOfTurn(f"the step before {step.index} is not absorbed, or this one done")
        self._turns.begin_step("masked weights", step)
        classes, partners = self._order.classes(step, self._plan.outputs), self._partners[step.index]
        return {i: apply_order(share, classes) - self._block_mask("V", i, step) for i, share in partners.items()}

    # --- what comes

    def absorb_step(self, step: Step) -> Script[None]:
        """Send masked weights, and take in the others' masked words.

        Shares of their blocks go on a step.
        """
        weights, plan = self.masked_weights(step), self._plan
        if self._may_wait(step):
            self._unsent[step.index] = weights
        else:
            yield from (Send("masked weights", 0, (i,), words) for i, words in weights.items())
        yield Await("masked")  # the others send theirs as far ahead
        due = {i: (step.rows, plan.columns[i]) for i in self._others}
        inputs, checked = received_words((yield Receive("masked inputs", 0, due))), NO_OPENINGS
        if self._checks is not None:
            due = dict.fromkeys(self._others, plan.checks.opened(step.rows))
            checked = received_words((yield Receive("checks", 0, due)))
        self.absorb(step, inputs, checked)
        if self.loss is not None and self._y is None:
            yield from self.loss.receive_labels(step)
        yield Signal("absorbed")

    def _may_wait(self, step: Step) -> bool:
        """Tell whether masked weights may wait for the next masked inputs.

        Those of a step that is not the next one's own must leave EARLY steps before it; those of an epoch that may not
        be are always with its first inputs, which are not due before all steps of the one before are done.
        """
        following = self._turns.next_step("masked inputs")
        if following == self._plan.steps_total:
            return False
        return following == step.index or self._look_ahead.steps_before(following) <= step.index - EARLY

    def absorb(self, step: Step, inputs: Mapping[int, Words], openings: Mapping[int, Words] = NO_OPENINGS) -> None:
        """Take in E_i, and the openings, of every other data party.

        All of this step that needs no activation.

        Advances the shares of the other parties' blocks to the next step and, unless this is the label party, the
        share of the intercept. Keeps sum_j E_j v_(j,me), and the intercept's part, for the pre-activation.

        Raises:
            ShapeProblem: naming the data party whose masked inputs or openings have the wrong shape.
        """
        columns = self._plan.columns
        masked = {i: expect(inputs[i], (step.rows, columns[i]), f"masked inputs of party {i}") for i in self._others}
        t, batch, known = step.index, self._batch(step), self._batch(step).known
        received = {} if self._checks is None else self._checks.expect_openings(step, openings)
        self._turns.begin_step("absorb", step)
        rs = {i: self._block_mask("R", i, step) for i in self._others}
        if self._checks is not None:
            self._checks.absorb(step, received, known, rs)
        batch.ahead = total(product(e, self._block_mask("V", i, step)) for i, e in masked.items())
        if self._me != self._label:
            batch.ahead += self._intercept_column(step, batch)
            back = encode_number(step.after, self._plan.fx)
            self._intercepts[t + 1] = intercept_update(
                self._intercepts[t], back, batch.signs, known[self._label], batch.classes
            )
        self._partners[t + 1] = {
            i: partner_update(share, masked[i], known[i], rs[i], batch.classes)
            for i, share in self._partners[t].items()
        }

    # --- a batch and its masks

    def _batch(self, step: Step) -> Batch:
        if step.index not in self._batches:
            raise OutOfTurn(f"the inputs of step {step.index} are not masked yet, or it is done")
        return self._batches[step.index]

    def _encoded_labels(self, step: Step, signs: Words, classes: Signed) -> Words | None:
        """Scale y P at F fractional bits under the signs.

        The activation is encoded with the same scale.
        """
        if self._y is None:
            return None
        target = self._plan.link.target(self._y[self._order.rows(step)])
        return apply_order(signs * encode(step.scale * target, self._plan.f), classes)

    def _intercept_column(self, step: Step, batch: Batch) -> Words:
        """Return the intercept's part of a pre-activation share.

        Its public column is 1 / alpha, since it has no penalty.
        """
        column = encode_number(1.0 / step.alpha, self._plan.fx) * self._intercepts[step.index]
        return batch.signs * apply_order(column, batch.classes)

    def _block_mask(self, mask: str, i: int, step: Step) -> Words:
        """Return this party's v_i or r_i, shaped like party i's block."""
        return self._helper_masks(mask, i, self._me, step, self.layout.block(i))

    def _known(self, step: Step) -> dict[int, Words]:
        """Return this party's m_i of every other data party i, less m_y at the label party."""
        shape = (step.rows, self._plan.outputs)
        known = {i: self._helper_masks("M", i, self._me, step, shape) for i in self._others}
        if self._me != self._label:
            return known
        label_mask = self._label_mask(step)
        return {i: mask - label_mask for i, mask in known.items()}

    def _label_mask(self, step: Step) -> Words:
        return self._helper_masks("m_y", self._label, self._label, step, (step.rows, self._plan.outputs))
