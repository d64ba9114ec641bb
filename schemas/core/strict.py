"""Defines the base models of everything that is said or configured.

Nothing here has fields; a model chooses by its base how forgiving its reader is.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from tercet.schemas.core.names import JOB_ID_PATTERN, NAME_PATTERN

Name = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$")]
"""A party, a job or a table: part of queue names and routing keys, hence no dots, blanks or capitals."""

JobId = Annotated[str, StringConstraints(pattern=f"^{JOB_ID_PATTERN}$")]
"""A job's name and eight hexadecimal digits of its digest."""

Sentence = Annotated[str, StringConstraints(max_length=2000)]
"""A text for people, short enough to log."""


class Strict(BaseModel):
    """Checks what agents say to one another: nothing is coerced, added or changed."""

    model_config = ConfigDict(
        frozen=True,
        defer_build=True,  # a command uses few of all models, and to build them all takes longer than the command
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,  # a refused value may be a secret, and errors are logged
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )


class TomlModel(BaseModel):
    """Checks what a person writes in TOML; an unknown word is an error.

    Lists become tuples and texts become paths.
    """

    model_config = ConfigDict(
        frozen=True, defer_build=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )
