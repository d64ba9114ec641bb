"""After a fault a statistics job counts the same rows again, and whoever was told before is told the same."""

from pathlib import Path

import pytest

from tercet.agents.simulation.simulate import Simulation, bit_exact
from tercet.agents.statistics.result import read_statistics
from tercet.mpc.arithmetic.ring import Words
from tercet.schemas.files.evaluation import Evaluation
from tercet.schemas.files.job import StatisticsJob
from tercet.schemas.files.policy import PolicySettings
from tercet.schemas.files.statistics import Measures
from tercet.schemas.messages.kinds import CellGroups, Cells
from tests.agents.recovering import FOUR, STANDBY, THREE, Recovering, recovering, states
from tests.agents.scenes import BANK, CARD, NOTARY, make_table, off, on, statistics

ROWS = 600
CONSENTS = PolicySettings(statistics="woe", correlations="label")


def counting(**changes: object) -> StatisticsJob:
    """A job that tells all, over rows that are not held out by chance."""
    asked = statistics(woe=True, correlations="label", bins=6, binning="width")
    return asked.model_copy(update={"evaluation": Evaluation(holdout=0.2)} | changes)


def prepare(stage: Recovering, folder: Path) -> None:
    """Larger tables, and settings that let all be told."""
    for seed, party in enumerate((BANK, CARD)):
        make_table(folder / f"{party}.csv", seed=seed + 1, rows=ROWS, columns=3, label=party == BANK)
    for party in stage.parties:
        stage.change(party, policy=CONSENTS)


def by_attempt(stage: Recovering, kind: type) -> dict[int, Words]:
    """The words of a kind, which the one partner says once, in each attempt in which it was said."""
    return {
        address.attempt: message.words  # type: ignore[attr-defined]
        for address, message in stage.said_openly
        if type(message) is kind
    }


@pytest.mark.parametrize("kind", ["masked bins", "cell opening", "cells"])
async def test_a_party_that_restarts_is_told_and_tells_the_same(tmp_path: Path, kind: str) -> None:
    """In the same secret order; shares differ, and what they add up to does not."""
    job = counting()
    async with recovering(tmp_path) as stage:
        prepare(stage, tmp_path)
        hit: list[bool] = []

        def stop() -> None:  # at once, before others are done
            stage.hang(CARD)
            hit.append(True)

        on(stage, lambda envelope: envelope.kind == kind, stop)
        await stage.start()
        name = stage.submit(job)
        await stage.until(lambda: bool(hit))
        await stage.crash(CARD)
        stage.wake()
        await stage.start(CARD)
        assert states(await stage.ended(name, seconds=30)) == {"done"}
        runs = {party: stage.runs[party, name] for party in THREE}
        assert runs[BANK].attempts.number > 1
        assert bit_exact(Simulation(job, runs))
        cells = by_attempt(stage, Cells)
        assert len({words[:, 0].tobytes() for words in cells.values()}) == 1, "other rows, or another order"
        assert len({words.tobytes() for words in by_attempt(stage, CellGroups).values()}) == 1
        if kind == "cells":
            assert len(cells) > 1
            assert len({words.tobytes() for words in cells.values()}) == len(cells), "the same shares twice"
        lines = (tmp_path / CARD / "exposure.jsonl").read_text()
        assert (lines.count('"statistics"') > 1) == (kind != "masked bins"), "another attempt opens cells again"


async def test_a_standby_helper_deals_anew(tmp_path: Path) -> None:
    job = counting(standby=(STANDBY,))
    async with recovering(tmp_path, *FOUR) as stage:
        prepare(stage, tmp_path)
        on(stage, lambda envelope: envelope.kind == "bin counts", lambda: stage.hang(NOTARY))
        await stage.start()
        name = stage.submit(job)
        statuses = await stage.ended(name, BANK, CARD, seconds=30)
        assert states(statuses) == {"done"}
        assert statuses[BANK].helper == STANDBY
        assert read_statistics(tmp_path / CARD / "statistics" / name / "statistics.json").own[0].sums is not None


async def test_nothing_is_told_of_few_rows(tmp_path: Path) -> None:
    """So many correlations would tell nearly all of a column."""
    async with recovering(tmp_path) as stage:
        prepare(stage, tmp_path)
        for seed, party in enumerate((BANK, CARD)):
            make_table(tmp_path / f"{party}.csv", seed=seed + 1, rows=300, columns=5, label=party == BANK)
        await stage.start()
        statuses = await stage.ended(stage.submit(counting()))
        assert "correlations of so many numeric columns" in off(statuses, "job.plan", BANK)
        assert not any(envelope.kind == "masked bins" for envelope in stage.envelopes)


async def test_no_job_has_nearly_as_many_bins_as_rows(tmp_path: Path) -> None:
    """By two-bin columns of half the rows each a partner could compute all labels, from marks alone too."""
    async with recovering(tmp_path) as stage:
        prepare(stage, tmp_path)
        make_table(tmp_path / f"{CARD}.csv", seed=2, rows=ROWS, columns=13, label=False)
        await stage.start()
        statuses = await stage.ended(stage.submit(counting(statistics=Measures(bins=2))))
        assert f"{CARD} has 26 bins" in off(statuses, "job.plan", BANK)
        assert not any(envelope.kind == "masked bins" for envelope in stage.envelopes)
