"""Keeps the bundles that a data party is dealt, and compares those that are opened.

When an opened bundle is dealt, each data party sends the one in turn the key of its masks of that bundle. With all keys
that party computes the words that it should have been dealt. Keys of bundles that are used never leave.
"""

from collections.abc import Callable, Mapping

import numpy as np

from tercet.mpc.arithmetic.ring import Words, expect
from tercet.mpc.dealing.bundles import Bundle, ChosenBundles, StepBundles
from tercet.mpc.dealing.hidden_helper import bundle_words
from tercet.mpc.dealing.shares import streams
from tercet.mpc.dealing.sizes import BlindLayout
from tercet.mpc.interface.script import Receive, Script, Send, received_words
from tercet.mpc.plan.architecture import Tensors, flat, unpack
from tercet.mpc.plan.plan import Plan
from tercet.mpc.plan.schedule import Step
from tercet.mpc.randomness.masks import BUNDLE_KEY, Masks, opened_masks

KEY_SHAPE = (1, 4)

OpenKey = Callable[[int, Words], Masks]
"""Makes the masks of a data party's bundle from the key that it has sent."""


class WrongDealing(ValueError):
    """The helper has dealt words that do not follow from masks. It says nothing of which ones."""


class ReceivedBundles:
    """Holds what data party `me` is dealt of bundles, until it is used or compared.

    Args:
        me: This party's index.
        plan: The job's agreed numbers.
        masks: Shared with the helper.
        bundles: Which there are.
        trains: Whether a way back follows each pass.
        open_key: Other than the keys' own masks in tests alone.
    """

    def __init__(
        self,
        me: int,
        plan: Plan,
        masks: Masks,
        bundles: ChosenBundles | StepBundles,
        *,
        trains: bool,
        open_key: OpenKey | None = None,
    ) -> None:
        self._me, self._plan, self._masks, self._bundles, self._trains = me, plan, masks, bundles, trains
        self._layout, self._open_key = BlindLayout(plan), open_key or (lambda _, words: opened_masks(words))
        self._others = tuple(j for j in range(len(plan.columns)) if j != me)
        self._words: dict[int | None, Words] = {}  # explicit ones, by number

    def masks(self, step: Step) -> Masks:
        """Return this party's masks of the bundle that a step uses."""
        return self._bundles.used(step).masks(self._masks)

    def due(self, step: Step) -> int:
        """Count the explicit words that this party is dealt with a step."""
        return len(self._mine(step)) * self._size(step)

    def accept(self, step: Step, words: Words) -> Tensors:
        """Accept these, in one row; return this party's share of all that the step uses."""
        bundles, size = self._mine(step), self._size(step)
        for n, bundle in enumerate(bundles):
            self._words[bundle.number] = words[:, n * size : (n + 1) * size]
        used, entries = self._bundles.used(step), self._layout.dealt(step.rows, trains=self._trains)
        if used.turn == self._me:
            return unpack(entries, self._words.pop(used.number), "what the helper dealt")
        return streams(entries, self._me, used.masks(self._masks), step)

    def compare(self, step: Step) -> Script[None]:
        """Compare the bundle that is dealt with a step and opened, if one is.

        Raises:
            WrongDealing: at the party in turn, of words that are not what they should be.
        """
        bundle = self._bundles.opened(step)
        if bundle is None:
            return
        if bundle.turn != self._me:
            yield Send("bundle key", 0, (bundle.turn,), self._key(bundle, step))
            return
        keys = received_words((yield Receive("bundle key", 0, dict.fromkeys(self._others, KEY_SHAPE))))
        masks = self._opened(bundle, keys)
        due = bundle_words(self._plan, self._layout, masks, step, turn=self._me, trains=self._trains)
        if not np.array_equal(self._words.pop(bundle.number), due):
            raise WrongDealing("what the helper dealt does not follow from masks")

    def _key(self, bundle: Bundle, step: Step) -> Words:
        return bundle.masks(self._masks)(BUNDLE_KEY, self._me, self._me, step, KEY_SHAPE)

    def _opened(self, bundle: Bundle, keys: Mapping[int, Words]) -> dict[int, Masks]:
        """Make all data parties' masks of an opened bundle."""
        found = {self._me: bundle.masks(self._masks)}
        for j in self._others:
            key = expect(keys[j], KEY_SHAPE, f"the key of an opened bundle of party {j}")
            found[j] = bundle.masks(self._open_key(j, key))
        return found

    def _mine(self, step: Step) -> list[Bundle]:
        return [bundle for bundle in self._bundles.sent(step) if bundle.turn == self._me]

    def _size(self, step: Step) -> int:
        return flat(self._layout.dealt(step.rows, trains=self._trains))[1]
