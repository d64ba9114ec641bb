"""The end of a job at a data party: open its own block if the job says so, and write the model part to disk.

A part lies in a hidden folder until every party has released: whoever ends the job then calls `keep`, or `discard`.
Under release = "owners" each party receives the others' shares of its own block and nothing else, the label party the
intercept's as well; under "shared" nobody receives anything; under "label" the label party alone receives everything.
"""

import asyncio
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from agents import model_part
from agents.context import JobContext
from agents.model_part import Arrays, ModelPart
from agents.network_parts import open_network
from agents.problems import JobProblem
from agents.release_to_label import Encodings, give, take
from agents.shares import AnyShares, kept_shares
from mpc.data_party import Shares
from mpc.ring import total
from schemas.messages import InterceptShare, WeightShare
from schemas.tensor import Words
from tables.encoding import Encoding
from tables.label import Classes, LabelScaling


async def opened(context: JobContext, shares: AnyShares, encoding: Encoding) -> tuple[Arrays, Encodings]:
    """The arrays of this party's model part, as `model_part.ModelPart` lists them, and what it gets to know beside."""
    release, kept = context.training.release, kept_shares(context, shares)
    if release == "owners":  # of a linear model no share is needed any more
        if isinstance(shares, Shares):
            return await _owned_arrays(context, shares), {}
        return kept | await open_network(context, shares), {}
    if release == "label" and context.leads:
        whole, encodings = await take(context, shares)
        return {**kept, **whole}, encodings
    if release == "label":
        await give(context, shares, encoding)
    return kept, {}


async def _owned_arrays(context: JobContext, shares: Shares) -> Arrays:
    await _send(context, shares)
    weights = await _sum(context, WeightShare, shares.own)
    plan = context.ready_plan
    arrays = {"weights": plan.weights(weights, shares.step), "weight_words": weights}
    if context.leads:
        intercept = await _sum(context, InterceptShare, shares.intercept)
        arrays |= {"intercept": plan.intercept(intercept), "intercept_words": intercept}
    return arrays


async def _send(context: JobContext, shares: Shares) -> None:
    deadline = context.deadline("release")
    for party in context.partners:
        words = shares.partners[context.number(party)]
        await context.mailbox.send(WeightShare(words=words), [party], deadline)
    if not context.leads:
        await context.mailbox.send(InterceptShare(words=shares.intercept), [context.description.label], deadline)


async def _sum(context: JobContext, model: type[WeightShare | InterceptShare], own: Words) -> Words:
    deadline = context.deadline("release")
    letters = await context.mailbox.receive(model, context.partners, deadline)
    rows, outputs = own.shape
    return total([own, *context.mailbox.words(letters, lambda _: (rows, outputs)).values()])


async def save_part(
    context: JobContext,
    encoding: Encoding,
    label: tuple[LabelScaling | None, Classes | None],
    given: tuple[Arrays, Encodings],
    steps: int,
) -> Path:
    """Write the part, as it is after so many steps, to its hidden folder and return that.

    `label` is what the label party keeps of its own, `given` what was `opened` to this party. A save that fails or is
    cancelled leaves nothing there.

    Raises:
        JobProblem: the disk does not take it.
    """
    job, plan, (arrays, encodings) = context.training, context.ready_plan, given
    part = ModelPart(
        job=context.job.id,
        run=context.job.run.hex(),
        model=job.model,
        network=job.network,
        party=context.me,
        label_party=job.label,
        parties=job.data_parties,
        release=job.release,
        encoding=encoding,
        columns=tuple(encoding.names),
        plan=plan.canonical(),
        steps=steps,
        alpha=plan.alpha_after(steps),
        intercept_holder=job.label,
        label_scaling=label[0],
        classes=label[1],
        encodings=dict(encodings),
        created=datetime.now(UTC),
        tercet=version("tercet"),
    )
    folder = unreleased(context)
    await written(context, folder, lambda: model_part.save(folder, part, arrays))
    return folder


async def written(context: JobContext, folder: Path, save: Callable[[], object]) -> None:
    """Save something into a hidden folder; if that fails or is cancelled, nothing is left there.

    Raises:
        JobProblem: the disk does not take it.
    """
    saving = asyncio.ensure_future(context.compute(save))
    try:
        await asyncio.shield(saving)
    except OSError as error:
        discard(folder)
        public = f"{context.me} cannot write what the job gives it to its disk"
        raise JobProblem("disk.write", context.me, public, f"{folder}: {error.strerror}") from None
    except asyncio.CancelledError:
        await asyncio.wait([saving])  # a thread cannot be cancelled, and would write on
        discard(folder)
        raise


def unreleased(context: JobContext) -> Path:
    """Where what a job gives this party lies until every party has released; job ids begin with no dot."""
    kind = "models" if context.description.kind == "training" else "predictions"
    return context.settings.state / kind / f".{context.job.id}"


def keep(folder: Path) -> Path:
    """Move a folder from its hidden place to its lasting one, in one step, and return that: models/<job>, say.

    What an earlier run of the same job left there makes way.

    Raises:
        OSError: the disk does not take it.
    """
    place = folder.with_name(folder.name.removeprefix("."))
    earlier = folder.with_name(f"{folder.name}.earlier")
    discard(earlier)
    if place.exists():
        place.rename(earlier)
    folder.rename(place)
    _flush(place.parent)
    discard(earlier)
    return place


def discard(folder: Path) -> None:
    """Remove a part that is not to be kept, if there is one."""
    shutil.rmtree(folder, ignore_errors=True)


def _flush(folder: Path) -> None:
    """When this returns, the names in the folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
