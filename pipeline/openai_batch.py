"""Requests in OpenAI's batch format: JSON lines of `custom_id` and a chat completion's `body`.

A record has one question and pictures ahead of it, and is answered greedily. A request becomes one
where that says the same; else it is its row's problem:

- one user turn, behind system texts, which are put before it, as chat templates without a system
  role do; no assistant turns;
- text parts together, before or after the pictures, never between them;
- pictures by https:, http:, s3: or data:, as the settings allow them;
- `max_completion_tokens`, else `max_tokens`, is the record's limit.

`model`, `temperature`, `top_p`, `seed`, the `detail` of a picture and the like choose how it is
computed and are not looked at. What changes the shape of an answer (`n`, `tools`, `stop`, a
`response_format` other than text, `logprobs`) is refused.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pipeline.cells import Row
from pipeline.config import ColumnsConfig

_SCHEMES = ("data:", "https://", "http://", "s3://")
_URL = "/v1/chat/completions"
_REFUSED = ("tools", "functions", "stop", "logprobs", "audio", "prediction")
_LIMITS = ("max_completion_tokens", "max_tokens")


class _RefusedError(ValueError):
    """The request is none that the pipeline answers."""


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
        return Row(row.number, own | _question(row.record, columns))
    except _RefusedError as error:
        return Row(row.number, own | dict.fromkeys((columns.question, columns.image)), str(error))


def _question(record: Mapping[str, Any], columns: ColumnsConfig) -> dict[str, Any]:
    body = record.get("body")
    if not isinstance(body, dict):
        raise _RefusedError("'body' is not an object")
    if record.get("url", _URL) != _URL:
        raise _RefusedError(f"'url' is not {_URL}")
    _check_settings(body)
    texts, images = _contents(body.get("messages"))
    limit = next((body[name] for name in _LIMITS if body.get(name) is not None), None)
    return {
        columns.question: "\n\n".join(texts),
        columns.image: images or None,
        columns.max_new_tokens: limit,
    }


def _check_settings(body: Mapping[str, Any]) -> None:
    for name in _REFUSED:
        if body.get(name):
            raise _RefusedError(f"'{name}' is not supported")
    if body.get("n") not in (None, 1):
        raise _RefusedError("'n' is not supported: a record has one answer")
    answer = body.get("response_format")
    if answer is not None and (not isinstance(answer, dict) or answer.get("type") != "text"):
        raise _RefusedError("'response_format' is not supported: answers are text")


def _contents(messages: Any) -> tuple[list[str], list[str]]:
    """The texts of all turns, and the pictures."""
    if not isinstance(messages, list) or not all(isinstance(turn, dict) for turn in messages):
        raise _RefusedError("'messages' is not a list of objects")
    roles = [turn.get("role") for turn in messages]
    if (
        not roles
        or roles[-1] != "user"
        or any(r not in ("system", "developer") for r in roles[:-1])
    ):
        raise _RefusedError("'messages' is not one user turn, or system texts and one")
    *before, question = messages
    texts = []
    for turn in before:
        text, images = _parts(turn.get("content"))
        if images:
            raise _RefusedError("a system text holds a picture")
        texts.append(text)
    text, images = _parts(question.get("content"))
    return [one for one in [*texts, text] if one], images


def _parts(content: Any) -> tuple[str, list[str]]:
    """Text and pictures of one turn."""
    if isinstance(content, str):
        return content, []
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise _RefusedError("'content' is neither a text nor a list of parts")
    kinds = [part.get("type") for part in content]
    if unknown := [kind for kind in kinds if kind not in ("text", "image_url")]:
        raise _RefusedError(f"a part of type {_shown(unknown[0])} is not supported")
    if _is_between(kinds):
        raise _RefusedError("text stands between pictures, or pictures between texts")
    texts = [part.get("text") for part in content if part["type"] == "text"]
    if not all(isinstance(text, str) for text in texts):
        raise _RefusedError("'text' is not a text")
    images = [_uri(part.get("image_url")) for part in content if part["type"] == "image_url"]
    return "\n".join(text for text in texts if text), images


def _is_between(kinds: Sequence[Any]) -> bool:
    """Whether texts and pictures change places more than once."""
    return sum(one != other for one, other in pairwise(kinds)) > 1


def _uri(image: Any) -> str:
    uri = image.get("url") if isinstance(image, dict) else image
    if not isinstance(uri, str) or not uri.lower().startswith(_SCHEMES):
        raise _RefusedError("'image_url' is no data:, https:, http: or s3: address")
    return uri


def _shown(kind: Any) -> str:
    return f"'{kind}'" if isinstance(kind, str) and len(kind) < 40 else "that is none"
