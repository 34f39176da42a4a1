"""The best split of given devices: least time first, then the fewest devices that reach it.

Seconds never grow with either pool, so that for each size of the small pool the largest large one
that fits is the fastest, and the smallest one that is as fast is found by halving. That is exact,
and takes O(n log n) where trying every pair takes O(n^2).
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from pipeline.plan.costs import PoolCost
from pipeline.plan.model import Job, Split, seconds
from sgl.errors import ConfigurationError

_EPSILON = 1e-9


def best_split(
    job: Job, devices: float, blocks: Sequence[int], slack: float = 0.0
) -> tuple[Split, float]:
    """The fewest devices that are as fast as can be.

    Args:
        job: what is to be done.
        devices: that there are.
        blocks: rows per block to choose among.
        slack: how much longer than the fastest it may take, as a share.

    Returns:
        The split, and its seconds.

    Raises:
        ConfigurationError: one replica of each pool is more than there are devices.
    """
    widest = list(_widest(job, devices, blocks))
    if not widest:
        least = job.devices(Split(1, int(job.escalates), 1))
        raise ConfigurationError(
            f"--gpus: one replica of each pool takes {least:g} devices, and there are {devices:g}"
        )
    times = [seconds(job, split) for split in widest]
    limit = min(times) * (1 + slack) * (1 + _EPSILON)
    enough = [
        _narrowed(job, split, limit)
        for split, took in zip(widest, times, strict=True)
        if took <= limit
    ]
    ranked = ((job.devices(split), seconds(job, split), split) for split in enough)
    _, took, split = min(ranked, key=lambda one: one[:2])
    return split, took


def _widest(job: Job, devices: float, blocks: Sequence[int]) -> Iterator[Split]:
    """For each size of the small pool, with all that is left for the large one."""
    for small in range(1, _most(job.small, devices) + 1):
        large = _largest(job, small, devices) if job.escalates else 0
        if large or (not job.escalates and job.devices(Split(small, 0, 1)) <= devices + _EPSILON):
            yield from (Split(small, large, rows) for rows in blocks)


def _most(cost: PoolCost, devices: float) -> int:
    """Replicas that devices have room for, if there were no others."""
    each = cost.devices
    whole = devices * int(1 / each + _EPSILON) if each < 1 else devices / each
    return int(whole + _EPSILON)


def _largest(job: Job, small: int, devices: float) -> int:
    """The most large replicas that fit beside so many small ones; 0 where none does."""
    sizes = range(1, _most(job.large_cost(), devices) + 1)

    def is_too_large(large: int) -> bool:
        return job.devices(Split(small, large, 1)) > devices + _EPSILON

    return bisect_left(sizes, True, key=is_too_large)


def _narrowed(job: Job, split: Split, limit: float) -> Split:
    """The fewest large replicas that keep within the limit."""
    if not split.large:
        return split
    sizes = range(1, split.large + 1)

    def keeps(large: int) -> bool:
        return seconds(job, Split(split.small, large, split.rows_per_block)) <= limit

    return Split(split.small, sizes[bisect_left(sizes, True, key=keeps)], split.rows_per_block)
