"""Reports what makes a table unusable: in full to its owner, in a sentence to others.

No text here holds a value of the table; the sentence for the others holds no column, count, path or id either.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from tercet.schemas.core.error import TercetError

if TYPE_CHECKING:  # every command tells this error, and most have no use for numpy
    import numpy as np
    from numpy.typing import NDArray

SHOWN = 5  # columns that one sentence names


class TableProblem(TercetError, ValueError):
    """A table that can't be used, and how to mend it.

    Attributes:
        what: what is wrong, for the party whose table it is: names columns, counts and line numbers, shows no values.
        remedy: what that party can do about it.
        public: what the other parties may read: names nothing but the table, as the job does.
        lacks: which of the columns to use there are not, where that is what is wrong.
    """

    code = "table.unusable"

    def __init__(self, what: str, remedy: str, public: str, lacks: tuple[str, ...] = ()) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what, self.remedy, self.public, self.lacks = what, remedy, public, lacks
        self.hint = remedy


class UnusableError(ValueError):
    """The same before anybody has said which table it is.

    `public` goes on after the table's name.
    """

    def __init__(self, what: str, remedy: str, public: str, lacks: tuple[str, ...] = ()) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what, self.remedy, self.public, self.lacks = what, remedy, public, lacks


class TableFaults:
    """All that is wrong with one table, to be told at once."""

    def __init__(self) -> None:
        self._found: list[UnusableError] = []

    @contextmanager
    def gather(self) -> Iterator[None]:
        """Keep the `UnusableError` that ends the block, if one does, and go on behind it."""
        try:
            yield
        except UnusableError as found:
            self._found.append(found)

    def __bool__(self) -> bool:
        return bool(self._found)

    def refuse(self) -> None:
        """Return if nothing is wrong.

        Raises:
            UnusableError: something is; one for all that was found, each with its remedy.
        """
        if not self._found:
            return
        *others, last = self._found
        what = "; also: ".join([*map(str, others), last.what])
        public = ", and ".join(dict.fromkeys(found.public for found in self._found))
        lacks = tuple(name for found in self._found for name in found.lacks)
        raise UnusableError(what, last.remedy, public, lacks)


@contextmanager
def problems_of(name: str, place: str) -> Iterator[None]:
    """Turn `UnusableError` into the `TableProblem` of the table `name`.

    Its owner finds the table at `place`.
    """
    try:
        yield
    except UnusableError as found:
        what = f"table {name!r} ({place}): {found.what}"
        raise TableProblem(what, found.remedy, f"the table {name!r} {found.public}", found.lacks) from None


class RowPlaces(Protocol):
    """Tells the owner of a table where to find its rows.

    Attributes:
        unit: what a row is looked up by: "line" of a file, "row" of an answer.
    """

    unit: str

    def places(self, rows: Sequence[int]) -> list[int]:
        """Return the numbers of these rows there, which are given from 0 and in ascending order."""
        ...


class WrongRows:
    """Counts rows that are wrong in one way, and notes the first of them.

    It counts over batches.

    Args:
        places: where the owner finds the rows.
    """

    SHOWN = 3

    def __init__(self, places: RowPlaces) -> None:
        self._places = places
        self.count = 0
        self._shown: list[int] = []

    def add(self, wrong: "NDArray[np.bool_]", start: int) -> None:
        """Count the rows of a batch marked True.

        Its first row is number `start` of the table, from 0.
        """
        (rows,) = wrong.nonzero()
        self.count += len(rows)
        self._shown += (start + rows[: self.SHOWN - len(self._shown)]).tolist()

    def __bool__(self) -> bool:
        return self.count > 0

    def describe(self, what: str) -> str:
        """Describe them, such as "4 values missing (line 2, 3, 7, ...)"."""
        first = ", ".join(map(str, self._places.places(self._shown)))
        more = ", ..." * (self.count > len(self._shown))
        return f"{self.count:,} value{'s' * (self.count > 1)} {what} ({self._places.unit} {first}{more})"


def join_names(names: Iterable[str], most: int | None = None) -> str:
    """Join column names for an error text, and count those beyond `most`."""
    shown, rest = list(names)[:most], [] if most is None else list(names)[most:]
    return ", ".join(repr(name) for name in shown) + (f" and {len(rest):,} more" if rest else "")
