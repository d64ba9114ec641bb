"""Turns a label of two classes into 0 and 1.

The positive class is named by the settings, or plain.

It sees all classes of a table and shows none of them, but for words that it knows itself, such as "yes".
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from tercet.tables.core.moments import Floats
from tercet.tables.core.values import WORDS
from tercet.tables.encoding.label import UnfitLabel
from tercet.tables.matching.ids import normalise

PLAIN: Final = (("0", "1"), ("false", "true"), ("-1", "1"), ("no", "yes"), ("n", "y"), ("f", "t"))
"""Pairs whose second one is the positive class unless the settings say otherwise."""
NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def two_classes(label: Floats, names: Sequence[str], positive: str | None, table: str) -> tuple[Floats, str | None]:
    """Turn the label of the rows in common into 0 and 1, (rows,).

    Returns what its party should know of that too.

    Args:
        label: (rows,) places in `names`, of all rows in common, held out or not.
        names: of the whole table's classes.
        positive: the class that becomes 1, if the settings name one.
        table: its name, for errors and notes.

    Raises:
        UnfitLabel: there are not two classes, or it is not known which of them is the positive one.
    """
    places = label.astype(np.int64)
    found = np.flatnonzero(np.bincount(places, minlength=len(names)))
    forms = [_form(names[int(place)]) for place in found]
    if len(set(forms)) != 2:
        raise _not_two(len(set(forms)), table)
    one, note = _positive(set(forms), positive, table)
    ones = np.zeros(len(names))
    ones[found[[form == one for form in forms]]] = 1.0
    return ones[places], note


def check_two_classes(names: Sequence[str], positive: str | None, table: str) -> None:
    """Check that it is known which of a whole table's two classes is positive.

    A table with another number of classes passes.

    Rows in common may have fewer classes than the table, never more.

    Raises:
        UnfitLabel: there are two, and it is not.
    """
    if (forms := _if_two(names)) is not None:
        _positive(forms, positive, table)


def about_two_classes(names: Sequence[str], positive: str | None, table: str) -> str | None:
    """Tell the owner of a whole table what to know of its label, if that has two classes."""
    if (forms := _if_two(names)) is None:
        return None
    try:
        return _positive(forms, positive, table)[1]
    except UnfitLabel as problem:
        return f"for a logistic model {problem}"


def _not_two(classes: int, table: str) -> UnfitLabel:
    what = f"the label of table {table!r} has {classes:,} class{'es' * (classes != 1)} in the rows in common"
    if classes < 2:
        return UnfitLabel(what, "give rows of the other class too", table)
    remedy = (
        'a logistic model takes two, such as 0 and 1: group them, use model = "one-vs-rest" or "softmax" (or of a '
        'network output = "softmax"), or model = "linear" if these are numbers'
    )
    return UnfitLabel(what, remedy, table)


def _positive(forms: set[str], named: str | None, table: str) -> tuple[str, str | None]:
    """Choose which of two classes becomes 1, and what to say of that."""
    label = f"the label of table {table!r}"
    if named is not None:
        if (one := _form(_normal(named))) not in forms:
            what = f"`positive` names none of the two classes of {label}"
            raise UnfitLabel(what, f"correct `positive` under [tables.{table}]; capitals count", table)
        return one, None
    plain = {form.lower(): form for form in forms}
    for no, yes in PLAIN:
        if plain.keys() == {no, yes}:
            note = (
                f"{label} is {no} or {yes}: {yes} is taken as the positive class, 1; `positive` beside "
                f"`label` can name the other one"
            )
            return plain[yes], None if no == "0" else note
    what = f"{label} has two classes, and nothing says which of them is the positive one, 1"
    remedy = f'write positive = "..." with that class\'s name beside `label` under [tables.{table}]'
    raise UnfitLabel(what, remedy, table)


def _if_two(names: Iterable[str]) -> set[str] | None:
    forms: set[str] = set()
    for name in names:  # a number in each row, perhaps
        forms.add(_form(name))
        if len(forms) > 2:
            return None
    return forms if len(forms) == 2 else None


def _form(name: str) -> str:
    """Return one form of each class: `1.0` of a file is 1, and `True` is true."""
    if NUMBER.fullmatch(name):
        number = float(name)
        return str(int(number)) if number.is_integer() else repr(number)
    return name.lower() if name.lower() in WORDS else name


def _normal(named: str) -> str:
    """Read the name as classes are read."""
    text: str | None = normalise(pa.array([named])).values[0].as_py()
    return text or ""
