"""A stranger's text is shown with every sign that it has, and cannot move, hide or reorder what stands beside it."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.schemas.core.visible import escape_invisible

BIDI = [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C]
ZERO_WIDTH = [0x00AD, 0x034F, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0x180E, 0xFE0F, 0xE0100, 0xE0041]
FILLERS = [0x115F, 0x1160, 0x3164, 0xFFA0, 0x2800]
CONTROLS = [0x00, 0x07, 0x08, 0x09, 0x0A, 0x0D, 0x1B, 0x7F, 0x85, 0x9B, 0x2028, 0x2029, 0xD800, 0xE000, 0x10FFFF]


@pytest.mark.parametrize("code", BIDI + ZERO_WIDTH + FILLERS + CONTROLS, ids=hex)
def test_a_sign_that_nobody_sees_is_shown_by_its_number(code: int) -> None:
    """Its escape is printable ASCII, and names it."""
    shown = escape_invisible(f"a{chr(code)}b")
    assert shown[0] == "a"
    assert shown[-1] == "b"
    assert shown.isascii()
    assert shown.isprintable()
    assert shown[1:-1].encode().decode("unicode_escape") == chr(code)


@pytest.mark.parametrize(
    "text", ["Müller & Søn", "客户", "לקוח", "عميل", "k\u0301", "a\u00a0b", "価格\u3000税", r"C:\new", "😀"]
)
def test_words_of_any_script_stay_as_they_are(text: str) -> None:
    """Spaces of any width and combining accents included."""
    assert escape_invisible(text) == text


def test_what_is_to_be_kept_is_kept() -> None:
    """Lines of a page, say."""
    assert escape_invisible("a\nb\tc", keep="\n") == "a\nb\\tc"


@given(st.text())
def test_every_text_becomes_one_that_shows_all_it_has(text: str) -> None:
    """Doing it twice changes nothing, and nothing of the kind is left."""
    shown = escape_invisible(text)
    assert escape_invisible(shown) == shown
    assert not {unicodedata.category(sign) for sign in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
