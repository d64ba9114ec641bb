"""Sizes the words by which data parties check the helper's dealing; see `checks`.

It sees the job's public numbers only.
"""

from typing import NamedTuple


class Sizes(NamedTuple):
    """Holds the sizes of all words of the checks.

    `width` is how many outputs the helper masks: those of layer 0 in a network.
    """

    columns: tuple[int, ...]  # of each data party
    width: int
    checks: int

    @property
    def narrow(self) -> int:
        """Columns of k t.

        Where there are no more outputs than checks, t is left out.
        """
        return min(self.width, self.checks)

    def opened(self, rows: int) -> tuple[int, int]:
        """Return the shape of one data party's openings to another: eps beside delta."""
        return rows, self.checks + self.narrow

    def dealt(self, i: int) -> tuple[int, int]:
        """Return the shape of party i's dealt words.

        g_ij and gamma_ij of each other party j stand one after another, in one row.
        """
        each = self.columns[i] * self.width + self.checks * self.narrow
        return 1, each * (len(self.columns) - 1)
