"""What the pools reserve of a cluster, as a batch job's pools do, settled before a model loads."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.pool_config import LargePoolConfig, PoolConfig, PoolsConfig
from pipeline.preflight import Resources, resolve
from serving.config import ServeConfig, ServePoolConfig
from serving.policies import job_of
from sgl.errors import ConfigurationError

logger = logging.getLogger(__name__)


def placed(config: ServeConfig, nodes: Sequence[Mapping[str, Any]]) -> ServeConfig:
    """The same endpoint with the GPUs of both pools settled.

    Args:
        config: of the endpoint.
        nodes: as ray.nodes() tells them.

    Raises:
        ConfigurationError: the cluster cannot hold the replicas that there are at least; names the
            pool, what it asks for and what is there.
    """
    resources = _resources(config, nodes)
    small, large = config.pools.small, config.pools.large
    pools = {
        name: pool.model_copy(update={"num_gpus": resources.placements[name].num_gpus})
        for name, pool in (("small", small), ("large", large))
    }
    settled = config.model_copy(update={"pools": config.pools.model_copy(update=pools)})
    _warn_of_too_many(settled, nodes)
    return settled


def _warn_of_too_many(config: ServeConfig, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Replicas that come with the load may wait, but whoever runs the endpoint shall know."""
    pools = {
        name: pool.model_copy(update={"replicas": pool.max_replicas or pool.replicas})
        for name, pool in (("small", config.pools.small), ("large", config.pools.large))
    }
    grown = config.model_copy(update={"pools": config.pools.model_copy(update=pools)})
    try:
        _resources(grown, nodes)
    except ConfigurationError as error:
        logger.warning("max_replicas: not all have room on the cluster as it is (%s)", error)


def _resources(config: ServeConfig, nodes: Sequence[Mapping[str, Any]]) -> Resources:
    pools = PoolsConfig(
        small=PoolConfig(**_shared(config.pools.small)),
        large=LargePoolConfig(**_shared(config.pools.large)),
    )
    listen = config.listen
    return resolve(job_of(config, pools), nodes, {"ingress": listen.replicas * listen.num_cpus})


def _shared(pool: ServePoolConfig) -> dict[str, Any]:
    return {
        "replicas": pool.replicas,
        "num_gpus": pool.num_gpus,
        "num_cpus": pool.num_cpus,
        "node_labels": pool.node_labels,
    }
