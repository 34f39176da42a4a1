"""Requests in OpenAI's batch format: JSON lines of `custom_id` and a chat completion's `body`.

Messages go by the same grammar as the endpoint's (pipeline/chat.py), pictures may also be s3:. A
turn of pictures and a text behind them is a plain record with that question; anything else travels
as a conversation. Of the other settings:

- `max_completion_tokens`, else `max_tokens`, is the record's limit;
- `stop` and, where `temperature` is above 0, `top_p` and `seed` are kept. Without a seed the
  `custom_id` gives one. Without a temperature the answer is greedy, whatever OpenAI's default;
- `model`, the `detail` of a picture and the like choose how it is computed and are not looked at;
- what changes the shape of an answer (`n`, `tools`, `logprobs`, a `response_format` other than
  text), or its words in ways that are not built (`logit_bias`, penalties), is refused, and so is
  `sgl`, as the job's own settings hold for all of its records.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.cells import Row
from pipeline.chat import WEB_SCHEMES, Chat, ChatError, conversation
from pipeline.config import ColumnsConfig
from pipeline.conversation import Conversation, packed
from sgl.chance import Purpose, hash_of
from sgl.types import Sampling

_SCHEMES = (*WEB_SCHEMES, "s3://")
_URL = "/v1/chat/completions"
_REFUSED = ("tools", "functions", "logprobs", "audio", "prediction", "logit_bias", "sgl")
_PENALTIES = ("frequency_penalty", "presence_penalty")
_LIMITS = ("max_completion_tokens", "max_tokens")
_MOST_STOPS = 4
_HOTTEST = 2.0
_GREEDY_BELOW = 1e-5
"""Of the temperature, as at the endpoint: logits that are divided by less leave float32's range."""
_SEEDS = 2**63


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
        limit = next((body[name] for name in _LIMITS if body.get(name) is not None), None)
        cells = {
            columns.question: _question(chat),
            columns.image: chat.references or None,
            columns.max_new_tokens: limit,
        }
        beyond = packed(_beyond(chat, body, str(own[columns.id])))
    except ChatError as error:
        return Row(row.number, own | dict.fromkeys((columns.question, columns.image)), str(error))
    return Row(row.number, own | cells, conversation=beyond)


def _body(record: Mapping[str, Any]) -> dict[str, Any]:
    """Of a request, less what is refused."""
    body = record.get("body")
    if not isinstance(body, dict):
        raise ChatError("is not an object", "body")
    if record.get("url", _URL) != _URL:
        raise ChatError(f"is not {_URL}", "url")
    for name in (*_REFUSED, *_PENALTIES):
        if body.get(name):
            raise ChatError("is not supported", name)
    if body.get("n") not in (None, 1):
        raise ChatError("is not supported: a record has one answer", "n")
    answer = body.get("response_format")
    if answer is not None and (not isinstance(answer, dict) or answer.get("type") != "text"):
        raise ChatError("is not supported: answers are text", "response_format")
    return body


def _question(chat: Chat) -> str:
    return "\n".join(text for text in chat.turns[-1].parts if text is not None)


def _beyond(chat: Chat, body: Mapping[str, Any], name: str) -> Conversation:
    """What the question does not say."""
    return Conversation(
        turns=() if _is_plain(chat) else chat.turns,
        stop=_stop(body.get("stop")),
        sampling=_sampling(body, name),
    )


def _is_plain(chat: Chat) -> bool:
    """Whether it is one question with its pictures ahead of it, as records have them."""
    turn = chat.turns[0]
    *before, last = turn.parts
    return len(chat.turns) == 1 and last is not None and not any(before)


def _stop(stop: Any) -> tuple[str, ...]:
    if stop is None or stop == "":
        return ()
    texts = [stop] if isinstance(stop, str) else stop
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise ChatError("is neither a text nor a list of texts", "stop")
    if len(texts) > _MOST_STOPS:
        raise ChatError(f"holds more than {_MOST_STOPS} texts", "stop")
    return tuple(texts)


def _sampling(body: Mapping[str, Any], name: str) -> Sampling | None:
    temperature = _number(body, "temperature", 0.0, _HOTTEST)
    top_p = _number(body, "top_p", 1.0, 1.0)
    seed = body.get("seed")
    if seed is None:
        seed = hash_of(name, Purpose.SEED)
    elif not isinstance(seed, int) or isinstance(seed, bool):
        raise ChatError("is not an integer", "seed")
    # The fewest tokens that hold nothing are the likeliest one.
    if temperature < _GREEDY_BELOW or top_p == 0:
        return None
    return Sampling(temperature, top_p, seed % _SEEDS)


def _number(body: Mapping[str, Any], name: str, default: float, most: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ChatError(f"is not a number from 0 to {most:g}", name)
    return float(value)
