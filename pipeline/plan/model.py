"""How long a job takes on given pools, by arithmetic: the slowest stage, and the way through.

    seconds = start-up + sum of every stage's unit + max over stages (its whole work - its unit)

A stage's unit is one block on one replica, so that a block's way through the idle pipeline is
counted once. Left out is what chance does: slow units at the end, batches that wait. The simulation
(simulation.py) has that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, inf

from pipeline.plan.costs import Overheads, PoolCost
from pipeline.pool_config import LargePoolConfig

_FIRST_NAMED = ("driver", "fetch", "write", "large", "small")
_AS_SLOW = 0.98
_EPSILON = 1e-9


@dataclass(frozen=True)
class Split:
    """What a plan decides.

    Attributes:
        small: replicas of the small model.
        large: likewise; 0 where nothing escalates.
        rows_per_block: that travel together.
    """

    small: int
    large: int
    rows_per_block: int


@dataclass(frozen=True)
class Job:
    """What is to be done, and what its parts cost.

    Attributes:
        records: of the input.
        escalation: share of them that the large model answers.
        small: of one replica.
        large: likewise; None only where nothing escalates.
        overheads: beside the models.
        cores: for fetching and writing, at most, over the whole cluster.
        cores_per_device: that come with each device which the pools take.
    """

    records: int
    escalation: float
    small: PoolCost
    large: PoolCost | None
    overheads: Overheads
    cores: int
    cores_per_device: float = inf

    @property
    def escalates(self) -> bool:
        """Whether there is a large pool."""
        return self.escalation > 0

    def large_cost(self) -> PoolCost:
        """Of the large pool, where there is one."""
        assert self.large is not None, "a job that escalates has a large model's cost"
        return self.large

    def devices(self, split: Split) -> float:
        """That the pools of a split take: whole ones, as shares of one are all of the same one."""
        small, large = self.small.devices, self.large_cost().devices if split.large else 0.0
        if split.large and small == large:
            return _taken(split.small + split.large, small)
        return _taken(split.small, small) + _taken(split.large, large)

    def cores_of(self, split: Split) -> int:
        """For fetching and writing, where the pools of a split are all that is rented."""
        return max(1, int(min(self.cores, self.devices(split) * self.cores_per_device)))

    def blocks(self, split: Split) -> int:
        """Of the whole input."""
        return ceil(self.records / split.rows_per_block)

    def batch_rows(self, split: Split) -> int:
        """Rows of a large batch: less than a full one where too few blocks can wait for it."""
        full = self.large_cost().batch_rows
        waiting = LargePoolConfig().blocks_for(full) * max(
            1.0, split.rows_per_block * self.escalation
        )
        return min(full, int(waiting))


def _taken(replicas: int, each: float) -> float:
    """Devices of so many replicas; several that take a share lie on one as far as they fit."""
    if 0 < each < 1:
        return ceil(replicas / int(1 / each + _EPSILON))
    return replicas * each


def stage_seconds(job: Job, split: Split) -> dict[str, float]:
    """By stage, how long all its work takes on all that it has."""
    blocks, rows = job.blocks(split), min(split.rows_per_block, job.records)
    fetch_s = job.records * job.overheads.fetch_s
    write_s = blocks * job.overheads.write_s
    # They share the cores, so that either is held up by both.
    cores = {"fetch" if fetch_s >= write_s else "write": (fetch_s + write_s) / job.cores_of(split)}
    found = {
        **cores,
        "driver": blocks * job.overheads.driver_s,
        "small": ceil(blocks / split.small) * job.small.seconds(rows),
    }
    if job.escalates:
        batch = job.batch_rows(split)
        batches = ceil(job.records * job.escalation / batch)
        found["large"] = ceil(batches / split.large) * job.large_cost().seconds(batch)
    return found


def unit_seconds(job: Job, split: Split) -> dict[str, float]:
    """By stage, how long one block or batch is in it."""
    rows = min(split.rows_per_block, job.records)
    found = {
        "fetch": rows * job.overheads.fetch_s,
        "driver": job.overheads.driver_s,
        "small": job.small.seconds(rows),
        "write": job.overheads.write_s,
    }
    if job.escalates:
        escalated = ceil(job.records * job.escalation)
        found["large"] = job.large_cost().seconds(min(job.batch_rows(split), escalated))
    return found


def startup_seconds(job: Job) -> float:
    """Until both models are loaded."""
    return max(job.small.startup_s, job.large.startup_s if job.large and job.escalates else 0.0)


def seconds(job: Job, split: Split) -> float:
    """Of the whole job, start-up included. More replicas of either pool never make it longer."""
    units, stages = unit_seconds(job, split), stage_seconds(job, split)
    longest = max(max(0.0, stages[name] - units[name]) for name in stages)
    return startup_seconds(job) + sum(units.values()) + longest


def bottleneck(stages: Mapping[str, float]) -> str:
    """The stage that the others wait for; of several that are as slow, what replicas cannot help.

    Pools are no larger than they need be, so that they are nearly as slow as what limits them.
    """
    longest = max(stages.values())
    return next(name for name in _FIRST_NAMED if stages.get(name, 0.0) >= _AS_SLOW * longest)
