"""How a chat completion is wanted, beside its messages: the same for files and for live requests.

What cannot be done and would change the answer is refused: fields of this kind take the value that
asks for nothing, and no other. Unknown fields are not looked at, as other servers for OpenAI's
clients do, and nor is `prediction`, which only makes the same answer come sooner.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    WithJsonSchema,
)

from pipeline.chat import ChatError
from sgl.chance import Purpose, hash_of
from sgl.types import Sampling

_GREEDY_BELOW = 1e-5
"""Of the temperature: logits that are divided by less leave float32's range."""
_SEEDS = 2**63
_ONE, _SEVERAL = "text", "texts"


class Lenient(BaseModel):
    """Takes what JSON says as it is, without conversions, and passes over unknown fields."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class ResponseFormat(Lenient):
    """Only plain text."""

    type: Literal["text"]


def _is_false(value: bool) -> bool:
    if value:
        raise ValueError("only false is supported")
    return value


_Nothing = Annotated[list[Any], Field(max_length=0)]
_Zero = Annotated[float, Field(ge=0, le=0)]
_No = Annotated[bool, AfterValidator(_is_false), WithJsonSchema({"const": False})]


class Refused(Lenient):
    """What is refused unless it asks for nothing."""

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


def _form(stop: Any) -> str | None:
    return _ONE if isinstance(stop, str) else _SEVERAL if isinstance(stop, list) else None


_StopText = Annotated[str, Field(min_length=1, max_length=1000)]
_Stop = Annotated[
    Annotated[_StopText, Tag(_ONE)]
    | Annotated[list[_StopText], Field(max_length=4), Tag(_SEVERAL)],
    Discriminator(
        _form,
        custom_error_type="stop_type",
        custom_error_message="input is neither a text nor a list of texts",
    ),
]


class ChatSettings(Refused):
    """What can be done.

    Attributes:
        max_tokens: of the answer; the newer name counts where there are both.
        max_completion_tokens: that newer name.
        temperature: 0, the default here, takes the likeliest token each time.
        top_p: tokens are drawn from the fewest that hold so much of the probability.
        seed: the same gives the same answer, with the same prompt and batch.
        stop: texts that end the answer.
    """

    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = Field(default=None, ge=-_SEEDS, lt=_SEEDS)
    stop: _Stop | None = None

    def stops(self) -> tuple[str, ...]:
        """Texts that end the answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def max_new_tokens(self) -> tuple[str, int] | None:
        """The field that limits the answer, and its limit; None where there is none."""
        if self.max_completion_tokens is not None:
            return "max_completion_tokens", self.max_completion_tokens
        return None if self.max_tokens is None else ("max_tokens", self.max_tokens)

    def sampling(self, name: str) -> Sampling | None:
        """How tokens are drawn; None takes the likeliest.

        Args:
            name: draws the seed where there is none.
        """
        temperature = self.temperature or 0.0
        top_p = 1.0 if self.top_p is None else self.top_p
        # The fewest tokens that hold nothing are the likeliest one.
        if temperature < _GREEDY_BELOW or top_p == 0:
            return None
        seed = hash_of(name, Purpose.SEED) if self.seed is None else self.seed
        return Sampling(temperature, top_p, seed % _SEEDS)


def settings_of(body: dict[str, Any]) -> ChatSettings:
    """The settings among the fields of a request.

    Raises:
        ChatError: one is not as it may be.
    """
    try:
        return ChatSettings.model_validate(body)
    except ValidationError as error:
        raise refusal(error) from None


def refusal(error: ValidationError) -> ChatError:
    """The first thing that is wrong, without an echo of what was sent."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = [str(step) for step in first["loc"]]
    if place and place[0] in Refused.model_fields:
        return ChatError("is not supported", place[0], "unsupported_parameter")
    if place[:1] == ["stop"]:
        # Which of its two forms was looked at is not the client's business.
        place = [step for step in place if step not in (_ONE, _SEVERAL)]
    told = first["msg"][:1].lower() + first["msg"][1:]
    return ChatError(told, ".".join(place), None)
