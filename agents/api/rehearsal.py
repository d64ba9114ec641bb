"""Runs the agents of all parties in the background of this process, until they are stopped.

It touches no file of the caller's. What the agents write goes to a private folder that is gone at the end.
"""

import atexit
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from tercet.agents.api.logs import quieten_logs
from tercet.agents.api.party import Party
from tercet.agents.core.event_loop import background_loop
from tercet.agents.simulation.rehearsal import prepare, start_agents
from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.settings import Settings, read_settings


class Rehearsal:
    """Runs the agents of all parties in this process, over a broker in memory.

    Submit, watch and approve as each party would: the agents do what their settings say. Only keys and state are of
    this rehearsal alone, and no broker is asked. It ends with `stop`, with the block of a `with`, or with the program.

        rehearsal = tercet.Rehearsal("bank.toml", "card.toml", "notary.toml")
        running = rehearsal.parties["bank"].submit(tercet.Job.from_toml("job.toml"))

    Attributes:
        parties: by name; each speaks to its agent.
    """

    parties: Mapping[str, Party]

    def __init__(self, *settings: Path | str) -> None:
        """Start the agents of these settings files, and return when all of them answer.

        Raises:
            Invalid: a file is wrong, two are of the same party, or the temporary folder has too long a path.
        """
        paths = _by_party(settings)
        quieten_logs()
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tercet-"))
            run = stack.enter_context(background_loop())
            prepared = prepare({party: own for party, (_, own) in paths.items()}, Path(folder))
            end = run(start_agents(prepared))
            stack.callback(lambda: run(end()))
            self._running = stack.pop_all()
        found = {party: _speaker(paths[party][0], own) for party, (own, _) in prepared.items()}
        self.parties = MappingProxyType(found)
        atexit.register(self.stop)

    def stop(self) -> None:
        """End the agents, with the jobs that still run; remove what they wrote. Idempotent."""
        atexit.unregister(self.stop)
        self._running.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Rehearsal({', '.join(self.parties)})"


def _by_party(settings: tuple[Path | str, ...]) -> dict[str, tuple[Path, Settings]]:
    """Read the settings, with the path of each."""
    found: dict[str, tuple[Path, Settings]] = {}
    for path in map(Path, settings):
        own = read_settings(path)
        if own.party in found:
            raise Invalid(f"{path} and {found[own.party][0]} are both of {own.party}; give each party's settings once")
        found[own.party] = path, own
    return found


def _speaker(path: Path, own: Settings) -> Party:
    """Make one who speaks to the agent of this rehearsal."""
    return Party(path, read=lambda _: own)
