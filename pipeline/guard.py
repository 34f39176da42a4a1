"""What a stage does about deaths: it tells the ledger, keeps suspects apart, and never hangs."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeVar

import ray

from actors.batching import Watch
from pipeline.config import FaultsConfig
from pipeline.deadline import deadline
from pipeline.driver_node import on_driver_node
from pipeline.interrupt import Ended, endable
from pipeline.journal import Journal
from pipeline.ledger import Admission, Ledger
from pipeline.replicas import Start
from pipeline.stage import end_process
from pipeline.timesheet import Times
from sgl.errors import ReplicaError, SglError
from sgl.types import Answer, Failure, Guidance

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Model = TypeVar("Model")
Result = TypeVar("Result")

_PATIENCE_S = 30.0
_ASKED_EVERY_S = 1.0
_WORKER: list[str] = []


def _never() -> SglError | None:
    """No other reason."""
    return None


class LedgerClient(Protocol):
    """The ledger as one process sees it; see pipeline.ledger for what the calls mean."""

    def admit(self, stage: str, ids: Sequence[str]) -> Admission:
        """How these records may run."""
        ...

    def begin(self, stage: str, ids: Sequence[str], deadline_s: float) -> None:
        """A forward batch starts; known to the ledger before this returns."""
        ...

    def end(self) -> None:
        """It has ended well."""
        ...

    def spent(self, device_s: float) -> None:
        """Results are there, of which the device needed so long."""
        ...

    def starting(self, start: Start) -> str | None:
        """This replica begins to load; why it must not, if so."""
        ...

    def loaded(self) -> None:
        """It has loaded."""
        ...

    def load_failed(self, cause: str) -> bool:
        """It has not; whether it may try again."""
        ...

    def wait_for_the_end(self) -> None:
        """The job cannot go on: leave it to the driver to end it."""
        ...


@dataclass(frozen=True)
class RemoteLedger:
    """A ledger that lives in a Ray actor and is restarted, from its journal, if that dies."""

    actor: Any

    @classmethod
    def start(cls, config: FaultsConfig, journal: Journal, slots: dict[str, int]) -> "RemoteLedger":
        """Start the actor on the driver's node; it ends with the job."""
        remote = ray.remote(
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=on_driver_node(),
        )(Ledger)
        return cls(remote.remote(config, journal, slots=slots))

    def admit(self, stage: str, ids: Sequence[str]) -> Admission:
        """See LedgerClient."""
        admission: Admission = ray.get(self.actor.admit.remote(stage, list(ids)))
        return admission

    def begin(self, stage: str, ids: Sequence[str], deadline_s: float) -> None:
        """See LedgerClient."""
        ray.get(self.actor.begin.remote(_owner(), stage, list(ids), deadline_s))

    def end(self) -> None:
        """See LedgerClient; does not wait."""
        self.actor.end.remote(_owner())

    def spent(self, device_s: float) -> None:
        """See LedgerClient; does not wait."""
        self.actor.spent.remote(_owner(), device_s)

    def starting(self, start: Start) -> str | None:
        """See LedgerClient."""
        node = ray.util.get_node_ip_address()
        gpus = tuple(ray.get_runtime_context().get_accelerator_ids().get("GPU", ()))
        reason: str | None = ray.get(self.actor.starting.remote(_owner(), start, node, gpus))
        return reason

    def loaded(self) -> None:
        """See LedgerClient; does not wait."""
        self.actor.loaded.remote(_owner())

    def load_failed(self, cause: str) -> bool:
        """See LedgerClient."""
        return bool(ray.get(self.actor.load_failed.remote(_owner(), cause)))

    def wait_for_the_end(self) -> None:
        """See LedgerClient. What a replica raised, Ray would print several times, with traces."""
        time.sleep(_PATIENCE_S)

    def came(self, name: str, role: str) -> None:
        """See Timesheet; does not wait."""
        self.actor.came.remote(name, role)

    def left(self, name: str) -> None:
        """See Timesheet; does not wait."""
        self.actor.left.remote(name)

    def gpus(self) -> dict[str, tuple[str, ...]] | None:
        """See Ledger; None where it cannot be reached."""
        gpus: dict[str, tuple[str, ...]] | None = self._ask("gpus")
        return gpus

    def times(self) -> Times | None:
        """Where the replicas' time went; None where the ledger cannot be reached."""
        times: Times | None = self._ask("times")
        return times

    def busy(self) -> int | None:
        """Changes while any process is at work; None where the ledger cannot be reached."""
        return self._ask("busy")

    @contextmanager
    def explained(self, ends: Callable[[], SglError | None] = _never) -> Iterator[None]:
        """End the block as soon as the job cannot go on; raise the one reason, not Ray's traces.

        Args:
            ends: another reason to end it, asked from another thread every second or so.

        Raises:
            ReplicaError: names the model and the cause.
            SglError: what `ends` gave.
        """
        over, reasons = threading.Event(), list[SglError]()

        def listen(end: Callable[[], None]) -> None:
            while not over.wait(_ASKED_EVERY_S):
                if reason := self._fatal() or ends():
                    reasons.append(reason)
                    if not over.is_set():
                        end()
                    return

        with endable() as end:
            listener = threading.Thread(target=listen, args=(end,), name="ledger", daemon=True)
            if end:
                listener.start()
            try:
                yield
            except (Exception, Ended) as error:
                if reason := (self._fatal() or next(iter(reasons), None)):
                    raise reason from error
                raise
            finally:
                over.set()
                if end:
                    listener.join()

    def _fatal(self) -> ReplicaError | None:
        reason = self._ask("fatal")
        return ReplicaError(reason) if reason else None

    def _ask(self, question: str) -> Any:
        try:
            return ray.get(getattr(self.actor, question).remote(), timeout=_PATIENCE_S)
        except ray.exceptions.RayError:
            return None


