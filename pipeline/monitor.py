"""The monitor: holds the outcomes of the probe against the promise while the run goes on.

One small actor, told of every probed record, before the large model answers it and after. It bets
against the promise (sgl.bounds.DriftTest), raises the alarm at once, and writes it into the
output, so that no later run forgets it. What it knows beside the alarm lies in the rows: a monitor
that starts anew, with the next driver or after its death, reads them first.

The bet takes records in the order in which they were announced, and waits for the first of them. In
the order in which they finish, those with short answers, which agree more or less often than
others, would come first, and the alarm would be false more often than it says. A record that is
lost on the way must not make it deaf: one that is silent for ten minutes, while a hundred later
ones have reported, is passed over and counts no more. The rows that a monitor begins with
come in an order by their ids, and not anew in another one at each start.

Half of the promise's delta is for this test, the other half for that over all rows at the end,
whose order is random (pipeline/measured.py): docs/decisions/0034.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeGuard

import numpy as np
import ray

from pipeline.driver_node import on_driver_node
from pipeline.fail_safe import Outcome
from pipeline.outcomes import probed_rows
from pipeline.output import Alarm, Output
from pipeline.probe import OnAlarm, Promise
from sgl.bounds import DriftTest
from sgl.chance import Purpose, hash_of
from sgl.errors import StorageError
from sgl.metrics import metric_named

logger = logging.getLogger(__name__)

_PATIENCE_S = 5.0
_LOST_AFTER_S = 600.0
_LOST_AFTER = 100
_GONE = (
    "the monitor cannot be reached (%s): while that lasts, nothing watches the promise; at the end "
    "all probed rows are held against it"
)


@dataclass(frozen=True)
class Evidence:
    """Against a promise; see Alarm.

    Attributes:
        records: that were compared.
        latest: of them, those that speak most against it.
        agreement: mean of these.
        p: of one of the two tests.
    """

    records: int
    latest: int
    agreement: float
    p: float


@dataclass(frozen=True)
class _Unknown:
    """The outcome of a record that has been announced, the last time at `since`."""

    since: float


def _compared(known: float | _Unknown | None) -> TypeGuard[float]:
    return known is not None and not isinstance(known, _Unknown)


def alarm_of(output: Output, run_id: str, promise: Promise, evidence: Evidence) -> Alarm:
    """An alarm raised now.

    Args:
        output: whose.
        run_id: of the run that noticed.
        promise: that is broken.
        evidence: what speaks against it.
    """
    return Alarm(
        fingerprint=output.fingerprint,
        run_id=run_id,
        raised_at=datetime.now(UTC).isoformat(timespec="seconds"),
        promise=promise,
        records=evidence.records,
        latest=evidence.latest,
        agreement=evidence.agreement,
        p=min(1.0, 2 * evidence.p),
    )


def standing_alarm(output: Output, promise: Promise) -> Alarm | None:
    """What was raised in an output about this promise."""
    alarm = output.alarm()
    return alarm if alarm and alarm.promise == promise else None


class Monitor:
    """The test; runs as a Ray actor, and plainly in tests.

    Args:
        output: whose rows it begins with, and that keeps the alarm.
        run_id: of the run.
        promise: that is tested.
        on_alarm: what follows.
        clock: seconds.
    """

    def __init__(
        self,
        output: Output,
        run_id: str,
        promise: Promise,
        on_alarm: OnAlarm,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._output = output
        self._run_id = run_id
        self._promise = promise
        self._on_alarm = on_alarm
        self._clock = clock
        self._test = DriftTest(promise.agreement)
        self._seen: set[int] = set()
        self._waiting: dict[int, float | _Unknown | None] = {}
        self._alarm = standing_alarm(output, promise)
        score = metric_named(promise.metric)
        outcomes = [
            (row.id, score(row.answer, [row.reference], row.options))
            for row in probed_rows(output)
            if not row.fail_safe
        ]
        # The order of the files is by when rows were done. By hash, lives bet alike.
        self.observe(sorted(outcomes, key=lambda one: (hash_of(one[0], Purpose.ORDER), one[0])))

    def announce(self, ids: Sequence[str]) -> None:
        """See MonitorClient; a record that comes again, as after a death, keeps its place."""
        for key in (hash_of(name, Purpose.ORDER) for name in ids):
            known = self._waiting.get(key)
            if key not in self._seen and (key not in self._waiting or isinstance(known, _Unknown)):
                self._waiting[key] = _Unknown(self._clock())

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """See MonitorClient; a record that comes again counts once."""
        for name, agreed in outcomes:
            key = hash_of(name, Purpose.ORDER)
            if key not in self._seen:
                self._waiting[key] = agreed
        while self._waiting:
            key, known = next(iter(self._waiting.items()))
            if isinstance(known, _Unknown) and not self._lost(known):
                return
            del self._waiting[key]
            self._seen.add(key)
            if _compared(known) and self._alarm is None:
                self._bet(known)

    def alarm(self) -> Alarm | None:
        """What was raised, by this run or before it."""
        return self._alarm

    def failing_safe(self) -> bool:
        """See MonitorClient."""
        return self._alarm is not None and self._on_alarm is OnAlarm.LARGE

    def _lost(self, first: _Unknown) -> bool:
        if self._clock() - first.since < _LOST_AFTER_S:
            return False
        return sum(map(_compared, self._waiting.values())) >= _LOST_AFTER

    def _bet(self, agreed: float) -> None:
        self._test = self._test.after(np.array([agreed]))
        if self._test.p <= self._promise.delta_of_each:
            self._raise()

    def _raise(self) -> None:
        test, leading = self._test, self._test.leading
        evidence = Evidence(test.records, leading.records, leading.mean, test.p)
        self._alarm = alarm_of(self._output, self._run_id, self._promise, evidence)
        try:
            self._output.tell(self._alarm)
        except OSError:
            # The rows have it too, for whoever goes on.
            logger.warning("the alarm could not be written into the output", exc_info=True)


@dataclass
class RemoteMonitor:
    """A Monitor that lives in a Ray actor and is restarted, from the rows, if that dies.

    Attributes:
        actor: its handle.
        metric: see MonitorClient.
        safe_from_start: likewise.
    """

    actor: Any
    metric: str
    safe_from_start: bool
    _told: bool = field(default=False, init=False)

    @classmethod
    def start(
        cls, output: Output, run_id: str, promise: Promise, on_alarm: OnAlarm
    ) -> "RemoteMonitor":
        """Start the actor on the driver's node; it ends with the job.

        Raises:
            StorageError: it could not read what is in the output.
        """
        remote = ray.remote(
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=on_driver_node(),
        )(Monitor)
        actor = remote.remote(output, run_id, promise, on_alarm)
        try:
            safe = bool(ray.get(actor.failing_safe.remote()))
        except ray.exceptions.RayError as error:
            raise StorageError("the probe in the output's rows could not be read") from error
        return cls(actor, promise.metric, safe)

    def announce(self, ids: Sequence[str]) -> None:
        """See MonitorClient."""
        self.actor.announce.remote(list(ids))

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """See MonitorClient."""
        self.actor.observe.remote(list(outcomes))

    def failing_safe(self) -> "Future[bool]":
        """See MonitorClient."""
        answer: Future[bool] = self.actor.failing_safe.remote().future()
        return answer

    def alarm(self) -> Alarm | None:
        """What was raised; None also where the monitor cannot be reached, which is said once."""
        try:
            alarm: Alarm | None = ray.get(self.actor.alarm.remote(), timeout=_PATIENCE_S)
        except ray.exceptions.GetTimeoutError:
            return None  # It has much to read, or to count.
        except ray.exceptions.RayError as error:
            if not self._told:
                logger.warning(_GONE, type(error).__name__)
            self._told = True
            return None
        return alarm
