"""How many replicas each pool may have, of the devices that both have together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.config import JobConfig
from pipeline.pool_config import PoolConfig
from sgl.errors import ConfigurationError

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Split:
    """Replicas of each pool."""

    small: int
    large: int

    def of(self, role: str) -> int:
        """Of one pool."""
        return self.small if role == "small" else self.large


@dataclass(frozen=True)
class Share:
    """What one pool may have.

    Attributes:
        devices: of a replica: GPUs, a share of one, or cores.
        least, most: replicas.
    """

    devices: float
    least: int
    most: int


@dataclass(frozen=True)
class Limits:
    """What both may have.

    Attributes:
        small, large: each.
        devices: of both together.
        on_gpus: whether they are GPUs; else they are cores.
    """

    small: Share
    large: Share
    devices: float
    on_gpus: bool = True

    def of(self, role: str) -> Share:
        """Of one pool."""
        return self.small if role == "small" else self.large

    def used(self, split: Split) -> float:
        """Devices of a split."""
        return split.small * self.small.devices + split.large * self.large.devices

    def fits(self, split: Split) -> bool:
        """Whether a split is within all limits."""
        within = all(
            self.of(role).least <= split.of(role) <= self.of(role).most
            for role in ("small", "large")
        )
        return within and self.used(split) <= self.devices + _ROUNDING

    def splits(self) -> list[Split]:
        """Those to which no replica of either pool could be added, the fewest large ones first."""
        return sorted(set(self._filled()), key=lambda split: split.large)

    def without_small(self, large: int) -> list[Split]:
        """Behind the end of the input: the large pool alone, growing from so many replicas."""
        grown = (Split(0, count) for count in range(large + 1, self.large.most + 1))
        return [split for split in grown if self.fits_without_small(split)]

    def fits_without_small(self, split: Split) -> bool:
        """Whether the large pool may have so much once the small one has ended."""
        within = self.large.least <= split.large <= self.large.most
        return not split.small and within and self.used(split) <= self.devices + _ROUNDING

    def _filled(self) -> Iterator[Split]:
        """With as many small replicas as there is room for beside each number of large ones."""
        for large in range(self.large.least, self.large.most + 1):
            left = self.devices - large * self.large.devices
            small = min(self.small.most, int((left + _ROUNDING) // self.small.devices))
            split = Split(small, large)
            grown = Split(small, large + 1)
            if self.fits(split) and not self.fits(grown):
                yield split


def limits_of(job: JobConfig, gpus: Mapping[str, float], devices: Mapping[str, float]) -> Limits:
    """Settle the limits of a job on a cluster.

    Args:
        job: that is balanced.
        gpus: that Ray reserves for one replica, by role; 0 on the CPU.
        devices: of one replica, by role; cores on the CPU.

    Raises:
        ConfigurationError: there is nothing that could move.
    """
    if bool(gpus["small"]) != bool(gpus["large"]):
        raise ConfigurationError(
            "pools.balance: one pool is on GPUs and the other on the CPU, so that no device can "
            "move; leave it out"
        )
    start = Split(job.pools.small.replicas, job.pools.large.replicas)
    total = sum(start.of(role) * devices[role] for role in ("small", "large"))
    shares = {}
    for role in ("small", "large"):
        pool: PoolConfig = getattr(job.pools, role)
        room = int((total + _ROUNDING) // devices[role])
        most = room if pool.max_replicas is None else min(room, pool.max_replicas)
        shares[role] = Share(devices[role], pool.min_replicas, most)
    limits = Limits(shares["small"], shares["large"], total, bool(gpus["large"]))
    if not any(split != start for split in limits.splits()):
        raise ConfigurationError(
            f"pools.balance: with {total:g} devices, {devices['small']:g} for a small replica and "
            f"{devices['large']:g} for a large one, no other split than {start.small} and "
            f"{start.large} is within min_replicas and max_replicas; write others, more replicas, "
            "or balance: false"
        )
    return limits
