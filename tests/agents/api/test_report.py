"""A report shows itself in a frame where nothing runs, and is saved for its user alone."""

import stat
from html.parser import HTMLParser
from pathlib import Path

import pytest

import tercet

PAGE = '<!doctype html><p title="x">a & b</p><script>alert(1)</script>"><img src=x onerror=alert(1)>'


class Tags(HTMLParser):
    """Notes the tags of a page, and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See `HTMLParser`."""
        self.tags.append((tag, dict(attrs)))


def tags_of(page: str) -> list[tuple[str, dict[str, str | None]]]:
    """The tags of a page."""
    reader = Tags()
    reader.feed(page)
    return reader.tags


def test_a_notebook_gets_one_frame_without_rights_whatever_the_page_holds() -> None:
    """A quote in the page cannot end the attribute that holds it, and `sandbox` allows nothing."""
    report = tercet.Report(lambda: PAGE)
    ((tag, attributes),) = tags_of(report._repr_html_())
    assert (tag, attributes["sandbox"], attributes["srcdoc"]) == ("iframe", "", PAGE)
    assert not {name for name in attributes if name.startswith("on")} | {"src"} & attributes.keys()


def test_a_page_is_made_once_and_only_if_somebody_looks() -> None:
    made = []
    report = tercet.Report(lambda: made.append(1) or PAGE)  # type: ignore[func-returns-value]
    assert not made
    assert "<" not in repr(report)
    assert (report.html, report.html, made) == (PAGE, PAGE, [1])


def test_a_saved_page_is_its_users_own(tmp_path: Path) -> None:
    path = tercet.Report(lambda: PAGE).save(tmp_path / "page.html")
    assert path.read_text(encoding="utf-8") == PAGE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(tercet.Invalid, match="No such file"):
        tercet.Report(lambda: PAGE).save(str(tmp_path / "none" / "page.html"))
