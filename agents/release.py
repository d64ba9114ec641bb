"""The end of a job at a data party: open its own block if the job says so, and write the model part to disk.

Under release = "owners" each party receives the others' shares of its own block and nothing else, the label party the
intercept's as well; under "shared" nobody receives anything.
"""

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from agents import model_part
from agents.context import JobContext
from agents.model_part import Arrays, ModelPart
from agents.problems import JobProblem
from mpc.data_party import Shares
from mpc.ring import total
from schemas.messages import InterceptShare, WeightShare
from schemas.tensor import Words
from tables.encoding import Encoding, LabelScaling


async def open_blocks(context: JobContext, shares: Shares, me: int) -> Arrays:
    """The arrays of this party's model part, as `model_part.ModelPart` lists them."""
    if context.description.release == "shared":
        blocks = {me: shares.own, **shares.partners}
        named = {f"shares/{context.description.data_parties[i]}": words for i, words in blocks.items()}
        return {**named, "shares/intercept": shares.intercept}
    await _send(context, shares)
    weights = await _opened(context, WeightShare, shares.own)
    plan = context.ready_plan
    arrays = {"weights": plan.weights(weights), "weight_words": weights}
    if context.leads:
        intercept = await _opened(context, InterceptShare, shares.intercept)
        arrays |= {"intercept": plan.intercept(intercept), "intercept_words": intercept}
    return arrays


async def _send(context: JobContext, shares: Shares) -> None:
    deadline = context.deadline("release")
    for party in context.partners:
        words = shares.partners[context.number(party)]
        await context.mailbox.send(WeightShare(words=words), [party], deadline)
    if not context.leads:
        await context.mailbox.send(InterceptShare(words=shares.intercept), [context.description.label], deadline)


async def _opened(context: JobContext, model: type[WeightShare | InterceptShare], own: Words) -> Words:
    deadline = context.deadline("release")
    letters = await context.mailbox.receive(model, context.partners, deadline)
    rows, outputs = own.shape
    return total([own, *context.mailbox.words(letters, lambda _: (rows, outputs)).values()])


async def save_part(context: JobContext, encoding: Encoding, scaling: LabelScaling | None, arrays: Arrays) -> Path:
    """Write the part under the party's state folder and return its folder."""
    job, plan = context.description, context.ready_plan
    part = ModelPart(
        job=context.job.id,
        run=context.job.run.hex(),
        model=job.model,
        party=context.me,
        label_party=job.label,
        release=job.release,
        encoding=encoding,
        columns=tuple(encoding.names),
        plan=plan.canonical(),
        steps=plan.steps_total,
        intercept_holder=job.label,
        label_scaling=scaling,
        created=datetime.now(UTC),
        tercet=version("tercet"),
    )
    folder = context.settings.state / "models" / context.job.id
    try:
        await context.compute(model_part.save, folder, part, arrays)
    except OSError as error:
        public = f"{context.me} cannot write its model part to its disk"
        raise JobProblem("disk.write", context.me, public, f"{folder}: {error.strerror}") from None
    return folder
