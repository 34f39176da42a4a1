"""The shared vocabulary of the system: plain, frozen, picklable records without behaviour.

Life of one record: ImageQuestion -> (small model) -> Guidance -> (large model) -> Answer.
Nothing here imports torch, so every layer may use it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL.Image import Image

ImageInput: TypeAlias = Image | npt.NDArray[np.uint8]
"""One picture: a PIL image, or an RGB array of shape (height, width, 3), uint8."""


class Route(StrEnum):
    """Which model gave the answer of a record."""

    SMALL = "small"
    LARGE = "large"
    FAILED = "failed"


class ConsistencyForm(StrEnum):
    """How the token probabilities of the consistency pass become one number.

    PRODUCT is the paper's; it shrinks with answer length. GEOMETRIC is its per-token mean, for
    captions and other long answers.
    """

    PRODUCT = "product"
    GEOMETRIC = "geometric"


class Criterion(StrEnum):
    """What the exit score is; see sgl.early_exit for the definitions.

    MEAN is the paper's: of confidence and consistency. Only these two need the consistency pass.
    """

    MEAN = "mean"
    CONFIDENCE = "confidence"
    CONSISTENCY = "consistency"
    ENTROPY = "entropy"
    MARGIN = "margin"
    QUANTILE = "quantile"
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class Certainty:
    """How sure the small model is of an answer: scores from 0 to 1, higher = surer.

    Attributes:
        confidence: exp(mean log p(y_t)), paper section 3.3.
        consistency: probability of the same answer from the most important tokens alone; None
            where the consistency pass was skipped.
        entropy: 1 - mean entropy of the token distributions, as a share of the highest there is.
        margin: mean lead of the token over the next best one.
        quantile: of the token probabilities, near the lowest.
    """

    confidence: float
    consistency: float | None
    entropy: float
    margin: float
    quantile: float


class Role(StrEnum):
    """Who speaks in a turn of a conversation."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation.

    Attributes:
        role: who speaks.
        parts: texts, and None where a picture stands: the record's next one.
    """

    role: Role
    parts: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn, where they are not the likeliest ones.

    Attributes:
        temperature: above 0; logits are divided by it.
        top_p: tokens are drawn from the fewest that hold so much of the probability; 1 is all.
        seed: the same gives the same answer, with the same prompt and batch.
    """

    temperature: float
    top_p: float
    seed: int


@dataclass(frozen=True, slots=True)
class ImageQuestion:
    """One question about one or more images (or about none).

    Attributes:
        id: unique within a job.
        question: the user's text, without image placeholders or chat markup; not looked at where
            there are turns.
        images: the pictures, in prompt order; ahead of the question where there are no turns.
        max_new_tokens: limit for this record; None means the caller's default.
        turns: a whole conversation, the user's turn last; none is the question alone.
        stop: texts that end the answer, which then holds none of them.
        sampling: None is greedy.
    """

    id: str
    question: str
    images: tuple[ImageInput, ...] = ()
    max_new_tokens: int | None = None
    turns: tuple[Turn, ...] = ()
    stop: tuple[str, ...] = ()
    sampling: Sampling | None = None


@dataclass(frozen=True, slots=True)
class TokenGrid:
    """A rectangle of consecutive visual tokens, row-major, and the part of an image it covers.

    Attributes:
        image: index of the image within the record.
        rows: token rows.
        columns: token columns.
        box: (left, top, right, bottom) in normalised image coordinates, 0 to 1.
        thumbnail: True for the overview that some families add beside their tiles.
    """

    image: int
    rows: int
    columns: int
    box: tuple[float, float, float, float]
    thumbnail: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What one model spent on one record.

    Attributes:
        prompt_tokens: T, visual tokens included, before pruning.
        visual_tokens: V.
        kept_tokens: visual tokens left above the prune layer (V when nothing was pruned).
        completion_tokens: n, the end token included when it was generated.
        flops: floating point operations of all phases (a multiply-add counts two).
        device_s: the record's share of its batch's device-seconds: see sgl.accounting.
        batch_records: records of the forward pass that it was part of.
        padded_tokens: prompt tokens of each of them there, its own padding included.
        consistency_s: of `device_s`, what the consistency pass took; None where there was none.
    """

    prompt_tokens: int
    visual_tokens: int
    kept_tokens: int
    completion_tokens: int
    flops: float
    device_s: float
    batch_records: int
    padded_tokens: int
    consistency_s: float | None = None


@dataclass(frozen=True, slots=True)
class Pruning:
    """How a large model's visual tokens were pruned (design: always stated together).

    Attributes:
        prune_layer: the fraction of the layers below the cut; K = int(L * prune_layer).
        keep_ratio: the share of the visual tokens kept from layer K on.
        average_retention: (K + (L - K) * kept / V) / L, the share of visual token-layers computed.
        pruner: name of who chose them; see `sgl.pruners`.
    """

    prune_layer: float
    keep_ratio: float
    average_retention: float
    pruner: str = "guided"


@dataclass(frozen=True, slots=True, eq=False)
class Guidance:
    """What the small model says about a record.

    Attributes:
        id: of the record.
        answer: the small model's own answer.
        token_ids: its tokens, the end token included when it was generated.
        certainty: every score of it.
        criterion: what the exit score is made of.
        exit_score: 0 to 1; a record exits where it reaches the threshold.
        importance: (V,) float32, the global attention map, in prompt order.
        grids: where those V tokens lie; rows * columns sum to V.
        usage: what this cost.
        ended: whether the answer ended of itself, and not at its limit.
    """

    id: str
    answer: str
    token_ids: tuple[int, ...]
    certainty: Certainty
    criterion: Criterion
    exit_score: float
    importance: npt.NDArray[np.float32]
    grids: tuple[TokenGrid, ...]
    usage: Usage
    ended: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The final answer to a record.

    Attributes:
        id: of the record.
        text: the answer, special tokens removed, stripped.
        token_ids: its tokens, the end token included when it was generated.
        route: the model that gave it.
        usage: what that model spent on the record.
        pruning: how its visual tokens were pruned; None where nothing was.
        guidance: the small model's part; None where it never ran.
        accepted_draft_tokens: tokens of the answer that the guide had said before.
        ended: whether it ended of itself, and not at its limit.
    """

    id: str
    text: str
    token_ids: tuple[int, ...]
    route: Route
    usage: Usage
    pruning: Pruning | None = None
    guidance: Guidance | None = None
    accepted_draft_tokens: int = 0
    ended: bool = True


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a record has no answer: a row of the output, never an exception of the job.

    Attributes:
        id: of the record.
        stage: where it failed: "fetch", "small" or "large".
        type: the name of the error class.
        message: what is wrong and what to do, free of internals.
    """

    id: str
    stage: str
    type: str
    message: str
