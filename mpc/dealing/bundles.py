"""Numbers the bundles of a training, and chooses those that are opened.

The helper deals them. A bundle is all that one step needs of it but what depends on masks of rows. It follows from
masks of its own, and from nothing else of a step than how many rows it has. So any step with as many rows can use it.

Steps with equal batches form groups, which have one bundle more than steps. One bundle of each group is opened instead
of used, and compared (`received`). Data parties draw which one by a key that the helper does not have. It deals the
first two bundles with a group's first step and one more with each further step, so that no step waits for another.
"""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from tercet.mpc.arithmetic.ring import Words
from tercet.mpc.dealing.sizes import explicit_party
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step, batch_sizes
from tercet.mpc.randomness.masks import BUNDLE, Keystream, Masks

LAST_STEPS = 64  # whose places are kept: as many as are ahead at a time
LAST_GROUPS = 64  # whose draws are kept: as many as are in use at a time


class Bundle(NamedTuple):
    """A bundle: its number in an attempt, and the data party that is dealt explicit words of it.

    Without a number it is of one step alone, under masks of that step, and never opened.
    """

    number: int | None
    turn: int

    def masks(self, masks: Masks) -> Masks:
        """Return the masks of this bundle, whichever step uses it."""
        number = self.number
        if number is None:
            return masks

        def of_bundle(mask: str, i: int, j: int, step: Step, shape: tuple[int, int]) -> Words:
            return masks(mask + BUNDLE, i, j, replace(step, index=number, epoch=0, position=number), shape)

        return of_bundle


class Place(NamedTuple):
    """Tells where a step stands among those with equal batches."""

    kind: int  # 0, or 1 for batches that end an epoch and have another size than the rest
    group: int
    steps: int  # of the group: the last one may be smaller
    position: int  # in the group


class StepBundles:
    """Gives each step of a pass that does not train one bundle of its own."""

    def __init__(self, parties: int) -> None:
        self._parties = parties

    def sent(self, step: Step) -> tuple[Bundle, ...]:
        """Return the bundles that are dealt with a step's other words."""
        return (self.used(step),)

    def used(self, step: Step) -> Bundle:
        """Return the bundle that a step uses."""
        return Bundle(None, explicit_party(step, self._parties))

    def opened(self, _: Step) -> Bundle | None:
        """Return the bundle that is dealt with a step and opened: none is."""
        return None


class Bundles:
    """Numbers the bundles of one attempt, as everybody knows them.

    Args:
        plan: The job's agreed numbers.
        first: The first step of the attempt.
    """

    def __init__(self, plan: Plan, first: int = 0) -> None:
        sizes, checked = batch_sizes(plan.request.rows, plan.request.batch), plan.request.checked
        self._batches, self._differs = len(sizes), sizes[-1] != sizes[0]
        self._first, self._last, self._parties = first, plan.steps_total, len(plan.columns)
        self.spare = int(checked > 0.0)  # bundles of a group beyond its steps
        self._group = int(1.0 / checked) if checked else 1
        self._places = lru_cache(LAST_STEPS)(self._find_place)  # a step asks for each of its masks

    def place(self, step: Step) -> Place:
        """Find a step's place."""
        return self._places(step.index, self._differs and step.position == self._batches - 1)

    def _find_place(self, index: int, is_last: bool) -> Place:  # noqa: FBT001 - for a cache
        before, begin, end = (self._count(each, last=is_last) for each in (index, self._first, self._last))
        group, position = divmod(before - begin, self._group)
        return Place(int(is_last), group, min(self._group, end - begin - group * self._group), position)

    def _count(self, index: int, *, last: bool) -> int:
        """Count the steps before this one: those with the last batches of an epoch, or all others.

        It is all of them where batches have one size.
        """
        found = index // self._batches if self._differs else 0
        return found if last else index - found

    def bundle(self, place: Place, which: int) -> Bundle:
        """Return a bundle of a place's group."""
        count = place.group * (self._group + self.spare) + which
        return Bundle(2 * count + place.kind, count % self._parties)

    def sent(self, step: Step) -> tuple[Bundle, ...]:
        """Return the bundles that are dealt with a step's other words."""
        place = self.place(step)
        last = place.position + self.spare
        return tuple(self.bundle(place, which) for which in range(last if place.position else 0, last + 1))


class ChosenBundles:
    """Tells a data party which bundles are used, and which are opened.

    Args:
        bundles: Of the attempt.
        key: Of data parties alone, for this attempt. A helper that knew it could deal opened bundles rightly.
    """

    def __init__(self, bundles: Bundles, key: bytes) -> None:
        self._bundles, self._stream = bundles, Keystream(key)
        self._choice = lru_cache(LAST_GROUPS)(self._draw)  # a step asks for each of its masks

    def sent(self, step: Step) -> tuple[Bundle, ...]:
        """Return the bundles that are dealt with a step's other words."""
        return self._bundles.sent(step)

    def used(self, step: Step) -> Bundle:
        """Return the bundle that a step uses.

        It is the one of its position in the group, or the next one from the opened one on.
        """
        place = self._bundles.place(step)
        return self._bundles.bundle(place, place.position + (self._opened(place) <= place.position))

    def opened(self, step: Step) -> Bundle | None:
        """Return the bundle that is dealt with a step and opened, if one is."""
        place = self._bundles.place(step)
        opened = self._bundles.bundle(place, self._opened(place))
        return opened if self._bundles.spare and opened in self._bundles.sent(step) else None

    def _opened(self, place: Place) -> int:
        return self._choice(place.kind, place.group, place.steps)

    def _draw(self, kind: int, group: int, steps: int) -> int:
        """Draw which bundle of a group is opened; one beyond the last where none is."""
        if not self._bundles.spare:
            return steps
        (word,) = self._stream.words(0, kind, group, (1,))
        return int(word) % (steps + 1)
