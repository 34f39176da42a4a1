"""A pair that answers by rule, and counts what was asked of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from actors.large_vlm import GuidedQuestion
from serving.backend import Delta, PoolState, Timed
from serving.config import ServeConfig
from sgl.errors import ImageNotFoundError
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

SMALL_TEXT = "a small  answer,\nof six words"
LARGE_TEXT = "the large answer"
PICTURE = "data:image/png;base64,AAAA"
GRID = TokenGrid(image=0, rows=2, columns=2, box=(0.0, 0.0, 1.0, 1.0))


def usage(prompt: int, completion: int, kept: int, seconds: float) -> Usage:
    return Usage(
        prompt_tokens=prompt,
        visual_tokens=4,
        kept_tokens=kept,
        completion_tokens=completion,
        flops=1e6,
        device_s=seconds,
        batch_records=1,
        padded_tokens=prompt,
    )


def guidance_of(record: ImageQuestion, score: float, text: str = SMALL_TEXT) -> Guidance:
    return Guidance(
        id=record.id,
        answer=text,
        token_ids=(1, 2),
        certainty=Certainty(score, 0.5, 0.25, 0.125, 0.0625),
        criterion=Criterion.MEAN,
        exit_score=score,
        importance=np.array([1, 4, 2, 0], dtype=np.float32),
        grids=(GRID,),
        usage=usage(20, 6, 4, 0.25),
    )


def answer_of(request: GuidedQuestion, text: str = LARGE_TEXT) -> Answer:
    guided = request.guidance is not None
    return Answer(
        id=request.id,
        text=text,
        token_ids=(3, 4),
        route=Route.LARGE,
        usage=usage(20, 3, 2 if guided else 4, 1.5),
        pruning=Pruning(0.19, 0.2, 0.352) if guided else None,
        guidance=request.guidance,
        accepted_draft_tokens=1 if guided else 0,
    )


@dataclass
class FakeBackend:
    """Both models.

    Attributes:
        score: of every answer of the small one.
        small, large: raised, or the result, or what is yielded before it; None answers.
        large_after_text: raised by the large model after its first piece.
        hold_small, hold_large: the models answer once these are set; None at once.
    """

    score: float = 0.95
    small: Exception | Failure | None = None
    large: Exception | Failure | None = None
    large_after_text: Exception | None = None
    hold_small: asyncio.Event | None = None
    hold_large: asyncio.Event | None = None
    small_text: str = SMALL_TEXT
    ended: bool = True
    pools: dict[str, PoolState] = field(
        default_factory=lambda: {"small": PoolState(1, 1), "large": PoolState(2, 2)}
    )
    guided: list[ImageQuestion] = field(default_factory=list)
    answered: list[GuidedQuestion] = field(default_factory=list)
    running: int = 0
    timeouts: list[float] = field(default_factory=list)

    async def guide(
        self, question: ImageQuestion, *, timeout_s: float, stream: bool
    ) -> AsyncIterator[Delta | Timed]:
        self.guided.append(question)
        self.timeouts.append(timeout_s)
        self.running += 1
        try:
            # It speaks whether it was asked to or not: nobody may pass it on by mistake.
            for piece in self.small_text.split(" "):
                yield Delta(f"{piece} ")
            if self.hold_small is not None:
                await self.hold_small.wait()
            if isinstance(self.small, Exception):
                raise self.small
            said = replace(guidance_of(question, self.score, self.small_text), ended=self.ended)
            yield Timed(self.small or said, 0.001, 0.002)
        finally:
            self.running -= 1

    async def answer(
        self, request: GuidedQuestion, *, timeout_s: float, stream: bool
    ) -> AsyncIterator[Delta | Timed]:
        self.answered.append(request)
        self.timeouts.append(timeout_s)
        self.running += 1
        try:
            if isinstance(self.large, Exception):
                raise self.large
            if stream and self.large is None:
                for piece in LARGE_TEXT.split(" "):
                    yield Delta(f"{piece} ")
                    if self.large_after_text is not None:
                        raise self.large_after_text
            if self.hold_large is not None:
                await self.hold_large.wait()
            said = replace(answer_of(request), ended=self.ended)
            yield Timed(self.large or said, 0.003, 0.004)
        finally:
            self.running -= 1

    async def states(self) -> dict[str, PoolState]:
        return self.pools


class FakePictures:
    """One pixel for each picture, of its own colour; "missing" in an address is not found."""

    async def get(
        self, references: Sequence[str], hold: Callable[[int], None] | None = None
    ) -> list[npt.NDArray[np.uint8]]:
        if any("missing" in reference for reference in references):
            raise ImageNotFoundError("there is no such file")
        return [np.full((1, 1, 3), place, dtype=np.uint8) for place in range(len(references))]


def config_of(**settings: Any) -> ServeConfig:
    data: dict[str, Any] = {
        "models": {"small": {"path": "small"}, "large": {"path": "large"}},
        "threshold": 0.9,
    }
    return ServeConfig.model_validate(data | settings)
