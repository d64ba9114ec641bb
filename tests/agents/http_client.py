"""Says bytes to a server of this machine, and reads what comes back as HTTP."""

import asyncio
import io
import ssl
from http.client import HTTPMessage, parse_headers
from typing import NamedTuple


class Reply(NamedTuple):
    """What came back; of a connection that was reset nothing, and the status is 0."""

    status: int
    headers: HTTPMessage
    body: bytes


async def say(port: int, request: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """All that comes back for a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def exchange(port: int, request: bytes) -> Reply:
    """The same, taken apart."""
    answer = io.BytesIO(await say(port, request))
    first = answer.readline().split()
    return Reply(int(first[1]) if first else 0, parse_headers(answer), answer.read())
