"""Drives a role's scripts over a party's mailbox: sends, waits and answers.

It knows which message stands for which kind, and when something is to be said; not what it means.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar

from tercet.agents.messaging.inbox import Deadline
from tercet.agents.messaging.trace import LAYERED
from tercet.agents.protocol.checkpointing import CheckpointWriter
from tercet.agents.protocol.flow_control import StepCounter, largest_batch
from tercet.agents.session.agreed import TrainingContext
from tercet.agents.session.context import JobContext
from tercet.mpc.interface.script import HELPER, Await, Event, Receive, Reply, Script, Send, Signal
from tercet.mpc.plan.schedule import Step
from tercet.schemas.messages import kinds as messages
from tercet.schemas.messages.codec import Companion
from tercet.schemas.messages.kinds import Message
from tercet.schemas.messages.tensor import Words

Kinds = Mapping[str, type[Message]]
P = ParamSpec("P")
T = TypeVar("T")

ELEMENT = 8  # a hidden element takes about as long as this many words of features

SAYS_CHECKPOINTS = messages.MaskedLabels, messages.ScoreOpening  # with the label party's, whether a step ends with one

TRAINING: Kinds = {
    "masked inputs": messages.MaskedInputs,
    "mask openings": messages.MaskOpenings,
    "checks": messages.CheckedMasks,
    "masked labels": messages.MaskedLabels,
    "loss labels": messages.MaskedLossLabels,
    "masked weights": messages.MaskedWeights,
    "dealt": messages.DealtShares,
    "gradient share": messages.GradientShare,
    "weight opening": messages.WeightOpening,
    "narrow opening": messages.NarrowOpening,
    "hidden share": messages.HiddenShare,
    "hidden answer": messages.HiddenAnswer,
    "output share": messages.PreactivationShare,
    "output answer": messages.MaskedActivation,
    "loss terms": messages.LossTerms,
    "truncation opening": messages.TruncationOpening,
    "slope opening": messages.SlopeOpening,
    "error opening": messages.ErrorOpening,
    "masked error": messages.MaskedError,
}
BLIND: Kinds = {
    "bundle key": messages.BundleKey,
    "check rows": messages.CheckRows,
    "next weights": messages.NextWeights,
    "masked inputs": messages.MaskedInputs,
    "masked weights": messages.MaskedWeights,
    "loss labels": messages.MaskedLossLabels,
    "masked scores": messages.MaskedLossScores,
    "dealt": messages.DealtShares,
    "score opening": messages.ScoreOpening,
    "hidden opening": messages.HiddenOpening,
    "weight opening": messages.WeightOpening,
    "narrow opening": messages.NarrowOpening,
    "row weights": messages.MaskedRowWeights,
    "unweighted errors": messages.MaskedErrors,
    "error opening": messages.OutputErrorOpening,
    "truncation opening": messages.TruncationOpening,
    "slope opening": messages.SlopeOpening,
}
SCORING: Kinds = {
    "masked inputs": messages.ScoringInputs,
    "mask openings": messages.ScoringMaskOpenings,
    "dealt": messages.ScoringDealtShares,
    "hidden share": messages.ScoringHiddenShare,
    "hidden answer": messages.ScoringHiddenAnswer,
    "output share": messages.ScoringShare,
    "scores": messages.Scores,
    "score opening": messages.ScoringScoreOpening,
    "hidden opening": messages.ScoringHiddenOpening,
    "masked scores": messages.MaskedScores,
}
STATISTICS: Kinds = {
    "masked bins": messages.MaskedBins,
    "masked targets": messages.MaskedTargets,
    "masked numbers": messages.MaskedNumbers,
    "dealt sums": messages.DealtSums,
    "cell tables": messages.CellTables,
    "cell opening": messages.CellOpening,
    "gate opening": messages.GateOpening,
    "cell marks": messages.CellMarks,
    "cell groups": messages.CellGroups,
    "cells": messages.Cells,
    "cell sums": messages.CellSums,
    "correlation share": messages.CorrelationShare,
    "inflation": messages.Inflation,
}


class Widths(Protocol):
    """Describes a model's widths; an `architecture.Layout`."""

    @property
    def columns(self) -> Sequence[int]:
        """Encoded columns of each data party."""

    @property
    def hidden(self) -> Sequence[int]:
        """Hidden layers, numbered."""

    @property
    def widths(self) -> Sequence[int]:
        """Units of the hidden layers and the output."""

    @property
    def turns(self) -> int:
        """The most messages of one kind in a step."""


