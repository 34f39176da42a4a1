"""The pipeline as discrete events: the same stages, pools and queues, with measured seconds drawn.

    cores      fetch tasks, as many as there are cores; they also write
    driver     one; it hands each block on, from stage to stage, one hand-over at a time, those of
               late stages first, as Ray's executor has it
    small      replicas that each hold a block beside the one that they work on
    large      replicas that each hold several blocks and fill batches from them
               (pipeline/coalescer.py, for items of like size)

A block goes to the replica that holds the fewest, at once and for good, as Ray Data has it: it may
wait there while another one runs dry. Fetching keeps as many blocks ready again as the small
replicas hold; what waits for the large pool is bounded by memory alone in Ray Data, and by nothing
here.

Left out: processes that die, records that fail, and how far apart nodes are.
"""

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

from pipeline.plan.costs import Floats, PoolCost
from pipeline.plan.model import Job, Split
from pipeline.plan.queues import Block, Pool
from pipeline.pool_config import LargePoolConfig

_BLOCKS_AHEAD = 2
"""Of a small replica: `max_tasks_in_flight_per_actor` in pipeline/build.py."""
_TO_WRITE, _TO_LARGE, _TO_SMALL = range(3)
"""Turns at the driver, the first first."""
_ROUNDING_S = 1e-6
"""A wait that ends this early has ended: sums of floats would else wait again and again."""

Events = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class Simulated:
    """What came of it.

    Attributes:
        seconds: from the start to the last block written.
        stream_s: from the first start of a model to the last end of one.
        middle_per_s: records per second while the middle half was written: what a long job settles
            at, without its start and its end; 0 of fewer than four blocks.
        records: written.
        escalated: rows that were to go to the large model.
        answered: rows that it answered.
        large_batches: forward batches of it.
        busy: share of the time after start-up that each pool's replicas worked.
    """

    seconds: float
    stream_s: float
    middle_per_s: float
    records: int
    escalated: int
    answered: int
    large_batches: int
    busy: dict[str, float]


def simulate(job: Job, split: Split, seed: int = 0) -> Simulated:
    """Run a job once; the same for the same seed.

    Args:
        job: what is to be done; `records` events' worth, so that it should be a part of a long job.
        split: the pools.
        seed: of what is drawn.
    """
    return _Simulation(job, split, np.random.default_rng(seed)).run()


@dataclass
class _Tally:
    written: list[tuple[float, int]] = field(default_factory=list)
    records: int = 0
    escalated: int = 0
    answered: int = 0
    batches: int = 0
    first_s: float | None = None
    last_s: float = 0.0
    worked_s: dict[str, float] = field(default_factory=lambda: {"small": 0.0, "large": 0.0})


class _Simulation:
    """One run.

    Args:
        job: see `simulate`.
        split: see `simulate`.
        rng: for what is drawn.
    """

    def __init__(self, job: Job, split: Split, rng: np.random.Generator) -> None:
        self.job = job
        self.env = simpy.Environment()
        self.tally = _Tally()
        self.scored_left = job.blocks(split)
        self.none_left = self.env.event()
        self._split = split
        self._rng = rng
        self._unread = job.records
        self._driver = simpy.PriorityResource(self.env, 1)
        self._cores = simpy.Resource(self.env, job.cores_of(split))
        self._shares: dict[str, Floats] = {}
        self._done = self.env.event()
        self._hand_overs = 3 if job.escalates else 2
        self._small = Pool(self.env, split.small, _BLOCKS_AHEAD)
        ahead = 2 * _BLOCKS_AHEAD * split.small
        self._room = simpy.Container(self.env, ahead, init=ahead)
        self._large: Pool | None = None
        if job.escalates:
            cost = job.large_cost()
            held = LargePoolConfig().blocks_for(cost.batch_rows)
            self._large = Pool(self.env, split.large, held)

    def run(self) -> Simulated:
        """To the last block written."""
        for _ in range(min(self._cores.capacity, self.job.blocks(self._split))):
            self.env.process(self._fetch())
        for place in range(self._split.small):
            self.env.process(self._answer_blocks(place))
        if self._large:
            for place in range(self._split.large):
                LargeReplica(self, self._large, place, self.job.large_cost())
        self.env.run(until=self._done)
        return self._told()

    def _told(self) -> Simulated:
        tally, end = self.tally, self.env.now
        busy = {}
        for role, replicas, cost in (
            ("small", self._split.small, self.job.small),
            ("large", self._split.large, self.job.large),
        ):
            if replicas and cost is not None:
                busy[role] = tally.worked_s[role] / (replicas * max(end - cost.startup_s, 1e-9))
        return Simulated(
            seconds=end,
            stream_s=tally.last_s - (tally.first_s or 0.0),
            middle_per_s=_middle(tally.written),
            records=tally.records,
            escalated=tally.escalated,
            answered=tally.answered,
            large_batches=tally.batches,
            busy=busy,
        )

    def work(self, role: str, cost: PoolCost, rows: int) -> Events:
        """A replica's forward passes over some rows, as slow as measured ones were."""
        took = cost.seconds(rows) * self._slowness(role, cost, rows)
        if self.tally.first_s is None:
            self.tally.first_s = self.env.now
        yield self.env.timeout(took)
        self.tally.worked_s[role] += took
        self.tally.last_s = self.env.now

    def _slowness(self, role: str, cost: PoolCost, rows: int) -> float:
        """Of as many measured units as make so many rows, in the mean."""
        if role not in self._shares:
            self._shares[role] = np.cumsum(cost.weights)
        shares, units = self._shares[role], max(1, round(rows / cost.unit_rows))
        places = np.searchsorted(shares, self._rng.random(units) * shares[-1], side="right")
        return sum(cost.ratios[place] for place in places) / units

    def write(self, block: Block) -> None:
        """Write a finished block, beside everything else."""
        self.env.process(self._write(block))

    def _fetch(self) -> Events:
        while self._unread:
            block = Block(min(self._split.rows_per_block, self._unread))
            self._unread -= block.rows
            yield self._room.get(1)
            yield from self._on_core(block.rows * self.job.overheads.fetch_s)
            self.env.process(self._to_small(block))

    def _to_small(self, block: Block) -> Events:
        yield from self._hand_over(_TO_SMALL)
        self._small.add(block)

    def _answer_blocks(self, place: int) -> Events:
        yield self.env.timeout(self.job.small.startup_s)
        while True:
            block = yield self._small.inboxes[place].get()
            yield from self.work("small", self.job.small, block.rows)
            self._room.put(1)
            self.env.process(self._pass_on(place, block))

    def _pass_on(self, place: int, block: Block) -> Events:
        if self._large is None:
            self._small.finished(place)
            self.write(block)
            return
        block.waiting = int(self._rng.binomial(block.rows, self.job.escalation))
        self.tally.escalated += block.waiting
        yield from self._hand_over(_TO_LARGE)
        self._small.finished(place)
        self._large.add(block)

    def _write(self, block: Block) -> Events:
        yield from self._hand_over(_TO_WRITE)
        yield from self._on_core(self.job.overheads.write_s)
        self.tally.records += block.rows
        self.tally.written.append((self.env.now, block.rows))
        if self.tally.records == self.job.records:
            self._done.succeed()

    def _hand_over(self, priority: int) -> Events:
        with self._driver.request(priority) as turn:
            yield turn
            yield self.env.timeout(self.job.overheads.driver_s / self._hand_overs)

    def _on_core(self, seconds: float) -> Events:
        with self._cores.request() as core:
            yield core
            yield self.env.timeout(seconds)


