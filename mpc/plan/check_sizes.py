"""How large the words are by which data parties check what the helper deals: `checks` says what they are.

It sees the job's public numbers only.
"""

from typing import NamedTuple


class Sizes(NamedTuple):
    """How large everything is. `width` is how many outputs the helper masks: those of layer 0 in a network."""

    columns: tuple[int, ...]  # of each data party
    width: int
    checks: int

    @property
    def narrow(self) -> int:
        """Columns of k t: where there are no more outputs than checks, t is left out."""
        return min(self.width, self.checks)

    def opened(self, rows: int) -> tuple[int, int]:
        """Shape of what one data party sends another: eps beside delta."""
        return rows, self.checks + self.narrow

    def dealt(self, i: int) -> tuple[int, int]:
        """Shape of what party i is dealt: g_ij and gamma_ij of each other party j, one after another, in one row."""
        each = self.columns[i] * self.width + self.checks * self.narrow
        return 1, each * (len(self.columns) - 1)
