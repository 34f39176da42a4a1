"""Messages as OpenAI's clients and LangChain's write them -> a conversation and its pictures.

One grammar for requests that wait in a file and for live ones, over plain JSON data:

- turns of system (or developer), user and assistant, in any order; the user has the last one;
- content is a text, or a list of parts: `text`, and in the user's turns pictures, anywhere between;
- where a turn is one text ahead of its pictures, the pictures come first: guidance reads the prompt
  behind the last picture (paper, section 3.2), and a question ahead of it would go unread;
- a picture is `image_url` (an object with `url`, or the address itself) or LangChain's `image`: by
  `url`, or by `base64` or `data` with `mime_type`, which become a data: address.

Texts that follow one another in a turn are joined by a newline, for templates join them by nothing.
An answer may be empty, so an assistant's turn may be too. `detail` and other fields of a part, and
the `name` of a speaker, are not looked at. How many turns, pictures and characters there may be is
the caller's business; nothing is read beyond them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
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
        param: the part at fault, such as "messages.1.content.0.type"; empty for the whole.
        code: one word for programs.
    """

    def __init__(self, message: str, param: str, code: str | None = "invalid_messages") -> None:
        super().__init__(message, param, code)
        self.message = message
        self.param = param
        self.code = code

    def __str__(self) -> str:
        return f"{self.param}: {self.message}" if self.param else self.message


@dataclass(frozen=True, slots=True)
class Chat:
    """What messages say.

    Attributes:
        turns: at least one; the user's last. None but an assistant's is empty, and that is a text.
        references: addresses of the pictures, in prompt order: one for each None in the turns.
    """

    turns: tuple[Turn, ...]
    references: list[str]


@dataclass(frozen=True, slots=True)
class ChatLimits:
    """The most that one conversation may hold.

    Attributes:
        turns: empty ones included.
        pictures: in all turns.
        text_chars: likewise.
    """

    turns: int
    pictures: int
    text_chars: int


def conversation(
    messages: Any, schemes: Sequence[str] = WEB_SCHEMES, limits: ChatLimits | None = None
) -> Chat:
    """The conversation that messages are.

    Args:
        messages: JSON data, of any shape.
        schemes: how the address of a picture may begin, in lower case.
        limits: None are none.

    Raises:
        ChatError: they are none, or hold what is not supported or, of the code `limit_exceeded`,
            more than may be.
    """
    if not isinstance(messages, list) or not messages:
        raise ChatError("is not a list of messages", "messages")
    if limits is not None and len(messages) > limits.turns:
        raise beyond(limits.turns, "turns", "messages")
    reader = _Reader(schemes, limits)
    turns = [reader.turn(message, f"messages.{i}") for i, message in enumerate(messages)]
    if messages[-1]["role"] != Role.USER:
        raise ChatError("the last message is not the user's", f"messages.{len(messages) - 1}.role")
    # A system text that is empty says nothing, and many clients always send one.
    return Chat(tuple(turn for turn in turns if turn.parts), reader.references)


def beyond(most: float, what: str, param: str) -> ChatError:
    """There is too much of something; what is found is not told, as numbers may be very long."""
    return ChatError(f"more than {most:.15g} {what}, which are the most", param, "limit_exceeded")


class _Reader:
    """Reads turn after turn, up to the limits of them all.

    Args:
        schemes: of addresses.
        limits: None are none.

    Attributes:
        references: of the pictures so far.
    """

    def __init__(self, schemes: Sequence[str], limits: ChatLimits | None) -> None:
        self._schemes = schemes
        self._limits = limits
        self._chars = 0
        self.references: list[str] = []

    def turn(self, message: Any, param: str) -> Turn:
        """The next one; of a system that says nothing, without parts."""
        if not isinstance(message, dict):
            raise ChatError("is not an object", param)
        role = _role(message, param)
        content = message.get("content")
        if content is None and role == Role.ASSISTANT:
            content = ""
        parts = _merged(self._parts(content, f"{param}.content"))
        if None in parts and role != Role.USER:
            raise ChatError(f"a picture in a turn of the {role.value}", f"{param}.content")
        if not parts and role == Role.USER:
            raise ChatError("holds neither text nor a picture", f"{param}.content")
        # Without the turn, the user's would follow one another, which many templates refuse.
        return Turn(role, ("",) if not parts and role == Role.ASSISTANT else parts)

    def _parts(self, content: Any, param: str) -> list[str | None]:
        """Texts, with None for each picture."""
        if isinstance(content, str):
            return [self._text(content, param)]
        if not isinstance(content, list):
            raise ChatError("is neither a text nor a list of parts", param)
        return [self._part(part, f"{param}.{place}") for place, part in enumerate(content)]

    def _part(self, part: Any, param: str) -> str | None:
        if not isinstance(part, dict):
            raise ChatError("is not an object", param)
        kind = part.get("type")
        if kind == "text":
            return self._text(part.get("text"), f"{param}.text")
        if kind not in ("image_url", "image"):
            raise ChatError(f"{_shown(kind)} is not supported", f"{param}.type")
        if self._limits is not None and len(self.references) >= self._limits.pictures:
            raise beyond(self._limits.pictures, "pictures", "messages")
        self.references.append(_reference(part, param, self._schemes))
        return None

    def _text(self, text: Any, param: str) -> str:
        found = _text(text, param)
        self._chars += len(found)
        if self._limits is not None and self._chars > self._limits.text_chars:
            raise beyond(self._limits.text_chars, "characters of text", "messages")
        return found


def _role(message: dict[str, Any], param: str) -> Role:
    name = message.get("role")
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise ChatError(f"{_shown(name)} is not supported", f"{param}.role")
    for call in _CALLS:
        if message.get(call):
            raise ChatError("is not supported", f"{param}.{call}")
    return role


def _merged(parts: Sequence[str | None]) -> tuple[str | None, ...]:
    """Neighbouring texts as one, blank ones left out, and the only one behind all pictures."""
    merged: list[str | None] = []
    told = (part for part in parts if part is None or part.strip())
    for is_picture, run in groupby(told, lambda part: part is None):
        # Joined at once: text by text, the work grows with the square of their number.
        same = [*run]
        merged += same if is_picture else ["\n".join(part for part in same if part is not None)]
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
