"""A request's body -> what is to be answered, by whom, and until when."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.chat import ChatError, ChatLimits, beyond, conversation
from serving.config import LimitsConfig
from serving.models import Catalogue, Choice
from serving.protocol import ChatRequest, parsed, refused
from sgl.types import ImageInput, ImageQuestion

_VALUES = 100_000
"""Of JSON, beside those that a text may look like. The smallest one takes 3 bytes in a body and 64
once it is parsed, and nothing else can run while they are parsed."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    Attributes:
        question: for both models; its pictures are still missing.
        references: where they are, as long as they are missing.
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
        """The same with its pictures, in place of their addresses, which may hold them too."""
        question = replace(self.question, images=tuple(images))
        return replace(self, question=question, references=())


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
    try:
        _check_values(body, limits)
        request = parsed(body)
        timeout_s = _timeout_s(request, limits)
        question, references = _question(request, limits, record_id, request_id)
    except ChatError as error:
        raise refused(error) from None
    options = request.sgl
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


def _check_values(body: bytes, limits: LimitsConfig) -> None:
    """Refuse before they are made what are far more values than a conversation has."""
    most = limits.max_text_chars + _VALUES
    if sum(map(body.count, (b",", b"[", b"{"))) > most:
        raise beyond(most, "values", "messages")


def _timeout_s(request: ChatRequest, limits: LimitsConfig) -> float:
    wished = request.sgl.timeout_s if request.sgl else None
    if wished is None:
        return limits.deadline_s
    if wished > limits.deadline_s:
        raise beyond(limits.deadline_s, "seconds", "sgl.timeout_s")
    return wished


def _question(
    request: ChatRequest, limits: LimitsConfig, record_id: str, request_id: str
) -> tuple[ImageQuestion, list[str]]:
    most = ChatLimits(limits.max_turns, limits.max_images, limits.max_text_chars)
    chat = conversation(request.messages, limits=most)
    texts = [part for turn in chat.turns for part in turn.parts if part is not None]
    stops = request.stops()
    if sum(map(len, (*texts, *stops))) > limits.max_text_chars:
        raise beyond(limits.max_text_chars, "characters of text, with the messages", "stop")
    question = ImageQuestion(
        id=record_id,
        question=texts[-1] if texts else "",
        max_new_tokens=_max_new_tokens(request, limits),
        turns=chat.turns,
        stop=stops,
        sampling=request.sampling(request_id),
    )
    return question, chat.references


def _max_new_tokens(request: ChatRequest, limits: LimitsConfig) -> int | None:
    found = request.max_new_tokens()
    if found is None:
        return None
    param, wanted = found
    if wanted > limits.max_new_tokens:
        raise beyond(limits.max_new_tokens, "tokens of an answer", param)
    return wanted
