"""Checks whether a label party may have single rows of this party's scored.

It looks at settings and the model's part, and reads no table. The settings name the table; nobody else chooses it.
"""

from tercet.agents.core.problems import JobProblem
from tercet.agents.models.manifest import ModelPart
from tercet.schemas.files.settings import Settings
from tercet.schemas.messages.kinds import ScoreRequest


def served_table(settings: Settings, label: str, request: ScoreRequest) -> str:
    """Name the table whose rows are scored for a label party.

    Raises:
        JobProblem: the settings let none be scored for it, or not for this purpose.
    """
    me, partner = settings.party, settings.partners[label]
    if partner.serving_table is None or not partner.predictions:
        raise JobProblem(
            "policy.serving",
            me,
            f"{me} lets no rows be scored one by one for {label}: ask {me} whether it writes serving_table (and not "
            f"predictions = false) under [partners.{label}] in its settings",
        )
    table = settings.tables[partner.serving_table]
    if table.submitters is not None and label not in table.submitters:
        reason = f"{me} takes no requests from {label} over that table (submitters under its [tables])"
        raise JobProblem("policy.submitter", me, reason)
    for allowed, where in ((settings.policy.purposes, "[policy] purposes"), (table.purposes, "purposes of the table")):
        if allowed is not None and request.purpose not in allowed:
            raise JobProblem(
                "policy.purpose",
                label,
                f"the purpose is none of those that {me} allows ({where} at {me}): give `tercet serve` the --purpose "
                f"that {me} has agreed to",
            )
    return partner.serving_table


def check_part(settings: Settings, label: str, part: ModelPart) -> None:
    """Check that a label party may have rows scored by this model.

    Raises:
        JobProblem: it may not.
    """
    me, partners = settings.party, {*part.parties} - {settings.party}
    check_servable(me, part)
    if part.label_party != label:
        raise JobProblem("model.parties", label, f"{part.job} has its label at {part.label_party}, and {label} asks")
    table = settings.tables[settings.partners[label].serving_table or ""]
    for party in sorted(partners):
        if party not in settings.partners:
            reason = f"{me} does not know {party}, which has a part of {part.job}: add [partners.{party}]"
            raise JobProblem("policy.partner", me, reason)
        if table.partners is not None and party not in table.partners:
            reason = f"{me} does not let that table be used together with {party} (partners under its [tables])"
            raise JobProblem("policy.parties", me, reason)
    if not (part.encoding.has_numbers or settings.policy.narrow):
        raise JobProblem(
            "policy.narrow",
            me,
            f"{me} has no numeric column, so that scores could give its rows away, and lets none be scored: ask {me} "
            f"whether it writes narrow = true under [policy]",
        )


def check_servable(me: str, part: ModelPart) -> None:
    """Check that each party can score its own columns by itself.

    Raises:
        JobProblem: it cannot, as weights stay shared, or scores begin with an offset.
    """
    if part.offset is not None:
        raise JobProblem(
            "serving.offset",
            me,
            f"{part.job} cannot be served, as its scores begin with an offset of each row: score rows by "
            f"`tercet predict`",
        )
    if part.helped:
        what = "a network's" if part.network is not None else f'release = "{part.release}": its'
        raise JobProblem(
            "serving.shared",
            me,
            f"{part.job} cannot be served, as {what} scores take all parties' work over several messages: score rows "
            f'by `tercet predict`, or train a model without hidden layers and with release = "owners"',
        )
