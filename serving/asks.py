"""A request's body -> what is to be answered, by whom, and until when."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.chat import ChatError, conversation
from serving.api_errors import ApiError
from serving.config import LimitsConfig
from serving.models import Catalogue, Choice
from serving.protocol import ChatRequest, parsed
from sgl.chance import Purpose, hash_of
from sgl.types import ImageInput, ImageQuestion, Sampling

_GREEDY_BELOW = 1e-5
"""Of the temperature: logits that are divided by less leave float32's range."""
_SEEDS = 2**63


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    Attributes:
        question: for both models; its pictures are still missing.
        references: where they are.
        choice: the model that was asked for.
        deadline: in seconds of `time.monotonic`, as `begun`.
        begun: when the request had arrived.
        explain: whether the ranking is to come back.
        stream: whether the answer comes in chunks.
        include_usage: whether the last of them tells what it took.
    """

    question: ImageQuestion
    references: Sequence[str]
    choice: Choice
    deadline: float
    begun: float
    explain: bool
    stream: bool
    include_usage: bool

    def remaining_s(self) -> float:
        """Until the deadline; never below 0."""
        return max(0.0, self.deadline - time.monotonic())

    def with_pictures(self, images: Sequence[ImageInput]) -> "Ask":
        """The same with its pictures."""
        return replace(self, question=replace(self.question, images=tuple(images)))


def ask_of(
    body: bytes, *, catalogue: Catalogue, limits: LimitsConfig, record_id: str, request_id: str
) -> Ask:
    """What a body asks for; its time runs from now on.

    Args:
        body: JSON.
        catalogue: of the models.
        limits: of one request.
        record_id: unique, for the models.
        request_id: as the client knows it; draws what the request leaves to chance.

    Raises:
        ApiError: it is malformed, beyond the limits, or asks for what is not supported.
    """
    begun = time.monotonic()
    request = parsed(body)
    options = request.sgl
    timeout_s = min(limits.deadline_s, (options and options.timeout_s) or limits.deadline_s)
    question, references = _question(request, limits, record_id, request_id)
    return Ask(
        question=question,
        references=references,
        choice=catalogue.choose(request.model, options),
        deadline=begun + timeout_s,
        begun=begun,
        explain=bool(options and options.explain),
        stream=bool(request.stream),
        include_usage=bool(request.stream_options and request.stream_options.include_usage),
    )


def _question(
    request: ChatRequest, limits: LimitsConfig, record_id: str, request_id: str
) -> tuple[ImageQuestion, list[str]]:
    try:
        chat = conversation(request.messages)
    except ChatError as error:
        raise ApiError(400, str(error), code="invalid_messages", param=error.param) from None
    texts = [part for turn in chat.turns for part in turn.parts if part is not None]
    _at_most(limits.max_turns, len(chat.turns), "turns", "messages")
    _at_most(limits.max_text_chars, sum(map(len, texts)), "characters of text", "messages")
    question = ImageQuestion(
        id=record_id,
        question=texts[-1] if texts else "",
        max_new_tokens=_max_new_tokens(request, limits),
        turns=chat.turns,
        stop=_stop(request.stop),
        sampling=_sampling(request, request_id),
    )
    return question, chat.references


def _max_new_tokens(request: ChatRequest, limits: LimitsConfig) -> int | None:
    for param in ("max_completion_tokens", "max_tokens"):
        wanted: int | None = getattr(request, param)
        if wanted is not None:
            _at_most(limits.max_new_tokens, wanted, "tokens of an answer", param)
            return wanted
    return None


def _stop(texts: str | list[str] | None) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts or ())


def _sampling(request: ChatRequest, request_id: str) -> Sampling | None:
    temperature = request.temperature or 0.0
    top_p = 1.0 if request.top_p is None else request.top_p
    if temperature < _GREEDY_BELOW or top_p == 0:
        return None
    seed = hash_of(request_id, Purpose.SEED) if request.seed is None else request.seed
    return Sampling(temperature, top_p, seed % _SEEDS)


def _at_most(limit: int, found: int, what: str, param: str) -> None:
    if found > limit:
        told = f"{param}: {found} {what}, and {limit} are the most"
        raise ApiError(400, told, code="limit_exceeded", param=param)
