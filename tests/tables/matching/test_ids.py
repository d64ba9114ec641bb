"""The same id is the same text whatever a source stores it as; different ids stay different; none is ever shown."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tercet.tables.core.problem import UnusableError
from tercet.tables.matching.ids import IdColumn, describe_ids, normalise

EXACT = st.integers(-(2**53) + 1, 2**53 - 1)
BLANKS = st.text(alphabet=" \t\n\r\u00a0\u3000", max_size=3)
WIDE = str.maketrans("0123456789", "０１２３４５６７８９")  # noqa: RUF001 - full-width digits are the point


def normal(*values, kind=None, **how) -> list[str | None]:
    """What becomes of ids of which none is wrong."""
    ids, wrong = normalise(pa.array(values, kind), **how)
    assert not wrong.any()
    assert ids.type == pa.large_string()
    texts: list[str | None] = ids.to_pylist()
    return texts


class Lines:
    """A file with a row in every line but the first."""

    unit = "line"

    def places(self, rows: Sequence[int]) -> list[int]:
        """The lines of these rows."""
        return [row + 2 for row in rows]


def column(*parts, decimal=False):
    """The ids of a table that comes in these parts, from line 2."""
    ids = IdColumn("customer", Lines(), decimal=decimal)
    for part in parts:
        ids.add(part if isinstance(part, pa.Array) else pa.array(part))
    return ids.finish()


def refusal(*parts, **how) -> UnusableError:
    """How a table with these ids is refused."""
    with pytest.raises(UnusableError) as caught:
        column(*parts, **how)
    assert caught.value.__cause__ is None
    return caught.value


@given(number=EXACT, before=BLANKS, after=BLANKS)
def test_an_id_is_the_same_as_integer_float_decimal_and_text(number, before, after):
    """Padded or in full-width digits too, so that every pair of parties matches."""
    digits = str(number)
    assert normal(number) == normal(float(number)) == normal(digits) == [digits]
    assert normal(f"{before}{digits}{after}") == normal(digits.translate(WIDE)) == [digits]
    assert normal(Decimal(number), kind=pa.decimal128(20, 2)) == normal(digits, decimal=True) == [digits]
    assert normalise(pa.array([digits]).dictionary_encode()).values.to_pylist() == [digits]


@given(st.text())
def test_a_normal_id_is_normal(text):
    """Normalising again changes nothing."""
    once = normal(text)
    assert normal(*once, kind=pa.large_string()) == once


@given(st.text(alphabet="aA0 1é", max_size=5), st.text(alphabet="aA0 1é", max_size=5))
def test_different_ids_stay_different(one, other):
    """Case, leading zeros and inner spaces count."""
    assume(one.strip() != other.strip())
    assert normal(one) != normal(other)


@given(st.lists(st.text(), max_size=6), st.integers(0, 6))
def test_an_id_does_not_depend_on_its_neighbours(texts, cut):
    """So batches may be cut anywhere."""
    whole = normal(*texts, kind=pa.string())
    assert whole == normal(*texts[:cut], kind=pa.string()) + normal(*texts[cut:], kind=pa.string())


@pytest.mark.parametrize(
    ("values", "kind", "ids"),
    [
        ([0.0, -0.0, 1e15], pa.float64(), ["0", "0", "1000000000000000"]),
        ([0, 2**64 - 1], pa.uint64(), ["0", str(2**64 - 1)]),
        ([-(2**63)], pa.int64(), [str(-(2**63))]),
        ([Decimal("0.00"), Decimal("9" * 36)], pa.decimal128(38, 2), ["0", "9" * 36]),
        ([16777215.0], pa.float32(), ["16777215"]),
        (["ﬁ1", "e\u0301", "007", "Ab"], pa.string(), ["fi1", "é", "007", "Ab"]),
        ([None, "", " \u00a0"], pa.large_string(), [None, None, None]),
        ([None, float("nan")], pa.float64(), [None, None]),
        ([None], pa.null(), [None]),
    ],
)
def test_ids_at_the_edges(values, kind, ids):
    """Zero has no sign, ligatures and accents one form, and what is empty is missing."""
    assert normal(*values, kind=kind) == ids


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.5, float("inf"), 2.0**53, -(2.0**53), 1e300], pa.float64()),
        ([16777216.0, 0.5], pa.float32()),
        ([Decimal("0.01"), Decimal("-1.50")], pa.decimal128(10, 2)),
    ],
)
def test_a_number_that_is_no_id_is_refused(values, kind):
    """A fraction, and a float so large that it may have been another id."""
    _, wrong = normalise(pa.array(values, kind))
    assert wrong.all()
    found = refusal(pa.array([1, 2], pa.int8()), pa.array(values, kind))
    assert f"has {len(values)} values not whole" in found.what
    assert "(line 4, 5" in found.what


def test_numeric_that_comes_as_text_is_a_number():
    """1.5 is no id where the database calls it a number, and is one where it calls it text."""
    assert normal("1.5") == ["1.5"]
    assert "has 1 value not whole" in refusal(["12", "1.5"], decimal=True).what
    assert "(line 3)" in refusal(["12", "NaN"], decimal=True).what


@pytest.mark.parametrize("values", [[True, False], [b"1"], [date(2020, 1, 1)], [[1]]])
def test_other_types_are_no_ids(values):
    """Yes and no, bytes, dates and lists."""
    found = refusal(values)
    assert "no ids" in found.what
    assert "customer" not in found.public


@given(st.lists(st.sampled_from(["a", "b", "c", "7", " 7 ", "７"]), max_size=7), st.integers(0, 7))  # noqa: RUF001
def test_a_repeat_is_found_after_normalising_and_in_whatever_batch(texts, cut):
    """With how many and where; the first of each is none."""
    normalised = [text.strip().replace("\uff17", "7") for text in texts]
    again = [row for row, text in enumerate(normalised) if text in normalised[:row]]
    parts = [pa.array(part, pa.string()) for part in (texts[:cut], texts[cut:])]
    if not again:
        assert column(*parts).to_pylist() == normalised
        return
    found = refusal(*parts)
    assert f"{len(again)} value{'s' * (len(again) > 1)} already further up" in found.what
    assert "line " + ", ".join(str(row + 2) for row in again[:3]) in found.what


def test_empty_ids_are_counted_and_placed():
    """By line, over batches."""
    found = refusal(["a", " "], [None, "b", ""])
    assert "id column 'customer' has 3 values empty (line 3, 4, 6)" in found.what
    assert found.public == "has rows without an id"


def test_text_that_is_not_utf8_is_an_error():
    """Which a database or a Parquet file may hold."""
    broken = pa.array([b"\xff\xfe"]).view(pa.string())
    with pytest.raises(UnicodeError):
        normalise(broken)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["007", "8", "12345678"], "3 of digits only, 1 of them with leading zeros, 1 to 8 characters long"),
        (
            ["007", "a1", "B"],
            "1 of digits only, 1 of them with leading zeros, 1 of letters only, 1 of letters and digits",
        ),
        (["1.0", "a-b"], "1 of digits with a decimal point, 1 of other forms, 3 characters long"),
        (["é"], "1 of letters only, 1 character long"),
        (["3fa85f64-5717-4562-b3fc-2c963f66afa6"], "1 written as UUIDs, 36 characters long"),
        ([], "none"),
    ],
)
def test_ids_are_described_by_their_forms(ids, said):
    """For an operator who wonders why nothing matches."""
    array = pa.array(ids, pa.large_string())
    assert describe_ids(array).startswith(said)
    assert describe_ids(pa.chunked_array([array])) == describe_ids(array)


@given(st.lists(st.text(alphabet="aé01-. _", min_size=1), min_size=1))
def test_a_description_counts_every_id_once(ids):
    """Whatever they are."""
    said = describe_ids(pa.array(ids, pa.large_string())).split(", ")
    counts = [int(part.split()[0]) for part in said[:-1] if "leading" not in part]
    assert sum(counts) == len(ids)
