"""Models that answer by arithmetic: for what is measured of the pipeline and not of a model.

Their answers and importance maps are of a real model's size, and depend on the pixels that arrive.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actors.batching import Watch, unwatched
from actors.large_vlm import GuidedQuestion
from sgl.types import (
    Answer,
    Certainty,
    Criterion,
    Failure,
    Guidance,
    ImageQuestion,
    Pruning,
    Route,
    TokenGrid,
    Usage,
)

SIDE = 16
"""Visual tokens of a picture: 16 x 16."""
_VISUAL = SIDE * SIDE
_KEPT = 51
_GRID = TokenGrid(0, SIDE, SIDE, (0.0, 0.0, 1.0, 1.0))


def score_of(record_id: str) -> float:
    """Evenly spread over 0 to 1, the same in every process."""
    return zlib.crc32(record_id.encode()) / 0xFFFFFFFF


@dataclass(frozen=True)
class ArithmeticSmall:
    """Guidance from a picture's mean and the record's id."""

    def run(
        self, records: Sequence[ImageQuestion], watch: Watch = unwatched
    ) -> list[Guidance | Failure]:
        """See actors.small_vlm.SmallVLM."""
        with watch([record.id for record in records]):
            return [_guidance(record, len(records)) for record in records]


@dataclass(frozen=True)
class ArithmeticLarge:
    """An answer from a picture's mean and the guidance."""

    def run(
        self, requests: Sequence[GuidedQuestion], watch: Watch = unwatched
    ) -> list[Answer | Failure]:
        """See actors.large_vlm.LargeVLM."""
        with watch([request.id for request in requests]):
            return [_answer(request, len(requests)) for request in requests]

    def prompt_tokens(self, record: ImageQuestion) -> int:
        """The same for all."""
        return _VISUAL + len(record.images)


def _guidance(record: ImageQuestion, batch: int) -> Guidance:
    score = score_of(record.id)
    return Guidance(
        id=record.id,
        answer=f"small {_brightness(record)}",
        token_ids=(1, 2, 3),
        certainty=Certainty(score, score, score, score, score),
        criterion=Criterion.MEAN,
        exit_score=score,
        importance=np.arange(_VISUAL, dtype=np.float32),
        grids=(_GRID,),
        usage=_usage(batch, _VISUAL),
    )


def _answer(request: GuidedQuestion, batch: int) -> Answer:
    return Answer(
        id=request.id,
        text=f"large {_brightness(request.record)}",
        token_ids=(4, 5, 6),
        route=Route.LARGE,
        usage=_usage(batch, _KEPT),
        pruning=Pruning(0.19, 0.2, 0.35),
        guidance=request.guidance,
    )


def _brightness(record: ImageQuestion) -> int:
    return int(np.asarray(record.images[0], dtype=np.uint8).mean())


def _usage(batch: int, kept: int) -> Usage:
    return Usage(
        prompt_tokens=_VISUAL + 32,
        visual_tokens=_VISUAL,
        kept_tokens=kept,
        completion_tokens=3,
        flops=1e9,
        device_s=0.01,
        batch_records=batch,
        padded_tokens=_VISUAL + 32,
    )