class ScriptDriver:
    """Drives the scripts of one role in a training, or in a scoring pass.

    Args:
        context: The job at this party.
        kinds: The message for each kind of tensor.
        layout: Of the model.
        rows: Of the largest batch: all steps of a role run in one and the same thread.
        checkpoints: At a data party in training: what labels say of checkpoints.
        first_step, steps_per_epoch: Of a training.
    """

    def __init__(
        self,
        context: JobContext,
        kinds: Kinds,
        layout: Widths,
        rows: int,
        *,
        checkpoints: CheckpointWriter | None = None,
        first_step: int = 0,
        steps_per_epoch: int = 1,
    ) -> None:
        self._context, self._kinds, self._checkpoints = context, kinds, checkpoints
        self._deadline = context.deadline("step")
        self._layers = context.trace.layers = layout.turns
        self._words = rows * (sum(layout.columns) + ELEMENT * sum(layout.widths))
        self._names = {HELPER: context.description.helper} | dict(enumerate(context.description.data_parties))
        self._numbers = {name: number for number, name in self._names.items()}
        self._steps_per_epoch = steps_per_epoch
        self.counts: dict[str, StepCounter] = defaultdict(lambda: StepCounter(first_step))

    async def run(self, script: Script[T], step: Step, deadline: Deadline | None = None) -> T:
        """Drive a script to its end; what it returns.

        Raises:
            Overdue, JobProblem: something did not come in time, or came in a wrong shape.
        """
        answer: Reply = None
        advance = _Advance(script, self.counts)
        while True:
            marks, event = await self.compute(advance, step, answer)
            for name in marks:
                self.counts[name].increment()
            if event is None:
                return advance.returned  # type: ignore[no-any-return]
            answer = await self._handle_event(event, step, deadline or self._deadline)

    async def compute(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run maths of a step where the others run theirs."""
        return await self._context.compute_if_heavy(self._words, function, *args, **kwargs)

    async def _handle_event(self, event: Event, step: Step, deadline: Deadline) -> Reply:
        match event:
            case Send():
                await self._send_tensor(event, step, deadline)
            case Receive():
                return await self.receive_tensors(event, step, deadline)
            case Await(name):
                await self.wait_for_count(name, step)
        return None

    async def wait_for_count(self, name: str, step: Step, ahead: int = 1) -> None:
        """Wait until another script of ours has passed this step (`ahead` 1); trace the wait."""
        bound = step.index + ahead
        if self.counts[name].value < bound:
            since = time.perf_counter()
            await self.counts[name].wait_for(bound)
            self._context.trace.note("wait", name, since, step=step.index)

    def _address_step(self, model: type[Message], turn: int, step: Step) -> int:
        """Number a message for its address; several of one step count by turn."""
        return step.position * self._layers + turn if model.kind in LAYERED else step.position

    async def _send_tensor(self, event: Send, step: Step, deadline: Deadline) -> None:
        model = self._kinds[event.kind]
        receivers, place = [self._names[number] for number in event.to], self._address_step(model, event.turn, step)
        along = [
            *(Companion(self._make_message(k, words, step), step.epoch, step.position) for k, words in event.along),
            *(self._for_other_step(step.index + steps, k, words) for steps, k, words in event.later),
        ]
        message = self._make_message(event.kind, event.words, step)
        await self._context.mailbox.send(message, receivers, deadline, epoch=step.epoch, step=place, along=along)

    def _for_other_step(self, index: int, kind: str, words: Words) -> Companion:
        """Make a message of another step of the training, of a kind that says nothing but words."""
        epoch, position = divmod(index, self._steps_per_epoch)
        make: Callable[..., Message] = self._kinds[kind]
        return Companion(make(words=words), epoch, position)

    def _make_message(self, kind: str, words: Words, step: Step) -> Message:
        make: Callable[..., Message] = self._kinds[kind]
        if make in SAYS_CHECKPOINTS and self._checkpoints is not None and self._context.is_label_party:
            return make(words=words, checkpoint=self._checkpoints.decide_due(step))
        return make(words=words)

    async def receive_tensors(
        self, event: Receive, step: Step, deadline: Deadline | None = None
    ) -> Mapping[int, Words]:
        """Wait for the tensors that a script asks for."""
        deadline = deadline or self._deadline
        model, mail = self._kinds[event.kind], self._context.mailbox
        senders = [self._names[number] for number in event.shapes]
        place = self._address_step(model, event.turn, step)
        letters = await mail.receive(model, senders, deadline, epoch=step.epoch, step=place)
        if self._checkpoints is not None and any(
            isinstance(m, SAYS_CHECKPOINTS) and m.checkpoint for m in letters.values()
        ):
            self._checkpoints.mark_due(step)
        words = mail.checked_words(letters, lambda sender: event.shapes[self._numbers[sender]])
        return {self._numbers[sender]: value for sender, value in words.items()}


def training_driver(
    context: TrainingContext, kinds: Kinds, layout: Widths, checkpoints: CheckpointWriter | None = None
) -> ScriptDriver:
    """Make the driver of a training's steps, from the first step of this attempt on."""
    per_epoch, rows = context.plan.steps_per_epoch, largest_batch(context.plan)
    context.trace.steps_per_epoch = per_epoch
    return ScriptDriver(
        context, kinds, layout, rows, checkpoints=checkpoints, first_step=context.first_step, steps_per_epoch=per_epoch
    )


class _Advance:
    """Runs a script to its next wait, or to its end (None).

    No StopIteration may pass through a future.

    So a script goes into a thread and back once for each message, and not for each thing that is done.
    """

    def __init__(self, script: Script[T], counts: Mapping[str, StepCounter]) -> None:
        self._script, self._counts = script, counts
        self._before: Event | None = None  # what was asked for last
        self.__name__ = "begin"  # by which the maths done last are told in a trace
        self.returned: Any = None

    def __call__(self, step: Step, answer: Reply) -> tuple[list[str], Event | None]:
        """Run the script to its next event; give the marks it passed, and the event."""
        marks: list[str] = []
        while True:
            event = self._next(answer)
            match event:
                case Signal(name):
                    marks.append(name)
                case Await(name) if name in self._counts and self._counts[name].value > step.index:
                    pass
                case _:
                    self.__name__, self._before = _maths_name(self._before, event, marks), event
                    return marks, event
            answer = None

    def _next(self, answer: Reply) -> Event | None:
        try:
            return self._script.send(answer)
        except StopIteration as stop:
            self.returned = stop.value
            return None


def _maths_name(before: Event | None, after: Event | None, marks: Sequence[str]) -> str:
    """Name the maths between two events by their result, or by their input or marks."""
    match before, after:
        case _, Send(kind):
            return kind
        case Receive(kind), _:
            return f"take in {kind}"
        case _, Receive(kind):
            return f"ask for {kind}"
    return marks[-1] if marks else "go on"