def _owner() -> str:
    """Of the batch that this process runs: the replica, which keeps its name over restarts."""
    replica = ray.get_runtime_context().get_actor_id()
    if replica:
        return str(replica)
    if not _WORKER:
        _WORKER.append(uuid.uuid4().hex)
    return _WORKER[0]


def _device_s(result: object) -> float:
    """Of a model's result; what failed has told nobody what it took."""
    return result.usage.device_s if isinstance(result, Guidance | Answer) else 0.0


@dataclass(frozen=True)
class Guard:
    """Around everything that a stage cannot trust.

    Attributes:
        stage: its name.
        ledger: is told of it.
        deadline_s: of one forward batch.
        start: of the replica, where the stage loads a model.
    """

    stage: str
    ledger: LedgerClient
    deadline_s: float
    start: Start | None = None

    def load(self, load: Callable[[], Model]) -> Model:
        """Load the replica's model.

        Raises:
            ReplicaError: earlier processes of this replica have failed too often, or this one has
                and no replica has loaded the model before; otherwise the process ends, so that
                the next may try.
        """
        assert self.start is not None
        if reason := self.ledger.starting(self.start):
            self._give_up(reason)
        try:
            with deadline(self.start.deadline_s):
                model = load()
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
            if self.ledger.load_failed(cause):
                end_process(error)
            known = isinstance(error, SglError)
            logger.error("the %s model: %s", self.stage, cause, exc_info=None if known else error)
            self._give_up(cause)
        self.ledger.loaded()
        return model

    def admit(self, ids: Sequence[str]) -> Admission:
        """How records may run, for a stage that runs them in an order of its own.

        Raises:
            ReplicaError: not at all; the job ends.
        """
        if not ids:
            return Admission({}, ())
        admission = self.ledger.admit(self.stage, ids)
        if admission.refusal:
            self._give_up(admission.refusal)
        return admission

    def _give_up(self, reason: str) -> NoReturn:
        self.ledger.wait_for_the_end()
        raise ReplicaError(reason)

    def run(
        self,
        run: Callable[[Sequence[Item], Watch], Sequence[Result | Failure]],
        items: Sequence[Item],
        ids: Sequence[str],
    ) -> list[Result | Failure]:
        """Run items together, suspects one by one, and those that are given up not at all.

        Args:
            run: one result per item, in order; it puts the watch around every forward batch.
            items: of any kind.
            ids: theirs.
        """
        if not items:
            return []
        admission = self.admit(ids)
        results: dict[str, Result | Failure] = dict(admission.failed)
        together = [i for i in ids if i not in admission.failed and i not in admission.alone]
        by_id = dict(zip(ids, items, strict=True))
        for group in [together, *([name] for name in admission.alone)]:
            if group:
                done = run([by_id[name] for name in group], self.watch)
                self.ledger.spent(sum(map(_device_s, done)))
                results |= zip(group, done, strict=True)
        self.ledger.end()  # a batch that raised, and that this process has outlived
        return [results[name] for name in ids]

    @contextmanager
    def watch(self, ids: Sequence[str]) -> Iterator[None]:
        """Around one forward batch: its records are known before it, and it never hangs."""
        # Where the block raises, the batch stays open until the next one or the end of the run: a
        # device that fails ends this process, and a record may be to blame for it.
        self.ledger.begin(self.stage, ids, self.deadline_s)
        with deadline(self.deadline_s):
            yield
        self.ledger.end()
