"""Requests in OpenAI's batch format: JSON lines of `custom_id` and a chat completion's `body`.

Messages go by the same grammar as the endpoint's (pipeline/chat.py), pictures may also be s3:. A
turn of pictures and a text behind them is a plain record with that question; anything else travels
as a conversation. Of the other settings:

- they are those of pipeline/chat_settings.py, for the endpoint too, and refused or not as there;
- `max_completion_tokens`, else `max_tokens`, is the record's limit;
- `stop` and, where `temperature` is above 0, `top_p` and `seed` are kept. Without a seed the
  `custom_id` gives one. Without a temperature the answer is greedy, whatever OpenAI's default;
- `model`, the `detail` of a picture and the like choose how it is computed and are not looked at;
- `sgl` is refused, as the job's own settings hold for all of its records.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.cells import Row
from pipeline.chat import WEB_SCHEMES, Chat, ChatError, conversation
from pipeline.chat_settings import ChatSettings, settings_of
from pipeline.config import ColumnsConfig
from pipeline.conversation import Conversation, packed

_SCHEMES = (*WEB_SCHEMES, "s3://")
_URL = "/v1/chat/completions"


def is_request(record: Mapping[str, Any] | str, columns: ColumnsConfig) -> bool:
    """Whether a line is one of a batch, and not a record that has its question in a column."""
    if isinstance(record, str) or columns.question in record:
        return False
    body = record.get("body")
    return "custom_id" in record and isinstance(body, dict) and "messages" in body


def as_record(row: Row, columns: ColumnsConfig) -> Row:
    """A request as a record in the user's columns; one that cannot be answered keeps its id."""
    if isinstance(row.record, str):
        return row
    own = {columns.id: row.record.get("custom_id")}
    try:
        body = _body(row.record)
        chat = conversation(body.get("messages"), _SCHEMES)
        settings = settings_of(body)
        limit = settings.max_new_tokens()
        cells = {
            columns.question: _question(chat),
            columns.image: chat.references or None,
            columns.max_new_tokens: limit and limit[1],
        }
        beyond = packed(_beyond(chat, settings, str(own[columns.id])))
    except ChatError as error:
        return Row(row.number, own | dict.fromkeys((columns.question, columns.image)), str(error))
    return Row(row.number, own | cells, conversation=beyond)


def _body(record: Mapping[str, Any]) -> dict[str, Any]:
    """Of a request."""
    body = record.get("body")
    if not isinstance(body, dict):
        raise ChatError("is not an object", "body")
    if record.get("url", _URL) != _URL:
        raise ChatError(f"is not {_URL}", "url")
    if body.get("sgl"):
        raise ChatError("is not supported", "sgl")
    return body


def _question(chat: Chat) -> str:
    return "\n".join(text for text in chat.turns[-1].parts if text is not None)


def _beyond(chat: Chat, settings: ChatSettings, name: str) -> Conversation:
    """What the question does not say."""
    return Conversation(
        turns=() if _is_plain(chat) else chat.turns,
        stop=settings.stops(),
        sampling=settings.sampling(name),
    )


def _is_plain(chat: Chat) -> bool:
    """Whether it is one question with its pictures ahead of it, as records have them."""
    turn = chat.turns[0]
    *before, last = turn.parts
    return len(chat.turns) == 1 and last is not None and not any(before)
