"""Two pools that work by arithmetic, second by second, and do what a Course orders."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pipeline.balance.course import Course, Grow, Leave, Sight
from pipeline.balance.evidence import Served
from pipeline.balance.flow import Flow
from pipeline.balance.splits import Limits, Share, Split
from pipeline.balance.views import Actor, PoolView

ROWS = 16
BATCH = 4


@dataclass
class Worker:
    """One replica."""

    name: str
    gpu: str
    ready_at: int
    leaving_at: int | None = None
    work_s: float = 0.0


@dataclass
class Pair:
    """Both pools on one node of GPUs, one each.

    Attributes:
        split: replicas at the start.
        rate: by the number of the record, the chance that it escalates.
        records: of the run.
        small_s, large_s: per record.
        load_s: of a model.
        spare: GPUs of the node that are not theirs.
    """

    split: Split
    rate: Callable[[int], float]
    records: int
    small_s: float = 0.1
    large_s: float = 0.25
    load_s: int = 5
    seed: int = 0
    spare: int = 0
    now: int = 0
    done: float = 0.0
    waiting: float = 0.0
    flow: Flow = field(default_factory=Flow)
    most_held: int = 0
    shared: bool = False

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        own = self.split.small + self.split.large
        self._gpus = own + self.spare
        self._count = 0
        self.workers: dict[str, list[Worker]] = {"small": [], "large": []}
        self.sizes = {"small": self.split.small, "large": self.split.large}
        limits = Limits(Share(1, 1, own), Share(1, 1, own), own)
        self.course = Course(limits, self.records, ROWS, lambda line: None, 60.0)
        self._fill()
        for one in (*self.workers["small"], *self.workers["large"]):
            one.ready_at = 0

    def run(self, most_s: int = 20_000) -> int:
        """Seconds until everything is done."""
        while self.now < most_s and (self.done < self.records or self.waiting > 0):
            self._second()
            for order in self.course.look(self.sight()):
                self._obey(order)
        return self.now

    def sight(self) -> Sight:
        """What a balancer would see."""
        fed = self.done >= self.records
        views = {
            role: PoolView(
                actors=tuple(
                    Actor(w.name, "node", 1, ready=self._works(w) and w.leaving_at is None)
                    for w in workers
                ),
                size=self.sizes[role],
                queued=int(self.waiting // ROWS) if role == "large" else 1,
                fed=fed if role == "small" else fed and self.waiting <= 0,
            )
            for role, workers in self.workers.items()
        }
        every = [one for workers in self.workers.values() for one in workers]
        return Sight(
            at_s=self.now,
            pools=views,
            flow=self.flow,
            start_s={"small": self.load_s, "large": self.load_s},
            lingering={"small": (), "large": ()},
            gpus_of={one.name: (one.gpu,) for one in every},
            gpus={"node": self._gpus},
        )

    def _second(self) -> None:
        self.now += 1
        for role, workers in self.workers.items():
            self.workers[role] = [
                w for w in workers if w.leaving_at is None or self.now < w.leaving_at
            ]
        if self.done >= self.records:
            self.workers["small"], self.sizes["small"] = [], 0
        self._fill()
        held = sum(map(len, self.workers.values()))
        self.most_held = max(self.most_held, held)
        gpus = [w.gpu for workers in self.workers.values() for w in workers]
        self.shared |= len(set(gpus)) < len(gpus)
        for worker in filter(self._works, self.workers["small"]):
            self._small(worker)
        for worker in filter(self._works, self.workers["large"]):
            self._large(worker)
        self.flow = replace(self.flow, rows=int(self.done))

    def _small(self, worker: Worker) -> None:
        worker.work_s += 1.0
        while worker.work_s >= ROWS * self.small_s and self.done < self.records:
            worker.work_s -= ROWS * self.small_s
            rate = self.rate(int(self.done))
            sent = sum(self._chance.random() < rate for _ in range(ROWS))
            self.done += ROWS
            self.waiting += sent
            took_s = ROWS * self.small_s * self._chance.uniform(0.8, 1.2)
            self.flow = self.flow.plus("small", Served.call(ROWS, took_s), sent, 0, typical=True)

    def _large(self, worker: Worker) -> None:
        worker.work_s = min(worker.work_s + 1.0, 2 * BATCH * self.large_s + 1)
        while worker.work_s >= BATCH * self.large_s and self.waiting > 0:
            worker.work_s -= BATCH * self.large_s
            batch = int(min(BATCH, self.waiting))
            self.waiting -= batch
            took_s = BATCH * self.large_s * self._chance.uniform(0.8, 1.2)
            served = Served.call(batch, took_s * batch / BATCH)
            self.flow = self.flow.plus("large", served, 0, 0, typical=batch == BATCH)

    def _works(self, worker: Worker) -> bool:
        return self.now >= worker.ready_at

    def _fill(self) -> None:
        for role, workers in self.workers.items():
            staying = sum(w.leaving_at is None for w in workers)
            for _ in range(self.sizes[role] - staying):
                taken = {w.gpu for some in self.workers.values() for w in some}
                free = [str(g) for g in range(self._gpus) if str(g) not in taken]
                if not free:
                    self.shared = True
                    return
                self._count += 1
                workers.append(Worker(f"w{self._count}", free[0], self.now + self.load_s))

    def _obey(self, order: Leave | Grow) -> None:
        if isinstance(order, Grow):
            self.sizes[order.role] += order.by
            return
        for one in self.workers[order.role]:
            if one.name in order.names:
                one.leaving_at = self.now + 3
        self.sizes[order.role] -= len(order.names)
