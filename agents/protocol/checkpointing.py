"""Schedules checkpoints and picks the one that all parties resume from.

The label party decides both. A checkpoint is due at the same step everywhere, told with that step's labels, and the
next one only when everybody has the last: so the last but one is always there at all.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray
from pydantic import JsonValue

from tercet.agents.core.problems import JobProblem
from tercet.agents.session.agreed import TrainingContext
from tercet.agents.session.checkpoint_store import Checkpoint, CheckpointFolder, CheckpointProblem
from tercet.broker.interface.clock import loop_time
from tercet.mpc.plan.schedule import Step
from tercet.schemas.files.job import canonical_digest
from tercet.schemas.messages.kinds import Checkpoints, GoOn, HeldCheckpoint

NO_LINEAGE = bytes(32)

Contents = tuple[dict[str, NDArray[Any]], dict[str, JsonValue]]
"""Arrays and facts, as `checkpoint_store.Checkpoint` has them."""


async def find_checkpoint(
    context: TrainingContext, folder: CheckpointFolder
) -> tuple[TrainingContext, Checkpoint | None]:
    """Find the last checkpoint common to all data parties; None to begin anew.

    Also returns the means of what that leaves to do.

    Raises:
        JobProblem: this party's cannot be read any more.
        Overdue: a party did not answer in time.
    """
    deadline, held = context.deadline("fit"), await context.compute(folder.list_held)
    if context.is_label_party:
        theirs = await context.mailbox.receive(Checkpoints, context.partners, deadline)
        common = last_common([held, *(message.held for message in theirs.values())])
        checkpoint = None if common is None else await _read(context, folder, common)
        best_steps = 0 if checkpoint is None else checkpoint.number("kept") or 0
        await context.mailbox.send(GoOn(begin=common, kept=best_steps), context.others, deadline)
        begun = _begin_at(context, common, best_steps)
    else:
        await context.mailbox.send(Checkpoints(held=held), [context.label], deadline)
        begun, common = await receive_start(context)
        if common is not None and common not in held:
            raise _unknown_start(context)
        checkpoint = None if common is None else await _read(context, folder, common)
    await context.compute(folder.keep_only, common)
    return begun, checkpoint


async def receive_start(context: TrainingContext) -> tuple[TrainingContext, HeldCheckpoint | None]:
    """Receive the checkpoint at which the label party has all parties begin.

    Returns the means of what that leaves to do, and the checkpoint, if there is one.

    Raises:
        JobProblem: there is no such step.
    """
    go_on = (await context.mailbox.receive(GoOn, [context.label], context.deadline("fit")))[context.label]
    if go_on.begin is not None and not 0 < go_on.begin.steps <= context.plan.steps_total:
        raise _unknown_start(context)
    return _begin_at(context, go_on.begin, go_on.kept), go_on.begin


def last_common(held: Sequence[Sequence[HeldCheckpoint]]) -> HeldCheckpoint | None:
    """Find the furthest checkpoint that all have."""
    common = set(held[0]).intersection(*map(set, held[1:]))
    return max(common, key=lambda one: (one.steps, one.over), default=None)


async def _read(context: TrainingContext, folder: CheckpointFolder, held: HeldCheckpoint) -> Checkpoint:
    try:
        return await context.compute(folder.read, held)
    except (CheckpointProblem, OSError) as problem:
        reason = f"{context.me} cannot read a checkpoint that it has just told of"
        raise JobProblem("checkpoint.unusable", context.me, reason, str(problem)) from None


def _unknown_start(context: TrainingContext) -> JobProblem:
    reason = f"{context.label} wants to go on from a step or a checkpoint that {context.me} does not have"
    return JobProblem("job.terms", context.label, reason)


def _begin_at(context: TrainingContext, begin: HeldCheckpoint | None, best_steps: int) -> TrainingContext:
    first = 0 if begin is None else begin.steps
    context.statistics.resume_from(first)
    if first:
        context.log.info("goes on from a checkpoint", steps=first)
    over = begin is not None and begin.over
    return replace(context, first_step=first, all_steps_done=over, best_steps=best_steps)


class CheckpointWriter:
    """Writes the checkpoints of one attempt at a data party, beside the steps.

    Args:
        context: the job at this party.
        folder: where they go.
        checkpoint: what this attempt goes on from.
        contents: the training as it is now.
    """

    def __init__(
        self,
        context: TrainingContext,
        folder: CheckpointFolder,
        checkpoint: Checkpoint | None,
        contents: Callable[[int], Contents],
    ) -> None:
        self._context, self._folder, self._contents = context, folder, contents
        before = NO_LINEAGE if checkpoint is None else checkpoint.held.lineage
        # No two attempts have one transcript. Shares of one step but of two histories do not add up to a model.
        self._lineage = canonical_digest(
            "tercet lineage", [before, context.session.secrets.transcript, context.first_step]
        )
        self._last_due = context.first_step  # steps done at the last one that is due
        self._since = loop_time()
        self._due: set[int] = set()  # steps that end with one
        self._decided = context.first_step  # steps of which that is decided
        self._writing: asyncio.Task[None] | None = None

    def decide_due(self, step: Step) -> bool:
        """Decide, at the label party, whether a step ends with a checkpoint.

        The same for every receiver. The last step has none: `write_last` says besides that steps are over, and nobody
        goes on from there by another one.
        """
        if step.index < self._decided:
            return self.is_due(step)
        self._decided = step.index + 1
        recovery, now = self._context.settings.recovery, loop_time()
        done = step.index + 1
        if done == self._context.plan.steps_total:
            return False
        due = done - self._last_due >= recovery.checkpoint_steps or now - self._since >= recovery.checkpoint_seconds
        if due and recovery.attempts > 1 and self._context.common_checkpoint() == self._last_due:
            self._last_due, self._since = done, now
            self.mark_due(step)
            return True
        return False

    def mark_due(self, step: Step) -> None:
        """Mark that this step ends with a checkpoint."""
        self._due.add(step.index)

    def is_due(self, step: Step) -> bool:
        """Tell whether this step ends with a checkpoint."""
        return step.index in self._due

    async def on_step_done(self, step: Step) -> None:
        """Begin to write if a checkpoint is due, after a step and its epoch's end."""
        if not self.is_due(step):
            return
        self._due.discard(step.index)
        await self._finish_writing()  # the one before
        self._start_writing(step.index + 1, over=False)

    async def write_last(self, steps: int, **more: JsonValue) -> None:
        """Write the last checkpoint, with more facts; return when the disk has it, or refuses it."""
        await self._finish_writing()
        if self._context.settings.recovery.attempts > 1:
            self._start_writing(steps, over=True, **more)
            await self._finish_writing()

    def _start_writing(self, steps: int, *, over: bool, **more: JsonValue) -> None:
        held, (arrays, facts) = HeldCheckpoint(lineage=self._lineage, steps=steps, over=over), self._contents(steps)
        writing = self._writing = asyncio.create_task(self._write(Checkpoint(held, arrays, facts | more)))
        self._context.writing.add(writing)
        writing.add_done_callback(self._context.writing.discard)

    async def _write(self, checkpoint: Checkpoint) -> None:
        context, steps = self._context, checkpoint.held.steps
        try:
            await asyncio.to_thread(self._folder.write, checkpoint)
        except OSError as error:
            context.statistics.checkpoints_failed += 1
            what = "a checkpoint cannot be written, the one before it counts"
            context.log.error(what, code="checkpoint.write", why=error.strerror)  # noqa: TRY400 - the reason is all
        else:
            context.statistics.checkpoints_written += 1
            context.statistics.checkpoint = steps
            context.log.info("checkpoint written", steps=steps)

    async def _finish_writing(self) -> None:
        if self._writing is not None:
            await self._writing
