"""Deterministic models that answer by arithmetic; the real ones run in tests/integration."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from actors.large_vlm import GuidedQuestion
from pipeline.progress import Board
from sgl.types import (
    Answer,
    Failure,
    Guidance,
    ImageQuestion,
    Pruning,
    Route,
    TokenGrid,
    Usage,
)

VISUAL = 4
POISON = "poison"
"""A question that both fakes refuse, as a model refuses one that is too long."""


def score_of(record_id: str) -> float:
    """A stable pseudo-random number from 0 to 1."""
    return int(hashlib.sha256(record_id.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


def usage(completion: int, kept: int = VISUAL, records: int = 1) -> Usage:
    return Usage(
        prompt_tokens=20,
        visual_tokens=VISUAL,
        kept_tokens=kept,
        completion_tokens=completion,
        flops=1e6,
        device_s=0.5,
        batch_records=records,
        padded_tokens=25,
    )


def brightness(record: ImageQuestion) -> int:
    """So that an answer depends on the pixels that really arrived."""
    return int(np.asarray(record.images[0], dtype=np.int64).sum())


def guidance_of(record: ImageQuestion) -> Guidance:
    score = score_of(record.id)
    return Guidance(
        id=record.id,
        answer=f"small {brightness(record)}",
        token_ids=(1, 2, 3),
        confidence=score,
        consistency=score,
        exit_score=score,
        importance=np.arange(VISUAL, dtype=np.float32) + np.float32(score),
        grids=(TokenGrid(0, 2, 2, (0.0, 0.0, 1.0, 0.5)),),
        usage=usage(3),
    )


def write_call(log: Path | None, role: str, ids: Sequence[str]) -> None:
    if log is not None:
        path = log / f"{role}-{time.time_ns()}.txt"
        path.write_text("\n".join(ids))


def calls(log: Path, role: str) -> list[list[str]]:
    """The ids of every batch that a model of that role was given."""
    return [path.read_text().split("\n") for path in sorted(log.glob(f"{role}-*.txt"))]


@dataclass
class FakeSmall:
    """Guidance by arithmetic.

    Attributes:
        log: folder for the ids of every batch.
        seconds: per call.
    """

    log: Path | None = None
    seconds: float = 0.0

    def run(self, records: Sequence[ImageQuestion]) -> list[Guidance | Failure]:
        write_call(self.log, "small", [record.id for record in records])
        time.sleep(self.seconds)
        return [
            Failure(r.id, "small", "PromptTooLongError", "too long")
            if r.question == POISON
            else guidance_of(r)
            for r in records
        ]


@dataclass
class FakeLarge:
    """Answers that quote the guidance they were given."""

    log: Path | None = None
    seconds: float = 0.0
    seen: list[GuidedQuestion] = field(default_factory=list)

    def run(self, requests: Sequence[GuidedQuestion]) -> list[Answer | Failure]:
        write_call(self.log, "large", [request.id for request in requests])
        time.sleep(self.seconds)
        self.seen += requests
        return [self._answer(request, len(requests)) for request in requests]

    def prompt_tokens(self, record: ImageQuestion) -> int:
        return 20

    def _answer(self, request: GuidedQuestion, records: int) -> Answer | Failure:
        if request.record.question == POISON:
            return Failure(request.id, "large", "PromptTooLongError", "too long")
        guidance = request.guidance
        told = "alone" if guidance is None else f"{guidance.importance.sum():.4f}"
        return Answer(
            id=request.id,
            text=f"large {brightness(request.record)} {told}",
            token_ids=(4, 5),
            route=Route.LARGE,
            usage=usage(2, VISUAL if guidance is None else 1, records),
            pruning=None if guidance is None else Pruning(0.19, 0.25, 0.4),
            guidance=guidance,
        )


@dataclass
class DyingSmall(FakeSmall):
    """Loses its device at the first call of all processes that share a log."""

    def run(self, records: Sequence[ImageQuestion]) -> list[Guidance | Failure]:
        lose_device_once(self.log, "small")
        return super().run(records)


@dataclass
class DyingLarge(FakeLarge):
    """As DyingSmall."""

    def run(self, requests: Sequence[GuidedQuestion]) -> list[Answer | Failure]:
        lose_device_once(self.log, "large")
        return super().run(requests)


def lose_device_once(log: Path | None, role: str) -> None:
    assert log is not None
    mark = log / f"{role}.died"
    if not mark.exists():
        mark.touch()
        raise RuntimeError("device lost")


@dataclass(frozen=True)
class Load:
    """A picklable loader of a fake."""

    make: Callable[..., FakeSmall | FakeLarge]
    log: Path | None = None
    seconds: float = 0.0

    def __call__(self) -> FakeSmall | FakeLarge:
        return self.make(log=self.log, seconds=self.seconds)


@dataclass
class LocalReporter:
    """Reports to a Board in the same process."""

    board: Board = field(default_factory=lambda: Board(0))

    def done(self, stage: str, *, rows: int, failed: int = 0, escalated: int = 0) -> None:
        self.board.done(stage, rows, failed, escalated)

    def arrived(self, rows: int) -> None:
        self.board.arrived(rows)

    async def drained(self) -> bool:
        return self.board.drained()
