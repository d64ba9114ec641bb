"""Decides which columns to try next, and which to take: forward, backward, and by refitting.

It runs no job: a search yields sets of columns, gets a trial for each, and notes what it decides.
"""

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

from tercet.agents.selection.selection_file import Search
from tercet.agents.selection.space import Candidate, Columns, SearchSpace
from tercet.agents.selection.trail import TrailStep, Trial, pairs

Note = Callable[[TrailStep], None]
Walk = Generator[list[Columns], list[Trial], Columns]
"""Yields sets of columns, is sent their trials in order, and returns the selected set."""


class Standing(NamedTuple):
    """Holds the columns that are in the model so far, and its trial."""

    columns: Columns
    trial: Trial


class Step(NamedTuple):
    """Holds a step's changes and what came of each."""

    number: int
    changes: Sequence[tuple[Candidate, ...]]
    trials: Sequence[Trial]


def walk(space: SearchSpace, search: Search, note: Note) -> Walk:
    """Search as the file says."""
    methods = {"forward": forward, "backward": backward, "refit": refit, "none": train_once}
    return methods[search.method](space, search, note)


def most_jobs(space: SearchSpace, search: Search) -> int:
    """Count the jobs that a search may take, with the one that releases the model at the end."""
    free = len(space.candidates) - len(space.first)
    if search.method == "forward":
        return 2 + sum(free - step for step in range(min(search.max_steps, free)))
    free = len(space.removable(frozenset(space.candidates)))
    if search.method == "backward":
        return 2 + sum(free - step for step in range(min(search.max_steps, free)))
    own = len([one for one in space.candidates if one.party == space.label and one not in space.always])
    return 2 + min(search.max_steps, own) if search.method == "refit" else 1


def forward(space: SearchSpace, search: Search, note: Note) -> Walk:
    """Add the column that lowers the held-out loss most, as long as it lowers it enough."""
    best = yield from _begin(space.first, note)
    for number in range(1, search.max_steps + 1):
        left = [one for one in space.candidates if one not in best.columns]
        if not left:
            return _end(best, number, "no candidate is left", note)
        trials = yield [best.columns | {one} for one in left]
        step = Step(number, [(one,) for one in left], trials)
        place = min(range(len(left)), key=lambda at: (trials[at].rank, at))
        gain = _gain(best.trial, trials[place])
        if not _is_gain(gain, search):
            why = f"the best of {len(left)}, {left[place]}, lowers the loss by {gain:.4g}, and min_gain is "
            return _end(best, number, f"{why}{search.min_gain:g}", note, step)
        best = Standing(best.columns | {left[place]}, trials[place])
        why = f"{left[place]} lowers the loss by {gain:.4g}, the most of {len(left)}"
        _note(best, step, "added", (left[place],), why, gain, note)
    return _end(best, search.max_steps, f"max_steps = {search.max_steps} are done", note)


def backward(space: SearchSpace, search: Search, note: Note) -> Walk:
    """Drop the column without which the held-out loss is lowest, as long as it was of no use."""
    best = yield from _begin(frozenset(space.candidates), note)
    for number in range(1, search.max_steps + 1):
        left = space.removable(best.columns)
        if not left:
            return _end(best, number, "no column can be dropped", note)
        trials = yield [best.columns - {one} for one in left]
        step = Step(number, [(one,) for one in left], trials)
        place = min(range(len(left)), key=lambda at: (trials[at].rank, at))
        use = -_gain(best.trial, trials[place])
        if _is_gain(use, search):
            why = f"the least useful of {len(left)}, {left[place]}, lowers the loss by {use:.4g}"
            return _end(best, number, why, note, step)
        best = Standing(best.columns - {left[place]}, trials[place])
        why = f"without {left[place]} {_moved(use)}, the best of {len(left)}"
        _note(best, step, "dropped", (left[place],), why, -use, note)
    return _end(best, search.max_steps, f"max_steps = {search.max_steps} are done", note)


def refit(space: SearchSpace, search: Search, note: Note) -> Walk:
    """Drop own columns of the smallest weights and train again, as long as that costs nothing."""
    best = yield from _begin(frozenset(space.candidates), note)
    for number in range(1, search.max_steps + 1):
        own = [one for one in space.removable(best.columns) if one.party == space.label]
        if not own:
            return _end(best, number, "no own column can be dropped", note)
        own.sort(key=lambda one: best.trial.weights.get(one.column, 0.0))
        dropped = tuple(own[: max(1, int(search.share * len(own)))])
        trials = yield [best.columns - {*dropped}]
        step, use = Step(number, [dropped], trials), -_gain(best.trial, trials[0])
        names = " and ".join(map(str, dropped))
        if _is_gain(use, search):
            return _end(best, number, f"{names} lower the loss by {use:.4g}, small as their weights are", note, step)
        best = Standing(best.columns - {*dropped}, trials[0])
        _note(best, step, "dropped", dropped, f"of the smallest weights; {_moved(use)}", -use, note)
    return _end(best, search.max_steps, f"max_steps = {search.max_steps} are done", note)


def train_once(space: SearchSpace, _: Search, __: Note) -> Walk:
    """Take what the filters leave."""
    return frozenset(space.candidates)
    yield []  # a generator, like the others


def _begin(columns: Columns, note: Note) -> Generator[list[Columns], list[Trial], Standing]:
    trials = yield [columns]
    best = Standing(columns, trials[0])
    _note(best, Step(0, [()], trials), "begin", (), f"it begins with {len(columns)} columns", None, note)
    return best


def _moved(rise: float) -> str:
    """Say how far the loss has moved."""
    return f"the loss {'falls' if rise < 0 else 'rises'} by {abs(rise):.4g}"


def _gain(before: Trial, after: Trial) -> float:
    """Compute how much the loss falls; nothing from one model without any use to another."""
    return 0.0 if before.rank == after.rank else before.rank - after.rank


def _is_gain(gain: float, search: Search) -> bool:
    return gain > 0.0 and gain >= search.min_gain


def _end(best: Standing, number: int, why: str, note: Note, step: Step | None = None) -> Columns:
    found = step or Step(number, [], [])
    _note(best, found, "stopped", (), why, None, note)
    return best.columns


def _note(  # noqa: PLR0917
    best: Standing,
    step: Step,
    decision: str,
    chosen: tuple[Candidate, ...],
    why: str,
    gain: float | None,
    note: Note,
) -> None:
    finite = gain is not None and abs(gain) != float("inf")
    note(
        TrailStep.model_validate(
            {
                "number": step.number,
                "tried": tuple(one.job for one in step.trials),
                "changed": tuple(pairs(one) for one in step.changes),
                "decision": decision,
                "chosen": pairs(chosen),
                "why": why,
                "columns": pairs(best.columns),
                "job": best.trial.job,
                "loss": best.trial.loss,
                "gain": gain if finite else None,
            }
        )
    )
