"""Balance beside a running graph: a thread looks and decides, Ray's own thread does it.

Ray calls `Balancer.step` between the steps of its own loop. That does what was decided, tells what
the pools are now, and nothing more: no other thread may touch them, and whoever waited in this one
would hold up every block. What goes wrong here costs the balance and not the run.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from queue import Empty, SimpleQueue
from types import ModuleType, TracebackType
from typing import Any

import ray
from ray.data import DataContext

from pipeline.balance.course import Course, Grow, Leave, Sight
from pipeline.balance.holdings import Holdings, started_s
from pipeline.balance.record import BalanceRecord
from pipeline.balance.splits import Limits, Split
from pipeline.balance.views import PoolView
from pipeline.config import JobConfig
from pipeline.guard import RemoteLedger
from pipeline.progress import BoardReporter

logger = logging.getLogger(__name__)

_LOOKS_EVERY_S = 1.0
_PATIENCE_S = 10.0
_FIXED = "balance: %s; the pools keep the sizes that they have"


class Balancer:
    """Moves devices between the pools of one run.

    Args:
        run_id: of the run.
        job: its settings.
        limits: of its pools.
        records: that it has to do.
        board: told of what the stages have done.
        ledger: of the replicas.
        say: shows a line to the user.
    """

    def __init__(
        self,
        run_id: str,
        job: JobConfig,
        limits: Limits,
        records: int,
        board: BoardReporter,
        ledger: RemoteLedger,
        say: Callable[[str], None],
    ) -> None:
        self._run_id = run_id
        pools = (job.pools.small, job.pools.large)
        patience_s = max(pool.start_deadline_s for pool in pools)
        ways = len(job.probe.prunings) if job.probe else 0
        self._course = Course(limits, records, job.rows_per_block, say, patience_s, ways)
        self._board = board
        self._ledger = ledger
        self._on_gpus = limits.on_gpus
        self._labels = job.pools.large.node_labels  # both pools have the same
        self._say = say
        self._began = time.monotonic()
        self._seen: tuple[Mapping[str, PoolView], int] | None = None
        self._ordered = self._done = 0
        self._orders: SimpleQueue[Leave | Grow] = SimpleQueue()
        self._over = threading.Event()
        self._gone: set[str] = set()
        self._causes: set[str] = set()
        self._ray: ModuleType | None = None
        try:
            self._ray = import_module("pipeline.balance.ray_pools")
        except (ImportError, AttributeError) as error:
            self.give_up(f"not with Ray {ray.__version__} ({error})")
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="balance", daemon=True)
        start = Split(job.pools.small.replicas, job.pools.large.replicas)
        self._holdings = Holdings(start, time.monotonic, ledger.came, ledger.left, self._ended)

    def __enter__(self) -> "Balancer":
        """Look and decide until the block ends."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join(_PATIENCE_S)  # it may wait for a Ray that is gone
        if self._ray:
            self._ray.forget(self._run_id)

    def watch(self, context: DataContext) -> None:
        """Have the executions of a dataset call this balancer."""
        if self._ray:
            self._ray.watch(context, self._run_id, self)

    def record(self) -> BalanceRecord:
        """Until now."""
        with self._lock:
            return BalanceRecord(
                moves=tuple(self._course.moves),
                held=self._holdings.held(),
                beyond_s=self._holdings.beyond_s(),
            )

    def step(self, pools: Any) -> None:
        """In Ray's thread: do what was decided, and tell what the pools are."""
        while True:
            try:
                order = self._orders.get_nowait()
            except Empty:
                break
            self._done += 1
            if isinstance(order, Leave):
                pools.leave(order.role, order.names)
                self._board.leaving(order.names)
            else:
                pools.grow(order.role, order.by)
        self._seen = pools.views(), self._done

    def close(self) -> None:
        """Decide nothing any more: the records that are left will not come."""
        self._course.closed = True

    def give_up(self, why: str) -> None:
        """Nothing moves any more."""
        self._over.set()
        self._say(_FIXED % why)

    def _ended(self, name: str) -> bool:
        return name in self._gone

    def _work(self) -> None:
        while not self._over.wait(_LOOKS_EVERY_S):
            try:
                self._look()
            except Exception as error:  # of Ray's state, or of a process that is gone
                self._could_not(error)

    def _could_not(self, error: Exception) -> None:
        """Once for each cause: it will look again in a second."""
        cause = f"{type(error).__name__}: {error}"
        if cause not in self._causes:
            self._causes.add(cause)
            logger.warning("the balance could not look", exc_info=error)

    def _look(self) -> None:
        if self._seen is None or self._seen[1] < self._ordered:
            return  # What is seen has to be later than what was ordered.
        views, _ = self._seen
        # Asked here, as an answer may be long in coming, and `record` must not wait for it.
        lingering = self._holdings.lingering().values()
        names = [one.name for some in lingering for one in some]
        self._gone = {name for name in names if self._ray and self._ray.has_ended(name)}
        with self._lock:
            self._holdings.update(views)
        flow, times = self._board.flow(), self._ledger.times()
        gpus_of = self._ledger.gpus()
        if flow is None or times is None or gpus_of is None:
            return
        sight = Sight(
            at_s=time.monotonic() - self._began,
            pools=views,
            flow=flow,
            start_s=started_s(times.replicas),
            lingering=self._holdings.lingering(),
            gpus_of=gpus_of,
            gpus=gpus_of_nodes(self._labels) if self._on_gpus else {},
        )
        with self._lock:
            orders = self._course.look(sight)
        self._ordered += len(orders)
        for order in orders:
            self._orders.put(order)


def gpus_of_nodes(labels: Mapping[str, str]) -> dict[str, float]:
    """GPUs of each node that is alive and has these labels, by its id."""
    return {
        node["NodeID"]: node["Resources"].get("GPU", 0.0)
        for node in ray.nodes()
        if node["Alive"] and labels.items() <= node.get("Labels", {}).items()
    }
