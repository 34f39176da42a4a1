"""Counts of a running job: stages report per block, one tiny actor adds them up.

Hints and displays rest on it, and the end of a budget; no answer does. A report that is lost, or
counted twice after a crash, changes a figure on the screen or the fill of a batch. Where the board
dies, a budget that is spent later stops nothing.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Protocol

import ray

from pipeline.balance.evidence import Served
from pipeline.balance.flow import Flow
from pipeline.driver_node import on_driver_node
from pipeline.work import Work

STAGES = ("fetch", "small", "large")
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class StageCount:
    """What one stage has done.

    Attributes:
        rows: that left it.
        failed: of them, those that failed in it.
        escalated: of them, those that the stage sent on to (small) or put through (large) the
            large model.
        since: time.time() of the first report.
        until: of the latest.
    """

    rows: int = 0
    failed: int = 0
    escalated: int = 0
    since: float = 0.0
    until: float = 0.0

    def rate(self) -> float:
        """Rows per second between the first report and the latest."""
        return self.rows / (self.until - self.since) if self.until > self.since else 0.0


class Reporter(Protocol):
    """How stages tell what they have done."""

    def done(self, stage: str, *, rows: int, failed: int = 0, escalated: int = 0) -> None:
        """Rows have left a stage."""
        ...

    def worked(self, stage: str, work: Work) -> None:
        """What was done to these rows."""
        ...

    def served(
        self, stage: str, served: Served, *, sent: int = 0, probes: int = 0, typical: bool = True
    ) -> None:
        """A replica's model was called.

        Args:
            stage: small or large.
            served: the call.
            sent: records that go on to the large model.
            probes: further requests of it, of the probe.
            typical: whether its seconds tell of a busy replica: not a partial batch, and not the
                replica's first call, which allocates and compiles.
        """
        ...

    def arrived(self, rows: int) -> None:
        """Rows have reached the large stage."""
        ...

    async def drained(self) -> bool:
        """Whether no row will reach this replica of the large stage any more."""
        ...

    def closed(self) -> "Future[bool]":
        """Whether the budget is spent, some time later."""
        ...


def is_closed(reporter: Reporter) -> bool:
    """Whether the budget is spent; False where nobody answers."""
    try:
        return reporter.closed().result(_PATIENCE_S)
    except Exception:  # whatever became of the board
        return False


class Board:
    """The sums; runs as a Ray actor, and plainly in tests.

    Args:
        expected: rows that this run has to do.
    """

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._arrived = 0
        self._closed = False
        self._counts = {stage: StageCount() for stage in STAGES}
        self._work = {stage: Work() for stage in STAGES}
        self._flow = Flow()
        self._leaving: set[str] = set()

    def done(self, stage: str, rows: int, failed: int, escalated: int) -> None:
        """See Reporter."""
        now, before = time.time(), self._counts[stage]
        self._counts[stage] = replace(
            before,
            rows=before.rows + rows,
            failed=before.failed + failed,
            escalated=before.escalated + escalated,
            since=before.since or now,
            until=now,
        )

    def worked(self, stage: str, work: Work) -> None:
        """See Reporter."""
        self._work[stage] = self._work[stage].plus(work)

    def work(self) -> dict[str, Work]:
        """By stage."""
        return dict(self._work)

    def served(self, stage: str, served: Served, sent: int, probes: int, typical: bool) -> None:
        """See Reporter."""
        self._flow = self._flow.plus(stage, served, sent, probes, typical)

    def flow(self) -> Flow:
        """What the balance of the pools goes by."""
        return replace(self._flow, rows=self._counts["small"].rows)

    def leaving(self, replicas: Sequence[str]) -> None:
        """These get no more rows."""
        self._leaving.update(replicas)

    def arrived(self, rows: int) -> None:
        """See Reporter."""
        self._arrived += rows

    def close(self) -> None:
        """The budget is spent."""
        self._closed = True

    def closed(self) -> bool:
        """See Reporter."""
        return self._closed

    def drained(self, replica: str) -> bool:
        """See Reporter; of a run that is closed, every row that is under way."""
        if replica in self._leaving:
            return True
        under_way = self._counts["small"].rows or self._counts["fetch"].rows
        return self._arrived >= (under_way if self._closed else self._expected)

    def counts(self) -> dict[str, StageCount]:
        """By stage."""
        return dict(self._counts)


@dataclass(frozen=True)
class BoardReporter:
    """Reports to a Board that lives in a Ray actor, without waiting for it."""

    board: Any

    @classmethod
    def start(cls, expected: int) -> "BoardReporter":
        """Start the actor on the driver's node: without it no large stage knows when to drain."""
        remote = ray.remote(num_cpus=0, scheduling_strategy=on_driver_node())(Board)
        return cls(remote.remote(expected))

    def counts(self) -> Mapping[str, StageCount] | None:
        """By stage; None where the board cannot be reached."""
        counts: Mapping[str, StageCount] | None = self._ask("counts")
        return counts

    def work(self) -> Mapping[str, Work] | None:
        """By stage; None where the board cannot be reached."""
        work: Mapping[str, Work] | None = self._ask("work")
        return work

    def _ask(self, question: str) -> Any:
        try:
            return ray.get(getattr(self.board, question).remote(), timeout=_PATIENCE_S)
        except ray.exceptions.RayError:
            return None

    def done(self, stage: str, *, rows: int, failed: int = 0, escalated: int = 0) -> None:
        """See Reporter."""
        self.board.done.remote(stage, rows, failed, escalated)

    def worked(self, stage: str, work: Work) -> None:
        """See Reporter."""
        self.board.worked.remote(stage, work)

    def served(
        self, stage: str, served: Served, *, sent: int = 0, probes: int = 0, typical: bool = True
    ) -> None:
        """See Reporter."""
        self.board.served.remote(stage, served, sent, probes, typical)

    def flow(self) -> Flow | None:
        """See Board; None where it cannot be reached."""
        flow: Flow | None = self._ask("flow")
        return flow

    def leaving(self, replicas: Sequence[str]) -> None:
        """See Board."""
        self.board.leaving.remote(list(replicas))

    def close(self) -> None:
        """See Board."""
        self.board.close.remote()

    def closed(self) -> "Future[bool]":
        """See Reporter."""
        future: Future[bool] = self.board.closed.remote().future()
        return future

    def arrived(self, rows: int) -> None:
        """See Reporter."""
        self.board.arrived.remote(rows)

    async def drained(self) -> bool:
        """See Reporter; False where the board cannot be reached."""
        own = ray.get_runtime_context().get_actor_id()
        try:
            return bool(await self.board.drained.remote(str(own)))
        except ray.exceptions.RayError:
            return False
