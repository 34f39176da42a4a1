"""What a second of a pool's replica is and costs, as in a batch job and by its price book."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import prices as job_prices
from pipeline.build import rate_of
from pipeline.config import JobConfig
from pipeline.pool_config import LargePoolConfig, PoolConfig, PoolsConfig
from pipeline.preflight import Placement, Resources
from serving.config import ServeConfig, ServePoolConfig
from serving.policies import job_of
from serving.surroundings import Prices


def priced(config: ServeConfig, nodes: Sequence[Mapping[str, Any]]) -> Prices:
    """Devices and prices of both pools.

    Args:
        config: with GPUs resolved.
        nodes: as ray.nodes() tells them.

    Raises:
        ConfigurationError: the price file is wrong, or is not in US dollars.
    """
    places = {name: _placement(getattr(config.pools, name)) for name in ("small", "large")}
    job = job_prices.priced(_job(config), Resources(places), nodes).job
    return Prices(**{name: rate_of(job, name, place) for name, place in places.items()})


def _placement(pool: ServePoolConfig) -> Placement:
    return Placement(num_gpus=pool.num_gpus or 0.0, num_cpus=pool.num_cpus)


def _job(config: ServeConfig) -> JobConfig:
    small, large = config.pools.small.usd_per_hour, config.pools.large.usd_per_hour
    pools = PoolsConfig(
        small=PoolConfig(usd_per_hour=small), large=LargePoolConfig(usd_per_hour=large)
    )
    update = {"pools": pools, "pricing": config.pricing, "storage": config.storage}
    return job_of(config).model_copy(update=update)
