"""The wire format: msgpack of a strict model, with the schema version and the kind in front.

Decoding takes bytes from anybody: it answers with a valid message or with one error, whatever it is fed, and allocates
no more than a small multiple of what it was given.
"""

from typing import Any

import msgpack
from pydantic import ValidationError

from schemas import messages
from schemas.messages import PROTOCOL_VERSION, Message

MODELS: dict[tuple[str, str], type[Message]] = {(model.kind, model.item): model for model in Message.__subclasses__()}


class MalformedMessage(ValueError):
    """Bytes that are no message of this version. Their sender's fault; the text holds none of them."""


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    body = [PROTOCOL_VERSION, message.kind, message.item, message.model_dump()]
    return bytes(msgpack.packb(body))


def decode(data: bytes) -> Message:
    """The message in these bytes.

    Raises:
        MalformedMessage: there is none.
    """
    try:
        body = msgpack.unpackb(data, use_list=False, strict_map_key=True)
    except (ValueError, msgpack.UnpackException, RecursionError):
        raise MalformedMessage("the body is not msgpack") from None
    version, kind, item, fields = _frame(body)
    if version != PROTOCOL_VERSION:
        raise MalformedMessage(f"the body has schema version {version}, this agent speaks {PROTOCOL_VERSION}")
    model = MODELS.get((kind, item))
    if model is None:
        raise MalformedMessage("the body is of no known kind")
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        where = ".".join(map(str, error.errors(include_input=False, include_url=False)[0]["loc"]))
        raise MalformedMessage(f"the body is no valid {model.kind}: field {where[:64]!r}") from None


def _frame(body: Any) -> tuple[int, str, str, dict[str, Any]]:
    match body:
        case (int() as version, str() as kind, str() as item, dict() as fields):
            return version, kind, item, fields
    raise MalformedMessage("the body is not a version, a kind, an item and fields")


__all__ = ["MODELS", "MalformedMessage", "decode", "encode", "messages"]
