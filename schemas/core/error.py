"""Defines the base of all errors that Tercet raises on purpose; imports nothing else."""


class TercetError(Exception):
    """Reports what went wrong, and how to mend it.

    Attributes:
        code: of docs/errors.md, which `tercet explain` looks up; empty where there is none.
        party: whose fault it is, where one party is to blame; else empty.
        stage: of the job in which it happened; empty outside of a job.
        hint: how to mend it, where the text does not say so already.
    """

    code: str = ""
    party: str = ""
    stage: str = ""
    hint: str = ""
