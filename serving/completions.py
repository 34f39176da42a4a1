"""What the endpoint answers: OpenAI's chat completions, whole and in chunks, and `sgl`, our own."""

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


def _is_none(value: object) -> bool:
    return value is None


Sometimes = Annotated[T | None, Field(exclude_if=_is_none)]
"""Absent where it is None."""


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True)


class TokenDetails(_Reply):
    """Of a prompt."""

    image_tokens: int


class CompletionDetails(_Reply):
    """Of an answer.

    Attributes:
        accepted_prediction_tokens: that the small model had said before the large one did.
    """

    accepted_prediction_tokens: int


class Spent(_Reply):
    """What one model spent; see sgl.types.Usage."""

    prompt_tokens: int
    visual_tokens: int
    kept_tokens: int
    completion_tokens: int
    device_s: float


class PairUsage(_Reply):
    """By model; None did not run."""

    small: Spent | None
    large: Spent | None


class CompletionUsage(_Reply):
    """Of the model that answered; `sgl` has both."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: TokenDetails
    completion_tokens_details: CompletionDetails
    sgl: PairUsage


class Scores(_Reply):
    """See sgl.types.Certainty; None is unknown."""

    confidence: float | None
    consistency: float | None
    entropy: float | None
    margin: float | None
    quantile: float | None


class PruningReport(_Reply):
    """See sgl.types.Pruning."""

    pruner: str
    prune_layer: float
    keep_ratio: float
    average_retention: float
    visual_tokens: int
    kept_tokens: int


class CostReport(_Reply):
    """What the answer cost; `usd` is None where there are no prices."""

    small_device_s: float
    large_device_s: float
    usd: float | None
    currency: Literal["USD"] = "USD"
    flops: float


class Timing(_Reply):
    """Milliseconds; None where a model did not run."""

    small_queued: float | None
    small: float | None
    large_queued: float | None
    large: float | None
    total: float


class GridReport(_Reply):
    """See sgl.types.TokenGrid."""

    image: int
    rows: int
    columns: int
    box: tuple[float, float, float, float]
    thumbnail: bool


class ImportanceReport(_Reply):
    """The ranking of the visual tokens.

    Attributes:
        grids: where they lie.
        values: relative to the largest, in prompt order.
    """

    grids: list[GridReport]
    values: list[float]


class SglReport(_Reply):
    """How an answer came about.

    Attributes:
        route: the model that gave it.
        reason: why that one, in words.
        criterion: what the exit score is.
        exit_score: of the small model's answer; None where it was not asked.
        threshold: that it had to reach; None where there was no decision.
        policy: whose threshold and pruning that were; None where the request changed them.
        scores: of the small model's answer.
        small_answer: its text.
        degraded: why the small model's answer stands though it should have escalated.
        pruning: of the large model's visual tokens.
        cost: of both models.
        timing_ms: likewise.
        accepted_draft_tokens: of the large model's answer, said before by the small one.
        importance: where the request asked for it, and the small model has ranked; else absent.
    """

    route: Literal["small", "large"]
    reason: str
    criterion: str
    exit_score: float | None
    threshold: float | None
    policy: str | None
    scores: Scores | None
    small_answer: str | None
    degraded: Literal["large_unavailable", "large_overloaded"] | None
    pruning: PruningReport | None
    cost: CostReport
    timing_ms: Timing
    accepted_draft_tokens: int
    importance: Sometimes[ImportanceReport] = None


class Message(_Reply):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


FinishReason = Literal["stop", "length"]


class Choice(_Reply):
    """The only one."""

    index: Literal[0] = 0
    message: Message
    logprobs: None = None
    finish_reason: FinishReason


class Completion(_Reply):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: CompletionUsage
    sgl: SglReport


class Delta(_Reply):
    """A piece of an answer."""

    role: Sometimes[Literal["assistant"]] = None
    content: Sometimes[str] = None


class ChunkChoice(_Reply):
    """The only one, so far."""

    index: Literal[0] = 0
    delta: Delta
    logprobs: None = None
    finish_reason: FinishReason | None


class Chunk(_Reply):
    """An event of a stream.

    Attributes:
        usage: in the last one, where it was asked for.
        sgl: with the finish reason.
    """

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: CompletionUsage | None = None
    sgl: Sometimes[SglReport] = None


class ErrorDetail(_Reply):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(_Reply):
    """Instead of an answer."""

    error: ErrorDetail


class ModelCard(_Reply):
    """A name that requests may ask for."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "sgl"


class ModelList(_Reply):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Health(_Reply):
    """The process lives."""

    status: Literal["ok"] = "ok"


class Version(_Reply):
    """Of this software."""

    version: str


class PoolReport(_Reply):
    """See serving.backend.PoolState."""

    replicas: int
    wanted: int


class Ready(_Reply):
    """Requests can be answered."""

    status: Literal["ready"] = "ready"
    pools: dict[str, PoolReport]
