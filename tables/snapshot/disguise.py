"""Finds columns of text that are numbers, dates or truth values but for some odd cells.

Taken for categories, each number would become a column of its own. So their owner has to say what they
are. Of a column it keeps counts and the different texts of its first rows, and shows none of them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tercet.tables.core.problem import RowPlaces, UnusableError, WrongRows
from tercet.tables.core.values import ABSENT

NEARLY_ALL = 0.9  # of the rows, or of the different texts
MOST_SEEN = 10_000  # different texts
SHOWN = 5  # columns that an error tells about
UNSAID = "has a column of which its owner's settings do not say what it is"  # to the other parties

MONTH = r"(?:[A-Za-z]|[^\x00-\x7f]){3,9}"  # the class of all letters takes a hundred times as long to compile
CURRENCY = "(?:[$€£¥]|AUD|BRL|CAD|CHF|CNY|CZK|DKK|EUR|GBP|HUF|INR|JPY|MXN|NOK|PLN|SEK|TRY|USD|ZAR)?"
DATES = (
    r"[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}(?:[T ].*)?",
    r"[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{2,4}(?:[T ].*)?",
    rf"[0-9]{{1,2}}[-/. ]+{MONTH}[-/. ,]+[0-9]{{2,4}}",
    rf"{MONTH}\.? [0-9]{{1,2}},? [0-9]{{4}}",
    r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?(?:[.,][0-9]+)?(?: ?[AaPp][Mm])?",
)
NUMBER = rf"[-+(]?{CURRENCY} ?[-+]?\.?[0-9][0-9.,' _]*(?:[eE][-+]?[0-9]+)? ?(?:%|{CURRENCY})\)?|[-+]?(?i:inf|infinity)"
TRUTH = "truth values"
FORMS = {  # of texts as categories are spelt; the first that fits counts
    "dates or times": f"^(?:{'|'.join(DATES)})$",
    "numbers": f"^(?:{NUMBER})$",
    TRUTH: "^(?:true|false)$",
}
OTHER = len(FORMS)  # place of texts that are none of these
PLAIN = r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$"  # what is read as a number


class DisguisedColumn:
    """Finds out what the texts of one column are.

    Args:
        places: where the owner finds the rows.
    """

    def __init__(self, places: RowPlaces) -> None:
        self._rows, self._different = np.zeros(OTHER + 1, np.int64), np.zeros(OTHER + 1, np.int64)
        self._seen: set[str] = set()
        self._other, self._unreadable = WrongRows(places), WrongRows(places)

    def add(self, texts: pa.Array, start: int) -> None:
        """Take the next texts, as `values.as_texts` gives them.

        The first is row `start` of the table.
        """
        texts = pc.if_else(pc.is_in(texts, ABSENT), pa.scalar(None, pa.large_string()), texts)
        found = texts.dictionary_encode()
        forms, plain = forms_of(found.dictionary), _fits(found.dictionary, PLAIN)
        self._note_different(found.dictionary, forms)
        rows = np.flatnonzero(texts.is_valid().to_numpy(zero_copy_only=False))
        places = found.indices.drop_null().to_numpy()
        self._rows += np.bincount(forms[places], minlength=OTHER + 1)
        for counter, wrong in ((self._other, forms == OTHER), (self._unreadable, ~plain)):
            marks = np.zeros(len(texts), np.bool_)
            marks[rows] = wrong[places]
            counter.add(marks, start)

    def _note_different(self, texts: pa.Array, forms: NDArray[np.int64]) -> None:
        if len(self._seen) >= MOST_SEEN:
            return
        for text, form in zip(texts.to_pylist(), forms.tolist(), strict=True):
            if text not in self._seen:
                self._seen.add(text)
                self._different[form] += 1

    def __bool__(self) -> bool:
        """Tell whether nearly all texts are of these forms."""
        return any(
            counts.sum() > 0 and counts[:OTHER].sum() >= NEARLY_ALL * counts.sum()
            for counts in (self._rows, self._different)
        )

    def __str__(self) -> str:
        """Describe it.

        Such as "nearly all of it looks like numbers: 1 value other than plain numbers (line 7)".
        """
        form = list(FORMS)[int(self._rows[:OTHER].argmax())]
        odd, plain = (self._unreadable, "plain numbers") if form == "numbers" else (self._other, form)
        if not odd:
            return f"all of it looks like {form}"
        return f"nearly all of it looks like {form}: {odd.describe(f'other than {plain}')}"


def forms_of(texts: pa.Array) -> NDArray[np.int64]:
    """Return the place of each text's form in FORMS, or OTHER."""
    fits = [_fits(texts, pattern) for pattern in FORMS.values()]
    return np.select(fits, np.arange(OTHER), OTHER)


def look_like_values(categories: Sequence[str]) -> bool:
    """Tell whether one of these texts could be a number, a date or a time.

    They are spelt as categories are.
    """
    forms = forms_of(pa.array(categories, pa.large_string()))
    return bool(np.isin(forms, [OTHER, list(FORMS).index(TRUTH)], invert=True).any())


def refuse_disguised(columns: Mapping[str, DisguisedColumn]) -> None:
    """Return if the texts of no column are in disguise.

    Raises:
        UnusableError: some are; the columns are told to their owner alone.
    """
    found = [f"column {name!r} is text, and {disguise}" for name, disguise in columns.items() if disguise]
    if not found:
        return
    more = [f"so have {len(found) - SHOWN} more columns"] if len(found) > SHOWN else []
    raise UnusableError(
        "; ".join([*found[:SHOWN], *more]),
        "correct these values, and leave cells empty where one is missing; or say in the settings what the column is, "
        "under `numeric` or `categorical`, or leave it out with `columns`",
        UNSAID,
    )


def _fits(texts: pa.Array, pattern: str) -> NDArray[np.bool_]:
    fits: NDArray[np.bool_] = pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)
    return fits
