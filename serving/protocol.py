"""What a request of a chat completion may say: OpenAI's fields, and `sgl`, our own.

OpenAI's settings are those of `pipeline.chat_settings`. Inside `sgl` unknown fields are errors,
because they can only be misspellings.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from pipeline.chat import ChatError
from pipeline.chat_settings import ChatSettings, Lenient, refusal
from serving.api_errors import ApiError
from serving.message_schema import MESSAGES

Messages = Annotated[Any, WithJsonSchema(MESSAGES)]
"""Looked at by `pipeline.chat`, whose grammar the schema tells."""


class SglOptions(BaseModel):
    """Our own wishes.

    Attributes:
        threshold: exit score from which the small model's answer stands.
        prune_layer: share of the large model's layers below the pruning.
        keep_ratio: share of the visual tokens from there on; 1 prunes nothing.
        explain: whether the importance of every visual token comes back.
        timeout_s: for the whole request; no more than the endpoint allows.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, extra="forbid")

    threshold: float | None = Field(default=None, ge=0)
    prune_layer: float | None = Field(default=None, ge=0, lt=1)
    keep_ratio: float | None = Field(default=None, gt=0, le=1)
    explain: bool | None = None
    timeout_s: float | None = Field(default=None, gt=0)


class StreamOptions(Lenient):
    """As OpenAI has them."""

    include_usage: bool | None = None


class ChatRequest(ChatSettings):
    """All of it.

    Attributes:
        model: a name of `/v1/models`, or with a threshold, such as "pair@0.9".
    """

    model: str
    messages: Messages
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    sgl: SglOptions | None = None


def parsed(body: bytes) -> ChatRequest:
    """The request in a body.

    Raises:
        ApiError: it is none, or asks for what is not supported; names the field.
    """
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
            raise ApiError(400, "the body is no valid JSON", code="invalid_json") from None
        raise refused(refusal(error)) from None


def refused(error: ChatError) -> ApiError:
    """What a client is told of what is wrong with its request."""
    return ApiError(400, str(error), code=error.code, param=error.param or None)
