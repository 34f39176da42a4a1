"""Processes that run one model together (ranks), and the one that watches over them.

The watching process never computes and never waits inside a collective: it waits for the ranks'
outcomes and for their deaths at the same time, so that nothing it waits for can hang it. A rank
that dies, or that fails alone, takes the whole group down; ranks die with their watcher.
"""

import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from actors.batching import is_device_error
from sgl.errors import DeviceError

GRACE_S = 60.0
"""Ranks run in step, so that all outcomes of a batch come nearly at once. A rank that is silent so
long after another's outcome waits for a collective that never comes."""


@dataclass(frozen=True, slots=True)
class Rank:
    """One process's place in its group.

    Attributes:
        index: from 0.
        ranks: how many there are.
        store_port: of the group's torch.distributed.TCPStore on this machine.
    """

    index: int
    ranks: int
    store_port: int


class RankWorker(Protocol):
    """What runs in a rank."""

    @property
    def collectives(self) -> int:
        """How many collectives this rank has entered; ranks that are in step agree on it."""
        ...

    def introduce(self) -> Any:
        """Something picklable that the watcher is told once."""
        ...

    def run(self, request: Any) -> tuple[Any, Any]:
        """The result, of which rank 0's counts, and what of it must be equal on all ranks."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rank sends back.

    Attributes:
        value: the result; only of rank 0.
        agreed: what must be equal on all ranks.
        error: why there is none.
        collectives: entered by the rank so far.
    """

    value: Any = None
    agreed: Any = None
    error: Exception | None = None
    collectives: int = 0


class RankGroup:
    """N ranks on this machine, each holding its own worker.

    Args:
        build: makes the worker, in the rank's process; picklable.
        ranks: how many.
        grace_s: see GRACE_S.

    Attributes:
        introductions: of the workers, by rank.

    Raises (on construction):
        DeviceError: a rank died.
        Exception: whatever `build` raised in the first rank that failed.
    """

    def __init__(
        self, build: Callable[[Rank], RankWorker], ranks: int, *, grace_s: float = GRACE_S
    ) -> None:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        self._grace_s = grace_s
        self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._connections: list[Connection[Any, Any]] = []
        self._finalizer = weakref.finalize(self, _end, self._processes, self._connections)
        try:
            for index in range(ranks):
                self._start()
                self._send(index, pickle.dumps((build, Rank(index, ranks, self._store.port))))
            self.introductions = self._introductions()
        except BaseException:
            self.close()
            raise

    def run(self, request: Any) -> Any:
        """Run one request on all ranks.

        Returns:
            Rank 0's result.

        Raises:
            DeviceError: the ranks died or fell out of step; the group has ended.
            Exception: what every rank raised at the same point; the group can go on.
        """
        if not self._finalizer.alive:
            raise DeviceError("the ranks of this replica have ended")
        payload = pickle.dumps(request, pickle.HIGHEST_PROTOCOL)
        try:
            for rank in range(len(self._processes)):
                self._send(rank, payload)
            outcomes = self._outcomes()
            _check_in_step(outcomes)
        except BaseException:
            # An outcome that is still under way would be taken for the next request's.
            self.close()
            raise
        if outcomes[0].error is not None:
            raise outcomes[0].error
        return outcomes[0].value

    def close(self) -> None:
        """End the ranks and wait until they are gone, and their devices' memory with them."""
        self._finalizer()

    def _start(self) -> None:
        ours, theirs = Pipe()
        self._connections.append(ours)
        with theirs:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "actors.rank_process", str(theirs.fileno())],
                    # The worker's code may have come by other ways than the environment.
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
            )

    def _send(self, rank: int, payload: bytes) -> None:
        try:
            self._connections[rank].send_bytes(payload)
        except OSError as error:
            raise self._died(rank) from error

    def _introductions(self) -> list[Any]:
        found: dict[int, Any] = {}
        while len(found) < len(self._connections):
            for rank in self._ready(set(found), None):
                outcome = self._receive(rank)
                if outcome.error is not None:
                    raise outcome.error
                found[rank] = outcome.value
        return [found[rank] for rank in sorted(found)]

    def _outcomes(self) -> list[Outcome]:
        found: dict[int, Outcome] = {}
        while len(found) < len(self._connections):
            ready = self._ready(set(found), self._grace_s if found else None)
            if not ready:
                silent = sorted(set(range(len(self._connections))) - set(found))
                raise DeviceError(
                    f"ranks {silent} still run {self._grace_s:g} s after rank {min(found)} has "
                    "ended its batch"
                ) from next(iter(found.values())).error
            found |= {rank: self._receive(rank) for rank in ready}
        return [found[rank] for rank in sorted(found)]

    def _ready(self, heard: set[int], timeout_s: float | None) -> list[int]:
        """Ranks with something to receive, be it their end; none after the timeout."""
        waiting = {c: rank for rank, c in enumerate(self._connections) if rank not in heard}
        ready = wait(list(waiting), timeout_s)
        return sorted(rank for connection, rank in waiting.items() if connection in ready)

    def _receive(self, rank: int) -> Outcome:
        try:
            outcome: Outcome = self._connections[rank].recv()
        except (EOFError, OSError) as error:
            raise self._died(rank) from error
        return outcome

    def _died(self, rank: int) -> DeviceError:
        try:
            code: int | None = self._processes[rank].wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = None
        return DeviceError(
            f"rank {rank} of {len(self._processes)} died with exit code {code}; its last words are "
            "in the replica's log"
        )


def _check_in_step(outcomes: Sequence[Outcome]) -> None:
    """Raise unless all ranks can go on together, whether their batch succeeded or failed.

    Ranks that raised the same error after the same number of collectives are in step: none of them
    left another waiting. An error between two collectives of one rank alone is not, and nor is any
    error of a device.
    """
    errors = [outcome.error for outcome in outcomes]
    first = next((error for error in errors if error is not None), None)
    for error in errors:
        if error is not None and is_device_error(error):
            raise DeviceError("a device of this replica failed") from error
    if len({type(error) for error in errors}) > 1 or len({o.collectives for o in outcomes}) > 1:
        raise DeviceError("the ranks fell out of step: they ended a batch differently") from first
    if any(outcome.agreed != outcomes[0].agreed for outcome in outcomes):
        raise DeviceError("the ranks fell out of step: their answers differ")


def _end(
    processes: Sequence["subprocess.Popen[bytes]"], connections: Sequence["Connection[Any, Any]"]
) -> None:
    # A rank may sit in a collective and has nothing to save.
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
    for connection in connections:
        connection.close()
