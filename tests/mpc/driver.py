"""Drives the scripts of all roles in one process, for tests: every tensor that changes hands is written down."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.interface.script import Await, Receive, Script, Send, Signal
from tercet.mpc.plan.schedule import Step


class Sent(NamedTuple):
    """A tensor on its way."""

    what: str
    step: int
    sender: int
    receiver: int
    words: Words


@dataclass
class Task:
    """A script under way, or one that has yet to begin."""

    party: int
    steps: Iterator[Step]
    make: Callable[[Step], Script[Any]]
    waits: bool = False  # with work ahead of time, until its step is near enough
    step: Step | None = None
    script: Script[Any] | None = None
    event: Any = None
    over: bool = False


class Driver:
    """Runs scripts side by side; `first` is the first step."""

    def __init__(self, roles: Iterable[int], first: int = 0) -> None:
        self.sent: list[Sent] = []
        self.box: dict[tuple[str, int, int, int, int], Words] = {}
        self.counts: dict[int, dict[str, int]] = {role: defaultdict(lambda: first) for role in roles}
        self.returned: dict[tuple[int, int], Any] = {}  # what scripts have returned, by role and step

    def name(self, kind: str, turn: int) -> str:
        """What a tensor is called in the record."""
        return f"{kind} {turn}"

    def drive(self, tasks: list[Task], look_ahead: int = 1, seed: int | None = None, *, goes_on: bool = False) -> None:
        """Run all to their end; `seed` shuffles who goes next. Nothing is left over, unless it `goes_on`."""
        rng = None if seed is None else random.Random(seed)
        while any(not task.over for task in tasks):
            if rng:
                rng.shuffle(tasks)
            moved = [self._advance(task, look_ahead) for task in tasks if not task.over]
            assert any(moved), f"all wait: {[task.event for task in tasks if not task.over]}"
        assert goes_on or not self.box, f"never used: {list(self.box)}"

    def _advance(self, task: Task, look_ahead: int) -> bool:
        """Drive a script as far as it goes; whether it has moved."""
        moved = False
        while True:
            if task.script is None:
                task.step = task.step or next(task.steps, None)
                if task.step is None:
                    task.over = True
                    return True
                if task.waits and self.counts[task.party]["done"] < task.step.index + 1 - look_ahead:
                    return moved
                task.script, task.event, answer = task.make(task.step), None, None
            else:
                ready, answer = self._answer(task)
                if not ready:
                    return moved
            try:
                task.event = task.script.send(answer)
            except StopIteration as stop:
                assert task.step is not None
                self.returned[task.party, task.step.index] = stop.value
                task.script = task.step = None
                return True
            moved = True
            self._note(task)

    def _answer(self, task: Task) -> tuple[bool, Mapping[int, Words] | None]:
        """Tell whether what a script waits for is there, and give it."""
        assert task.step is not None
        match task.event:
            case Receive(kind, turn, shapes):
                index, party = task.step.index, task.party
                for i in shapes:  # asked of every script that waits, again and again
                    if (kind, turn, index, i, party) not in self.box:
                        return False, None
                found = {i: self.box.pop((kind, turn, index, i, party)) for i in shapes}
                assert {i: words.shape for i, words in found.items()} == dict(shapes), task.event
                return True, found
            case Await(name):
                return self.counts[task.party][name] > task.step.index, None
        return True, None

    def _note(self, task: Task) -> None:
        assert task.step is not None
        match task.event:
            case Send(to=receivers):
                for kind, turn, index, words in tensors(task.event, task.step):
                    for receiver in receivers:
                        self.post(kind, turn, index, (task.party, receiver), words.copy())
            case Signal(name):
                self.counts[task.party][name] += 1

    def post(self, kind: str, turn: int, index: int, way: tuple[int, int], words: Words) -> None:
        """Take a tensor from one role to another, and write it down."""
        self.sent.append(Sent(self.name(kind, turn), index, *way, words))
        self.box[kind, turn, index, *way] = words


def tensors(sending: Send, step: Step) -> Iterator[tuple[str, int, int, Words]]:
    """Every tensor that is sent: its kind and turn, the index of its step, and the words."""
    yield sending.kind, sending.turn, step.index, sending.words
    yield from ((kind, 0, step.index, words) for kind, words in sending.along)
    yield from ((kind, 0, step.index + steps, words) for steps, kind, words in sending.later)
