"""A report shows itself in a frame where nothing runs, and is saved for its user alone."""

import stat
from pathlib import Path

import pytest

import tercet
from tests.agents.reports.test_report import Page

PAGE = '<!doctype html><p title="x">a & b</p><script>alert(1)</script>"><img src=x onerror=alert(1)>'


def test_a_notebook_gets_one_frame_without_rights_whatever_the_page_holds() -> None:
    """A quote in the page cannot end the attribute that holds it, and `sandbox` allows nothing."""
    report = tercet.Report(lambda: PAGE)
    shown = Page(report._repr_html_())
    attributes = dict(shown.attributes)
    assert (shown.tags, attributes["sandbox"], attributes["srcdoc"]) == (["iframe"], "", PAGE)
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
