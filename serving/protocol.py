"""What a request of a chat completion may say: OpenAI's fields, and `sgl`, our own.

What cannot be done and would change the answer is refused: fields of this kind take the value that
asks for nothing, and no other. Unknown fields are not looked at, as other servers for OpenAI's
clients do; inside `sgl` they are errors, because they can only be misspellings.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from serving.api_errors import ApiError
from serving.message_schema import MESSAGES

MOST_STOPS = 4


def _is_false(value: bool) -> bool:
    if value:
        raise ValueError("only false is supported")
    return value


Messages = Annotated[Any, WithJsonSchema(MESSAGES)]
"""Looked at by `pipeline.chat`, whose grammar the schema tells."""
_Nothing = Annotated[list[Any], Field(max_length=0)]
_Zero = Annotated[float, Field(ge=0, le=0)]
_No = Annotated[bool, AfterValidator(_is_false), WithJsonSchema({"const": False})]


class _Lenient(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class SglOptions(BaseModel):
    """Our own wishes.

    Attributes:
        threshold: exit score from which the small model's answer stands.
        prune_layer: share of the large model's layers below the pruning.
        keep_ratio: share of the visual tokens from there on; 1 prunes nothing.
        explain: whether the importance of every visual token comes back.
        timeout_s: for the whole request.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, extra="forbid")

    threshold: float | None = Field(default=None, ge=0)
    prune_layer: float | None = Field(default=None, ge=0, lt=1)
    keep_ratio: float | None = Field(default=None, gt=0, le=1)
    explain: bool | None = None
    timeout_s: float | None = Field(default=None, gt=0)


class StreamOptions(_Lenient):
    """As OpenAI has them."""

    include_usage: bool | None = None


class ResponseFormat(_Lenient):
    """Only plain text."""

    type: Literal["text"]


class Wanted(_Lenient):
    """What can be answered.

    Attributes:
        model: a name of `/v1/models`, or with a threshold, such as "pair@0.9".
        max_tokens: of the answer; the newer name counts where there are both.
        max_completion_tokens: that newer name.
        temperature: 0, the default here, takes the likeliest token each time.
        top_p: tokens are drawn from the fewest that hold so much of the probability.
        seed: the same gives the same answer, with the same prompt and batch.
        stop: texts that end the answer.
    """

    model: str
    messages: Messages
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: (
        Annotated[str, Field(min_length=1)]
        | Annotated[
            list[Annotated[str, Field(min_length=1)]],
            Field(max_length=MOST_STOPS),
        ]
        | None
    ) = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    sgl: SglOptions | None = None


class ChatRequest(Wanted):
    """Beside that, what is refused unless it asks for nothing."""

    n: Annotated[int, Field(ge=1, le=1)] | None = None
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    tools: _Nothing | None = None
    tool_choice: Literal["none", "auto"] | None = None
    functions: _Nothing | None = None
    function_call: Literal["none", "auto"] | None = None
    logprobs: _No | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    frequency_penalty: _Zero | None = None
    presence_penalty: _Zero | None = None
    response_format: ResponseFormat | None = None
    modalities: list[Literal["text"]] | None = None
    audio: None = None
    web_search_options: None = None


_REFUSED = ChatRequest.model_fields.keys() - Wanted.model_fields.keys()


def parsed(body: bytes) -> ChatRequest:
    """The request in a body.

    Raises:
        ApiError: it is none, or asks for what is not supported; names the field.
    """
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return ApiError(400, "the body is no valid JSON", code="invalid_json")
    field = str(first["loc"][0]) if first["loc"] else None
    if field in _REFUSED:
        return ApiError(
            400, f"'{field}' is not supported", code="unsupported_parameter", param=field
        )
    if field == "stop":
        # Of alternatives, Pydantic tells what is wrong with each.
        told = f"stop: is neither a text nor a list of up to {MOST_STOPS}, none of them empty"
        return ApiError(400, told, param="stop")
    param = ".".join(map(str, first["loc"])) or None
    told = first["msg"][:1].lower() + first["msg"][1:]
    return ApiError(400, f"{param}: {told}" if param else told, param=param)
