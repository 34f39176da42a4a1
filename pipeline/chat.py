"""Messages as OpenAI's clients and LangChain's write them -> a conversation and its pictures.

One grammar for requests that wait in a file and for live ones, over plain JSON data:

- turns of system (or developer), user and assistant, in any order; the user has the last one;
- content is a text, or a list of parts: `text`, and in the user's turns pictures, anywhere between;
- where a turn is one text ahead of its pictures, the pictures come first: guidance reads the prompt
  behind the last picture (paper, section 3.2), and a question ahead of it would go unread;
- a picture is `image_url` (an object with `url`, or the address itself) or LangChain's `image`: by
  `url`, or by `base64` or `data` with `mime_type`, which become a data: address.

Texts that follow one another in a turn are joined by a newline, for templates join them by nothing.
`detail` and other fields of a part, and the `name` of a speaker, are not looked at. How many turns,
pictures and characters there may be is the caller's business.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sgl.errors import SglError
from sgl.types import Role, Turn

WEB_SCHEMES = ("data:", "https://", "http://")
"""Of pictures that a stranger may name: no files, no buckets."""
_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
}
_CALLS = ("tool_calls", "function_call", "audio")
_MIME = re.compile(r"image/[A-Za-z0-9.+-]{1,60}")
_SHOWN = 40


class ChatError(SglError, ValueError):
    """The messages are none that can be answered.

    Attributes:
        message: what is wrong; holds nothing of a text or an address.
        param: the part at fault, such as "messages.1.content.0.type".
    """

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message, param)
        self.message = message
        self.param = param

    def __str__(self) -> str:
        return f"{self.param}: {self.message}"


@dataclass(frozen=True, slots=True)
class Chat:
    """What messages say.

    Attributes:
        turns: at least one; the user's last. None of them is empty.
        references: addresses of the pictures, in prompt order: one for each None in the turns.
    """

    turns: tuple[Turn, ...]
    references: list[str]


def conversation(messages: Any, schemes: Sequence[str] = WEB_SCHEMES) -> Chat:
    """The conversation that messages are.

    Args:
        messages: JSON data, of any shape.
        schemes: how the address of a picture may begin, in lower case.

    Raises:
        ChatError: they are none, or hold what is not supported.
    """
    if not isinstance(messages, list) or not messages:
        raise ChatError("is not a list of messages", "messages")
    references: list[str] = []
    turns = []
    for place, message in enumerate(messages):
        turn, found = _turn(message, f"messages.{place}", schemes)
        # A system text that is empty says nothing, and many clients always send one.
        if turn.parts:
            turns.append(turn)
        references += found
    if messages[-1]["role"] != Role.USER:
        raise ChatError("the last message is not the user's", f"messages.{len(messages) - 1}.role")
    return Chat(tuple(turns), references)


def _turn(message: Any, param: str, schemes: Sequence[str]) -> tuple[Turn, list[str]]:
    if not isinstance(message, dict):
        raise ChatError("is not an object", param)
    name = message.get("role")
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise ChatError(f"{_shown(name)} is not supported", f"{param}.role")
    for call in _CALLS:
        if message.get(call):
            raise ChatError("is not supported", f"{param}.{call}")
    parts, references = _contents(message.get("content"), f"{param}.content", schemes)
    if references and role != Role.USER:
        raise ChatError(f"a picture in a turn of the {role.value}", f"{param}.content")
    if not parts and role != Role.SYSTEM:
        raise ChatError("holds neither text nor a picture", f"{param}.content")
    return Turn(role, parts), references


def _contents(
    content: Any, param: str, schemes: Sequence[str]
) -> tuple[tuple[str | None, ...], list[str]]:
    """Texts, with None for each picture; and the pictures."""
    if isinstance(content, str):
        return _merged([_text(content, param)]), []
    if not isinstance(content, list):
        raise ChatError("is neither a text nor a list of parts", param)
    parts: list[str | None] = []
    references = []
    for place, part in enumerate(content):
        where = f"{param}.{place}"
        if not isinstance(part, dict):
            raise ChatError("is not an object", where)
        kind = part.get("type")
        if kind == "text":
            parts.append(_text(part.get("text"), f"{where}.text"))
            continue
        if kind not in ("image_url", "image"):
            raise ChatError(f"{_shown(kind)} is not supported", f"{where}.type")
        parts.append(None)
        references.append(_reference(part, where, schemes))
    return _merged(parts), references


def _merged(parts: Sequence[str | None]) -> tuple[str | None, ...]:
    """Neighbouring texts as one, blank ones left out, and the only one behind all pictures."""
    merged: list[str | None] = []
    for part in parts:
        if part is None:
            merged.append(None)
        elif part.strip():
            previous = merged.pop() if merged and merged[-1] is not None else None
            merged.append(part if previous is None else f"{previous}\n{part}")
    if merged and not any(merged[1:]):
        # Behind the one text there are pictures alone.
        merged = [*merged[1:], merged[0]]
    return tuple(merged)


def _text(text: Any, param: str) -> str:
    if not isinstance(text, str):
        raise ChatError("is not a text", param)
    try:
        # Half a surrogate pair is legal JSON, and no text that a tokenizer takes.
        text.encode()
    except UnicodeEncodeError as error:
        raise ChatError("is no valid Unicode", param) from error
    return text


def _reference(part: dict[str, Any], param: str, schemes: Sequence[str]) -> str:
    if part["type"] == "image_url":
        image = part.get("image_url")
        if isinstance(image, dict):
            return _address(image.get("url"), f"{param}.image_url.url", schemes)
        return _address(image, f"{param}.image_url", schemes)
    for field in ("base64", "data"):
        if part.get(field) is not None:
            return _data_address(part, field, param)
    return _address(part.get("url"), f"{param}.url", schemes)


def _data_address(part: dict[str, Any], field: str, param: str) -> str:
    data, mime = part[field], part.get("mime_type")
    if not isinstance(data, str) or not data.isascii():
        raise ChatError("is no base64", f"{param}.{field}")
    if not isinstance(mime, str) or _MIME.fullmatch(mime) is None:
        raise ChatError("is not the type of a picture, such as image/png", f"{param}.mime_type")
    return f"data:{mime};base64,{data}"


def _address(address: Any, param: str, schemes: Sequence[str]) -> str:
    known = " or ".join(schemes)
    if not isinstance(address, str):
        raise ChatError(f"is no address that begins with {known}", param)
    start = address[: max(map(len, schemes))].lower()
    scheme = next((one for one in schemes if start.startswith(one)), None)
    if scheme is None:
        raise ChatError(f"is no address that begins with {known}", param)
    _text(address, param)
    return address if address.startswith(scheme) else scheme + address[len(scheme) :]


def _shown(name: Any) -> str:
    return f"'{name}'" if isinstance(name, str) and len(name) < _SHOWN else "this"
