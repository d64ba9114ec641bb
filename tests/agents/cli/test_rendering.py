"""What another party has written reaches a person's terminal as words: it moves no cursor and forges no line."""

import io
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tercet.agents.cli import rendering
from tercet.agents.jobs.approvals import summarize_revelations
from tercet.agents.policy.audit_log import GENESIS, Entry
from tercet.agents.runs.status import _first
from tercet.schemas.core.visible import escape_invisible
from tercet.schemas.messages.kinds import Job
from tests.agents.cli.test_bar import status
from tests.agents.scenes import BANK, CARD, job, party_settings

HOSTILE = "a model\x1b[2J\x1b[H\nbank learns nothing\r\x07\u202e[/][red]"
SHOWN = r"a model\x1b[2J\x1b[H\nbank learns nothing\r\x07\u202e[/][red]"


def printed(value: Any) -> str:
    """As a terminal would get it."""
    file = io.StringIO()
    Console(file=file, width=4000, force_terminal=True, color_system=None).print(value)
    return file.getvalue()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_one_line_of_its_own_visible_signs(text: str) -> None:
    """Brackets are no markup either; a backslash at the end may be there twice, so that it escapes nothing."""
    shown = escape_invisible(text).rstrip()
    assert printed(rendering.fit(text)).rstrip() in {shown, f"{shown}\\"}


def test_a_purpose_cannot_change_what_a_person_decides_by(tmp_path: Path) -> None:
    """Somebody else wrote it, and the lines below it say what the job would tell whom."""
    asked = job(purpose=HOSTILE)
    settings = party_settings(tmp_path, CARD)
    reported = summarize_revelations(
        Job(id=asked.id, run=bytes(32), description=asked, members=(), submitter=CARD), settings
    )
    page = printed(rendering.reveals_table(asked.id, reported))
    assert SHOWN in page
    assert "\x1b[2J" not in page
    assert page.count("\n") == printed(rendering.reveals_table(asked.id, ["x" * 40] * len(reported))).count("\n")


def test_the_audit_log_is_shown_as_words() -> None:
    """The log itself keeps what was said."""
    entry = Entry(
        1, "now", "received", "credit-0a1b2c3d", "", {"purpose": HOSTILE, "submitter": BANK}, GENESIS, GENESIS
    )
    page = printed(rendering.audit_table([entry]))
    assert SHOWN in page
    assert "\x1b[2J" not in page
    assert page.count("\n") == printed(rendering.audit_table([entry, entry])).count("\n") - 1


def test_a_status_has_as_many_notes_as_a_person_reads() -> None:
    """A table of thousands of columns may have one for each, and a message holds no more than some thousands."""
    notes = [f"note {number}" for number in range(5000)]
    assert _first(notes[:20]) == tuple(notes[:20])
    assert _first(notes) == (*notes[:20], "4,980 more warnings are in the log and the report")


def test_warnings_are_counted_while_a_job_runs_and_told_at_its_end() -> None:
    """Unseen categories, say: the scores are given all the same."""
    assert "1 warning" in rendering._note(status(warnings=("one",)))
    assert "2 warnings" in rendering._note(status(warnings=("one", "two")))
    assert "warning" not in rendering._note(status())
    warned = status(warnings=("3 of 9 values were not there",))
    assert "3 of 9 values were not there" in printed(rendering.job_details(warned))


def test_a_metric_has_its_interval_beside_it() -> None:
    assert rendering.metric(0.75, None) == "0.7500"
    assert rendering.metric(0.75, (0.7, 0.8)) == "0.7500 (0.7000 to 0.8000)"


def test_a_job_with_folds_says_which_one_it_is_at_and_what_each_came_to() -> None:
    figures: dict[str, Any] = {"fold": 3, "step": 4, "steps": 40, "folds": ({"auc": 0.7}, {"auc": 0.8})}
    means = {"metrics": {"auc": 0.75}, "deviations": {"auc": 0.0707}}
    page = printed(rendering.job_details(status(**figures, **means)))
    for line in ("4 of 40, without fold 3", "0.7500 ± 0.0707", "auc 0.7000", "auc 0.8000"):
        assert line in page
