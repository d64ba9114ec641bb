"""Says what is wrong in a TOML file that a person wrote.

It names the file and the field, and how to write it right.

It never repeats a value, which may be secret; names of fields and sections it does.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tercet.schemas.core.names import JOB_ID_PATTERN, NAME_PATTERN

UNKNOWN: Final = "extra_forbidden"
PYDANTIC: Final = re.compile("(Input|String|Tuple|List|Dictionary) should ")  # how its own sentences begin
TOP: Final = "the top of the file, above the first [section]"
PATTERNS: Final = {
    f"^{NAME_PATTERN}$": "a name has small letters, digits and hyphens, begins with a letter or digit, and is no "
    "longer than 32 characters",
    f"^{JOB_ID_PATTERN}$": "write a job's id, as `tercet job submit` and `tercet job list` print it",
}
AUTOMATIC: Final = 'is a number, without quotes, or "auto"'
SAYINGS: Final = {
    "missing": "is missing; write it",
    "model_type": "is a section of its own",
    "model_attributes_type": "is a section of its own",
    "dict_type": "is a section of its own",
    "tuple_type": "is a list: write [...]",
    "string_type": 'is a text: write "..."',
    "bool_type": "is true or false, without quotes",
    "bool_parsing": "is true or false, without quotes",
    "int_type": "is a whole number, without quotes",
    "int_parsing": "is a whole number, without quotes",
    "int_from_float": "is a whole number",
    "float_type": "is a number, without quotes",
    "float_parsing": "is a number, without quotes",
    "path_type": 'is a path: write "..."',
}


def explain(path: Path | str, error: ValidationError, *models: type[BaseModel], content: Mapping[str, Any]) -> str:
    """Say what is wrong, a line for each field.

    `models` are what the file may be; of several the error's places begin with the kind. `content` is what was read.
    """
    lines = []
    found = error.errors(include_input=False, include_url=False)
    for item in sorted(found, key=lambda one: one["type"] != UNKNOWN):  # one that is missing may be a mistyped one
        place, model = _unwrap(item["loc"], models)
        lines.append(f"{path}: {_describe(item, place, model, content)}")
    return "\n".join(dict.fromkeys(lines))


def _unwrap(
    place: tuple[int | str, ...], models: tuple[type[BaseModel], ...]
) -> tuple[tuple[int | str, ...], type[BaseModel]]:
    if len(models) == 1 or not place:
        return place, models[0]
    return place[1:], next(one for one in models if place[0] in get_args(one.model_fields["kind"].annotation))


def _describe(
    item: ErrorDetails, place: tuple[int | str, ...], model: type[BaseModel], content: Mapping[str, Any]
) -> str:
    words = _words(place, content)
    if item["type"] == UNKNOWN:
        return _unknown(words, place, model)
    where = ".".join(words) or "the whole"
    if item["type"] == "string_pattern_mismatch":
        return f"{where}: {PATTERNS[item['ctx']['pattern']]}"
    if item["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        return f"kind: write one of {item['ctx']['expected_tags']}, or leave it out"
    saying = AUTOMATIC if place[-1:] == ("auto",) else SAYINGS.get(item["type"])
    if saying is not None:
        return f"{where} {saying}"
    if (said := PYDANTIC.match(item["msg"])) is not None:
        return f"{where} should {item['msg'][said.end() :].partition(' after validation')[0]}"
    message = item["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if words else message  # one about the whole file names its fields itself


def _words(place: tuple[int | str, ...], content: Any) -> list[str]:
    """Return the place as the file has it.

    Sections that were made lists of pairs have names there, not numbers.

    What follows a value tells which of its alternatives was tried, and is in no file.
    """
    words: list[str] = []
    for part in place:
        if isinstance(content, str | int | float):
            break
        if isinstance(part, str):
            words += [] if part == "[key]" else [part]
            content = content.get(part) if isinstance(content, Mapping) else None
        elif isinstance(content, Mapping):
            words.append(list(content)[part])
            content = None  # a number that follows is the place within the pair
        elif isinstance(content, list | tuple):
            words.append(str(part))
    return words


def _unknown(words: list[str], place: tuple[int | str, ...], model: type[BaseModel]) -> str:
    name, section = words[-1], words[:-1]
    here = _model_at(model, place[:-1])
    problem = f"unknown field `{name}` {_under(section) if section else f'at {TOP}'}"
    homes = [home for home, one in _sections(model) if name in one.model_fields and one is not here]
    if homes:
        return f"{problem}; it belongs {' or '.join(homes)}"
    fields = list(here.model_fields) if here else []
    near = get_close_matches(name.lower(), fields, n=1)
    return f"{problem}; did you mean `{near[0]}`?" if near else f"{problem}; there may be {', '.join(fields)}"


def _under(section: list[str]) -> str:
    return f"under [{'.'.join(section)}]"


def _sections(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Return the sections of a file, in words, and their models."""
    yield f"at {TOP}", model
    for name, field in model.model_fields.items():
        for one in models_in(field.annotation):
            named = ".NAME" if get_origin(field.annotation) is dict else ""
            yield f"under [{name}{named}]", one


def _model_at(model: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel] | None:
    """Return the model of a section.

    A name of the reader's own choice, as in [tables.NAME], leads nowhere else.
    """
    here: type[BaseModel] | None = model
    for part in place:
        if here is not None and part in here.model_fields:
            here = next(models_in(here.model_fields[str(part)].annotation), None)
    return here


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in an annotation: of itself, of its alternatives, of a dict's values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)
