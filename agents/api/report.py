"""Shows a job's page in a notebook, and saves it.

The page comes as text and is shown in a frame of its own, where nothing in it can run.
"""

from collections.abc import Callable
from functools import cached_property
from html import escape
from pathlib import Path

from tercet.agents.core.private_file import replace
from tercet.schemas.files.invalid import Invalid

HEIGHT = 640  # pixels


class Report:
    """Holds the page about a finished job, which shows itself at the end of a notebook's cell."""

    def __init__(self, render: Callable[[], str]) -> None:
        """`render` makes the page when it is asked for, which takes a second."""
        self._render = render

    @cached_property
    def html(self) -> str:
        """The page as text; it needs no other file."""
        return self._render()

    def save(self, path: Path | str) -> Path:
        """Write the page to a file that only this user may read.

        Raises:
            Invalid: the file cannot be written.
        """
        try:
            replace(Path(path), self.html.encode())
        except OSError as error:
            raise Invalid(f"{path}: {error.strerror}; give the path of a file that you may write") from None
        return Path(path)

    def _repr_html_(self) -> str:
        # `sandbox` without a word allows no script, form or link; the page has none, whatever its columns are called.
        page = escape(self.html, quote=True)
        return (
            f'<iframe sandbox="" title="report" style="width:100%;height:{HEIGHT}px;border:0" srcdoc="{page}"></iframe>'
        )

    def __repr__(self) -> str:
        return "Report(save it by save(path))"
