"""Bodies: of JSON, of a bounded size, and within a time.

A body is read here, before the application sees the request: what is wrong with it is then told in
one way, and no parser ever waits for a client.
"""

import asyncio
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from serving.api_errors import ApiError
from serving.config import LimitsConfig

_JSON = "application/json"
_HELD_PER_BYTE = 2
"""A body lies beside what is read of it and, once it is dropped, a picture's address in base64
beside the encoded picture."""
_MAX_DIGITS = 18
"""Of a length; Python refuses to read very long numbers with an error of its own."""


class BodyError(ApiError):
    """A body that is not taken. The connection ends with it: what is left of it is not read."""

    def headers(self) -> Mapping[str, str]:
        """That it ends."""
        return {"connection": "close"}


async def read_body(
    headers: Headers, receive: Receive, limits: LimitsConfig, hold: Callable[[int], None]
) -> bytearray | None:
    """The whole body; None where the client has gone away meanwhile.

    Args:
        headers: of the request.
        receive: of ASGI.
        limits: see LimitsConfig.
        hold: told of what the bytes will take, as they come, and not of what is promised: that
            costs nothing to promise.

    Raises:
        BodyError: 413, 415 or 408.
        ApiError: of `hold`.
    """
    _check_promised(headers, limits.max_body_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_deadline_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                part = message.get("body", b"")
                if len(body) + len(part) > limits.max_body_bytes:
                    raise too_large(limits.max_body_bytes)
                hold(len(part) * _HELD_PER_BYTE)
                body += part
                if not message.get("more_body", False):
                    return body
    except TimeoutError as error:
        raise BodyError(408, "the body took too long to arrive", code="request_timeout") from error


def replayed(body: bytes | bytearray, receive: Receive) -> Receive:
    """What the application receives: the body in one piece, and then whatever comes.

    Args:
        body: of `read_body`; it is empty afterwards, so that only the application holds it.
        receive: of ASGI.
    """
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        whole = bytes(body)
        if isinstance(body, bytearray):
            body.clear()
        return {"type": "http.request", "body": whole, "more_body": False}

    return again


def _check_promised(headers: Headers, max_bytes: int) -> None:
    """Refuse by the headers what need not be read.

    Raises:
        BodyError: 413 or 415.
    """
    length = headers.get("content-length", "0").strip()
    if length == "0" and "transfer-encoding" not in headers:
        return
    if promises_too_much(headers, max_bytes):
        raise too_large(max_bytes)
    if headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise BodyError(415, f"the content type must be {_JSON}", code="unsupported_media_type")
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise BodyError(
            415, "bodies are taken uncompressed alone", code="unsupported_content_encoding"
        )


def promises_too_much(headers: Headers, max_bytes: int) -> bool:
    """Whether a request says by itself that its body is larger than may be."""
    length = headers.get("content-length", "").strip()
    return length.isdecimal() and (len(length) > _MAX_DIGITS or int(length) > max_bytes)


def too_large(max_bytes: int) -> BodyError:
    """A body that is larger than may be."""
    return BodyError(413, f"the body has more than {max_bytes} bytes", code="request_too_large")
