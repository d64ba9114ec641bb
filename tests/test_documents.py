"""The documents say what the code does: settings, commands, links, and the parts that are made from it.

It reads files and runs nothing of the protocol; whether a sentence is true is for people to check.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tercet.agents.cli.app import app
from tercet.agents.cli.job import jobs
from tercet.schemas.files.agent_settings import ConsoleSettings, MonitorSettings
from tercet.schemas.files.job import (
    EarlyStopping,
    Evaluation,
    Network,
    PredictionJob,
    Privacy,
    Scorecard,
    Training,
    TrainingJob,
)
from tercet.schemas.files.page_settings import PageSettings
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.recovery import Recovery
from tercet.schemas.files.settings import BrokerSettings, Deadlines, Limits, Partner, Settings, TableSettings
from tests.documents import MADE, with_part

ROOT = Path(__file__).parents[1]
MODELS = [
    Settings, BrokerSettings, TableSettings, Partner, Deadlines, Limits, MonitorSettings, PageSettings, ConsoleSettings,
    PolicySettings, Recovery,
]  # fmt: skip
JOBS = {TrainingJob: "", PredictionJob: ""} | {
    Training: "[training] ",
    Evaluation: "[evaluation] ",
    Privacy: "[privacy] ",
    Network: "[network] ",
    EarlyStopping: "[early_stopping] ",
    Scorecard: "[scorecard] ",
}
UNWRITTEN = {"again", "kind"}  # a submitter's agent writes the first; the second is a training's if it is left out
LONGEST = 110  # characters of a line
MOST_WORDS = 25  # of a sentence in what users read first
READ_FIRST = (
    "README.md",
    "SECURITY.md",
    "CHANGELOG.md",
    *(f"docs/{n}.md" for n in ("commands", "jobs", "privacy", "quickstart", "scorecards")),
)
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])


def headings(path: Path) -> set[str]:
    """The anchors that a file's headings have: without punctuation; what is in code is no heading."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("model", MODELS)
def test_every_setting_is_explained(model: type[BaseModel]) -> None:
    """docs/operations.md has each field, and the default where that is a number."""
    text = (ROOT / "docs/operations.md").read_text()
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel | dict):
            continue  # a table of its own
        number = type(field.default) in {int, float}
        wanted = rf"^\| `{name}` \| {field.default} \|" if number else rf"`(\[[\w.]+\] )?{name}`"
        assert re.search(wanted.replace(".0 ", " "), text, re.MULTILINE), name


@pytest.mark.parametrize("model", JOBS)
def test_every_field_of_a_job_is_explained(model: type[BaseModel]) -> None:
    """docs/jobs.md has each, below its section's name."""
    text = (ROOT / "docs/jobs.md").read_text()
    for name, field in model.model_fields.items():
        if name in UNWRITTEN or isinstance(field.default_factory or field.default, BaseModel | type):
            continue  # no person writes it, or a table of its own
        wanted = rf"`(?:{re.escape(JOBS[model])}|\[)?{name}\]?`"
        assert re.search(wanted, text), name


def test_every_command_is_explained() -> None:
    """docs/commands.md has commands and subcommands, by name."""
    text = (ROOT / "docs/commands.md").read_text()
    for command in [*app.registered_commands, *jobs.registered_commands]:
        callback: Any = command.callback
        name = command.name or callback.__name__
        assert re.search(rf"`[^`\n]*\b{name}\b", text), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    """Relative links name files, and anchors name headings."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        found = path.parent / file if file else path
        assert found.exists(), target
        assert not anchor or anchor in headings(found), target


@pytest.mark.parametrize(("document", "name"), MADE)
def test_what_is_made_from_the_code_is_as_the_code_has_it(document: str, name: str) -> None:
    """`make documents` writes it anew."""
    text = (ROOT / document).read_text(encoding="utf-8")
    assert with_part(text, name, MADE[document, name]()) == text


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_line_is_longer_than_a_reader_can_follow(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [f"line {number}: {len(line)}" for number, line in enumerate(lines, 1) if len(line) > LONGEST] == []


def sentences(text: str) -> Iterator[str]:
    """The sentences of a document, without code, tables, headings, lists of links and names of tests."""
    text = re.sub(r"^```.*?^```|<!--.*?-->", "", text, flags=re.MULTILINE | re.DOTALL)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-|]|\d+\.) )", text):
        words = " ".join(block.split())
        if not words.startswith(("|", "#", "[", "- `tests/")):
            yield from re.split(r"(?<=[.?!])\*{0,2}\s+", words)


@pytest.mark.parametrize("name", READ_FIRST)
def test_no_sentence_is_longer_than_a_reader_can_follow(name: str) -> None:
    """A sentence with more words than that is two."""
    found = list(sentences((ROOT / name).read_text(encoding="utf-8")))
    assert found
    assert [one for one in found if len(re.findall(r"\S*\w\S*", one)) > MOST_WORDS] == []


def test_a_reader_is_through_with_the_readme_soon() -> None:
    """What is longer belongs into docs."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 200
