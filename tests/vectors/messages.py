"""One message of each kind as bytes, with its fields as they must be read from these."""

from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from pydantic import BaseModel

from tercet.schemas.messages.codec import encode
from tercet.schemas.messages.kinds import Message
from tests.schemas.strategies import EACH

ENOUGH = 300  # bytes


def plain(value: Any) -> Any:
    """A message's fields as JSON: bytes in hexadecimal, words as numbers, and no class by name."""
    match value:
        case BaseModel():
            return {name: plain(getattr(value, name)) for name in type(value).model_fields}
        case np.ndarray():
            return {"shape": list(value.shape), "words": [int(word) for word in value.reshape(-1)]}
        case bytes():
            return value.hex()
        case tuple() | list():
            return [plain(one) for one in value]
        case dict():
            return {str(name): plain(one) for name, one in value.items()}
    return value


def draws() -> list[dict[str, Any]]:
    """Fields and bytes of one message of each kind, drawn from the tests' strategies."""
    return [
        {"kind": model.kind, "item": model.item, "fields": plain(message), "body": encode(message).hex()}
        for model, message in sorted(
            ((model, _example(model)) for model in EACH), key=lambda pair: (pair[0].kind, pair[0].item)
        )
    ]


def _example(model: type[Message]) -> Message:
    """The longest message of a few whose body is short, or the shortest of all."""
    found: list[Message] = []

    @seed(13)
    @settings(max_examples=30, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(EACH[model])
    def draw(message: Message) -> None:
        found.append(message)

    draw()
    return max(found, key=lambda one: (len(encode(one)) <= ENOUGH, len(encode(one)) * (len(encode(one)) <= ENOUGH)))
