"""The documents say what the code does: settings, commands and links.

It reads files and runs nothing of the protocol; whether a sentence is true is for people to check.
"""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tercet.agents.cli.app import app
from tercet.agents.cli.job import jobs
from tercet.schemas.files.console_settings import ConsoleSettings
from tercet.schemas.files.monitor_settings import MonitorSettings
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.recovery import Recovery
from tercet.schemas.files.settings import BrokerSettings, Deadlines, Limits, Partner, Settings, TableSettings

ROOT = Path(__file__).parents[1]
PARTS = [
    BrokerSettings,
    TableSettings,
    Partner,
    Deadlines,
    Limits,
    MonitorSettings,
    ConsoleSettings,
    PolicySettings,
    Recovery,
]
MODELS = [Settings, *PARTS]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])


def headings(path: Path) -> set[str]:
    """The anchors that a file's headings have."""
    return {h.lower().replace(" ", "-") for h in re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)}


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


def test_every_command_is_in_the_readme() -> None:
    """Commands and subcommands, by name."""
    text = (ROOT / "README.md").read_text()
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