def _middle(written: list[tuple[float, int]]) -> float:
    quarter = len(written) // 4
    middle = written[quarter : 3 * quarter + 1]
    took = middle[-1][0] - middle[0][0] if quarter else 0.0
    return sum(rows for _, rows in middle[1:]) / took if took else 0.0


class LargeReplica:
    """One replica that collects the escalated rows of its blocks into full batches.

    Args:
        simulation: that it is part of.
        pool: likewise.
        place: of it in the pool.
        cost: of a replica.
    """

    def __init__(self, simulation: _Simulation, pool: Pool, place: int, cost: PoolCost) -> None:
        self._whole, self._cost = simulation, cost
        self._pool, self._place = pool, place
        self._env = simulation.env
        self._linger_s = LargePoolConfig().linger_s
        self._open: deque[tuple[float, Block]] = deque()
        self._waiting = 0
        self._arrival = self._env.event()
        self._env.process(self._take())
        self._env.process(self._answer())

    def _take(self) -> Events:
        yield self._env.timeout(self._cost.startup_s)
        while True:
            block = yield self._pool.inboxes[self._place].get()
            self._whole.scored_left -= 1
            if not self._whole.scored_left:
                self._whole.none_left.succeed()
            if block.waiting:
                self._open.append((self._env.now, block))
                self._waiting += block.waiting
                self._tell()
            else:
                self._finish(block)

    def _finish(self, block: Block) -> None:
        self._pool.finished(self._place)
        self._whole.write(block)

    def _tell(self) -> None:
        if not self._arrival.triggered:
            self._arrival.succeed()

    def _answer(self) -> Events:
        while True:
            while not self._due():
                self._arrival = self._env.event()
                yield self._env.any_of([self._arrival, *self._other_reasons()])
            rows = min(self._waiting, self._cost.batch_rows)
            self._waiting -= rows
            self._whole.tally.batches += 1
            self._whole.tally.answered += rows
            finished = self._taken(rows)
            yield from self._whole.work("large", self._cost, rows)
            for block in finished:
                self._finish(block)

    def _due(self) -> bool:
        if not self._waiting:
            return False
        full = self._waiting >= self._cost.batch_rows or len(self._open) >= self._pool.most
        late = self._env.now - self._open[0][0] >= self._linger_s - _ROUNDING_S
        return full or late or self._whole.none_left.triggered

    def _other_reasons(self) -> list[simpy.Event]:
        if not self._waiting:
            return []
        left = self._linger_s - (self._env.now - self._open[0][0])
        return [self._whole.none_left, self._env.timeout(left)]

    def _taken(self, rows: int) -> list[Block]:
        """Take rows off the oldest blocks; the blocks of which none is left."""
        finished = []
        while rows:
            block = self._open[0][1]
            some = min(rows, block.waiting)
            block.waiting -= some
            rows -= some
            if not block.waiting:
                finished.append(self._open.popleft()[1])
        return finished
