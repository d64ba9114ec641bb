"""A party's inbox against a dictionary: letters are used once; waits end when they should, and name whom they lack."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tercet.agents.core.problems import DeadlinePassed, JobProblem
from tercet.agents.messaging.inbox import Deadline, Inbox
from tercet.schemas.files.settings import Limits
from tercet.schemas.messages.address import Address
from tercet.schemas.messages.kinds import MaskedInputs, MaskedWeights
from tests.fuzz.virtual import Clockwork

Model = type[MaskedInputs] | type[MaskedWeights]
Place = tuple[Model, str, int]
SENDERS = ("card", "notary")
STEP = Deadline("step", 10.0)
LIMIT = 2**20
BESIDE = 4096  # bytes that a letter or a part may count more than its body
models: st.SearchStrategy[Model] = st.sampled_from([MaskedInputs, MaskedWeights])
senders = st.sampled_from(SENDERS)
steps = st.integers(0, 3)


class InboxMachine(RuleBasedStateMachine):
    """Letters and parts come from two senders, in any order and with repeats, and are asked for in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = Clockwork()
        self.inbox = self.loop.inside(lambda: Inbox("bank", SENDERS, Limits(message_mib=1)))
        self.letters: dict[Place, tuple[int, int]] = {}  # what is there: its content and its size
        self.parts: dict[tuple[str, int], dict[int, int]] = {}  # sizes of what has come of a body
        self.used: set[Place] = set()
        self.waits: dict[Model, tuple[asyncio.Task[Any], int, tuple[str, ...]]] = {}
        self.lapsed: set[str] | None = None

    def problem(self, work: Callable[[], Any]) -> JobProblem | None:
        """What the call complains of."""
        try:
            self.loop.inside(work)
        except JobProblem as problem:
            return problem
        return None

    @rule(model=models, sender=senders, step=steps, content=st.integers(0, 1), size=st.sampled_from([10, 300_000]))
    def letter(self, model: Model, sender: str, step: int, content: int, size: int) -> None:
        """One comes; it is new, a repeat, another for the same place, or too much."""
        address = Address("job", 1, model.round, model.item, 0, step, sender, "bank")
        message = model(words=np.full((1, 1), content, np.uint64))
        place, known = (model, sender, step), self.letters.get((model, sender, step))
        full = self.held(sender) + size > LIMIT
        problem = self.problem(lambda: self.inbox._store_message(address, message, size))
        if place in self.used:
            assert problem is None
        elif known is not None:
            assert (problem is None) == (known[0] == content)
            assert problem is None or (problem.code, problem.culprit) == ("message.malformed", sender)
        elif problem is not None:
            assert (problem.code, problem.culprit) == ("message.oversized", sender)
            assert self.held(sender) + size + BESIDE * (1 + len(self.letters)) > LIMIT
            self.end()
        else:
            assert not full
            self.letters[place] = (content, size)
        self.loop.settle()
        self.take_what_has_come()

    @rule(sender=senders, step=steps, part=st.integers(1, 3))
    def part(self, sender: str, step: int, part: int) -> None:
        """A third of a body."""
        address = Address("job", 1, MaskedInputs.round, MaskedInputs.item, 0, step, sender, "bank", part, 3)
        known = self.parts.setdefault((sender, step), {})
        body = None

        def join() -> None:
            nonlocal body
            body = self.inbox._join_part(address, bytes([part]) * 5)

        if self.problem(join) is not None:
            self.end()
            return
        known[part] = 5
        assert (body is not None) == (len(known) == 3)
        if body is not None:
            assert body == b"".join(bytes([number]) * 5 for number in (1, 2, 3))
            del self.parts[sender, step]

    @precondition(lambda self: self.lapsed is None)
    @rule(model=models, who=st.sets(senders, min_size=1), step=steps)
    def ask(self, model: Model, who: set[str], step: int) -> None:
        """For any step, in any order; a party asks for one step of a kind at a time."""
        whom = tuple(sorted(who))
        if model in self.waits or any((model, sender, step) in self.used for sender in whom):
            return
        task = self.loop.create_task(self.inbox.receive(model, whom, STEP, step=step))
        self.waits[model] = (task, step, whom)
        self.loop.settle()
        self.take_what_has_come()

    def take_what_has_come(self) -> None:
        """Waits whose letters are all there have ended with them, and no others."""
        for model, (task, step, whom) in list(self.waits.items()):
            places: list[Place] = [(model, sender, step) for sender in whom]
            if self.lapsed is None:
                assert task.done() == all(place in self.letters for place in places)
            if not task.done():
                continue
            del self.waits[model]
            if task.exception() is None:
                got = {sender: int(message.words[0, 0]) for sender, message in task.result().items()}
                assert got == {place[1]: self.letters.pop(place)[0] for place in places}
                self.used.update(places)

    @precondition(lambda self: self.lapsed is not None)
    @rule()
    def another_job(self) -> None:
        """The one whose wait has lapsed is over."""
        self.end()

    @rule(seconds=st.sampled_from([0.1, 4.0]))
    def wait(self, seconds: float) -> None:
        """A wait that lasts too long names exactly those that it lacks, and what others ask then is the same."""
        missing = self.missing()
        self.loop.advance(seconds)
        for model, (task, _, _) in list(self.waits.items()):
            if task.done():
                overdue = task.exception()
                assert isinstance(overdue, DeadlinePassed)
                assert overdue.deadline == "step"
                self.lapsed = self.lapsed or set(missing)
                del self.waits[model]

    def missing(self) -> set[str]:
        """Whom the pending waits lack."""
        waits = ((model, sender, step) for model, (_, step, whom) in self.waits.items() for sender in whom)
        return {place[1] for place in waits if place not in self.letters}

    def held(self, sender: str) -> int:
        """Bytes of bodies that wait."""
        letters = sum(size for (_, other, _), (_, size) in self.letters.items() if other == sender)
        return letters + sum(sum(sizes.values()) for (other, _), sizes in self.parts.items() if other == sender)

    def end(self) -> None:
        """The job is over once a limit is passed: begin anew."""
        for task, _, _ in self.waits.values():
            task.cancel()
        self.loop.settle()
        self.inbox = self.loop.inside(lambda: Inbox("bank", SENDERS, Limits(message_mib=1)))
        self.letters, self.parts, self.used, self.waits, self.lapsed = {}, {}, set(), {}, None

    @invariant()
    def who_is_waited_for_is_reported(self) -> None:
        """Now, or when patience ended."""
        reported = self.missing() if self.lapsed is None else self.lapsed
        assert set(self.inbox.waits_for) == reported
        assert bool(self.inbox.stage) == bool(reported)

    @invariant()
    def what_waits_is_counted(self) -> None:
        """By its bytes and a little more, and nothing when nothing waits."""
        for sender in SENDERS:
            count = sum(place[1] == sender for place in self.letters)
            count += sum(len(sizes) for (other, _), sizes in self.parts.items() if other == sender)
            assert self.held(sender) <= self.inbox._held_bytes[sender] <= self.held(sender) + count * BESIDE

    def teardown(self) -> None:
        """Let go of what waits."""
        self.end()
        self.loop.close()


TestInbox = InboxMachine.TestCase
TestInbox.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
