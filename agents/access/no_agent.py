"""The error of a command whose agent does not answer; it stands alone so that telling it loads nothing else."""


class NoAgent(Exception):
    """The party's agent does not answer; the text says what to do."""
