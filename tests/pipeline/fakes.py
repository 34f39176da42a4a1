"""Deterministic models that answer by arithmetic; the real ones run in tests/integration."""

import ctypes
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from actors.batching import Watch, unwatched
from actors.large_vlm import GuidedQuestion
from pipeline.balance.evidence import Served
from pipeline.config import FaultsConfig
from pipeline.fetch import FetchStage
from pipeline.guard import Guard
from pipeline.journal import Event, Journal
from pipeline.ledger import Admission, Ledger
from pipeline.progress import Board
from pipeline.replicas import Start
from pipeline.work import Work
from sgl.errors import ModelLoadError
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

VISUAL = 4
POISON = "poison"
"""A question that both fakes refuse, as a model refuses one that is too long."""


MORTAL = "r0005"
"""The record that Mortal dies of."""


def score_of(record_id: str) -> float:
    """A stable pseudo-random number from 0 to 1."""
    return int(hashlib.sha256(record_id.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


def ended_of(role: str, record_id: str) -> bool:
    """Whether a model's answer ends of itself."""
    return score_of(f"{role} {record_id}") < 0.5


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
        certainty=Certainty(score, score, score, score, score),
        criterion=Criterion.MEAN,
        exit_score=score,
        importance=np.arange(VISUAL, dtype=np.float32) + np.float32(score),
        grids=(TokenGrid(0, 2, 2, (0.0, 0.0, 1.0, 0.5)),),
        usage=usage(3),
        ended=ended_of("small", record.id),
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

    def run(
        self, records: Sequence[ImageQuestion], watch: Watch = unwatched
    ) -> list[Guidance | Failure]:
        ids = [record.id for record in records]
        with watch(ids):
            write_call(self.log, "small", ids)
            time.sleep(self.seconds)
            act("small", [record.question for record in records])
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

    def run(
        self, requests: Sequence[GuidedQuestion], watch: Watch = unwatched
    ) -> list[Answer | Failure]:
        ids = [request.id for request in requests]
        with watch(ids):
            write_call(self.log, "large", ids)
            time.sleep(self.seconds)
            act("large", [request.record.question for request in requests])
        self.seen += requests
        return [self._answer(request, len(requests)) for request in requests]

    def prompt_tokens(self, record: ImageQuestion) -> int:
        return 20

    def _answer(self, request: GuidedQuestion, records: int) -> Answer | Failure:
        if request.record.question == POISON:
            return Failure(request.id, "large", "PromptTooLongError", "too long")
        guidance = request.guidance
        told = "alone" if guidance is None else f"{guidance.importance.sum():.4f}"
        if request.pruning:
            told += f" at {request.pruning.keep_ratio}"
        return Answer(
            id=request.id,
            text=f"large {brightness(request.record)} {told}",
            token_ids=(4, 5),
            route=Route.LARGE,
            usage=usage(2, VISUAL if guidance is None else 1, records),
            pruning=None if guidance is None else Pruning(0.19, 0.25, 0.4),
            guidance=guidance,
            ended=ended_of("large", request.id),
        )


@dataclass
class DyingSmall(FakeSmall):
    """Loses its device at the first call of all processes that share a log."""

    def run(
        self, records: Sequence[ImageQuestion], watch: Watch = unwatched
    ) -> list[Guidance | Failure]:
        lose_device_once(self.log, "small")
        return super().run(records, watch)


@dataclass
class DyingLarge(FakeLarge):
    """As DyingSmall."""

    def run(
        self, requests: Sequence[GuidedQuestion], watch: Watch = unwatched
    ) -> list[Answer | Failure]:
        lose_device_once(self.log, "large")
        return super().run(requests, watch)


def act(stage: str, questions: Sequence[str]) -> None:
    """Do what a record's question orders this stage to do."""
    for question in questions:
        match question.split():
            case [target, "exits"] if target == stage:
                os._exit(3)
            case [target, "segfaults"] if target == stage:
                ctypes.string_at(0)
            case [target, "hangs"] if target == stage:
                ctypes.PyDLL(None).sleep(3600)  # with the interpreter's lock held


@dataclass
class Mortal(FakeSmall):
    """Dies of one record, whatever it asks."""

    def run(
        self, records: Sequence[ImageQuestion], watch: Watch = unwatched
    ) -> list[Guidance | Failure]:
        ids = [record.id for record in records]
        if MORTAL in ids:
            with watch(ids):
                os._exit(3)
        return super().run(records, watch)


@dataclass
class LostDevice(FakeSmall):
    """Its device never works."""

    def run(
        self, records: Sequence[ImageQuestion], watch: Watch = unwatched
    ) -> list[Guidance | Failure]:
        with watch([record.id for record in records]):
            raise RuntimeError("device lost")


@dataclass
class Unreadable(FakeSmall):
    """Its weights cannot be read."""

    def __post_init__(self) -> None:
        raise ModelLoadError("the weights are gone")


@dataclass
class Stillborn(FakeSmall):
    """Ends its process while it loads."""

    def __post_init__(self) -> None:
        os._exit(1)


@dataclass
class Endless(FakeSmall):
    """Never loads, with the interpreter's lock held."""

    def __post_init__(self) -> None:
        ctypes.PyDLL(None).sleep(3600)


@dataclass(frozen=True)
class DeadlyFetch(FetchStage):
    """The real stage, with a codec that obeys the question."""

    def _fetch(self, table: pa.Table, row: int) -> Any:
        act("fetch", [table["question"][row].as_py() or ""])
        return super()._fetch(table, row)


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

    def worked(self, stage: str, work: Work) -> None:
        self.board.worked(stage, work)

    def served(
        self, stage: str, served: Served, *, sent: int = 0, probes: int = 0, typical: bool = True
    ) -> None:
        self.board.served(stage, served, sent, probes, typical)

    def arrived(self, rows: int) -> None:
        self.board.arrived(rows)

    async def drained(self) -> bool:
        return self.board.drained("here")

    def closed(self) -> "Future[bool]":
        answer: Future[bool] = Future()
        answer.set_result(self.board.closed())
        return answer


@dataclass
class LocalLedger:
    """A client of a Ledger in the same process."""

    ledger: Ledger
    owner: str = "here"

    def admit(self, stage: str, ids: Sequence[str]) -> Admission:
        return self.ledger.admit(stage, ids)

    def begin(self, stage: str, ids: Sequence[str], deadline_s: float) -> None:
        self.ledger.begin(self.owner, stage, ids, deadline_s)

    def end(self) -> None:
        self.ledger.end(self.owner)

    def spent(self, device_s: float) -> None:
        self.ledger.spent(self.owner, device_s)

    def starting(self, start: Start) -> str | None:
        return self.ledger.starting(self.owner, start, "here")

    def loaded(self) -> None:
        self.ledger.loaded(self.owner)

    def load_failed(self, cause: str) -> bool:
        return self.ledger.load_failed(self.owner, cause)

    def wait_for_the_end(self) -> None:
        """There is no driver here."""


class NoJournal(Journal):
    """Events in memory."""

    def __init__(self, events: Sequence[Event] = ()) -> None:
        self.events = list(events)

    def append(self, event: Event) -> None:
        self.events.append(event)

    def read(self) -> list[Event]:
        return list(self.events)


def guard_of(stage: str, ledger: Ledger | None = None) -> Guard:
    """A guard without a cluster."""
    ledger = ledger or Ledger(FaultsConfig(), NoJournal())
    return Guard(stage, LocalLedger(ledger), 600.0, Start(stage, f"path/to/{stage}", 600.0))
