"""The endpoint as a Ray Serve application: an ingress, the small pool and the large pool.

For Ray Serve's own commands:

    serve run serving.app:build config=serve.yaml
    SGL_SERVE_CONFIG=serve.yaml serve deploy ...     with import_path: serving.deployed:app
"""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from pipeline.policy import Policy
from serving.config import ListenConfig, ServeConfig, ServePoolConfig
from serving.config_file import load_config
from serving.exposure import bounds_warning, warnings_of
from serving.guarded import guarded
from serving.http_app import create_app
from serving.metrics import Metrics, Snapshot
from serving.pictures import Pictures
from serving.playground_files import mount
from serving.policies import policies_of
from serving.pools import LargePool, SmallPool
from serving.prices import priced
from serving.proxy import CALLBACK
from serving.ray_backend import RayBackend
from serving.status import Lifecycle
from serving.surroundings import Prices

logger = logging.getLogger(__name__)

_HEALTH_S = 1.0
"""Dead replicas are noticed so soon."""
_INGRESS = "ingress"
_NAMESPACE = "serve"
"""Where Ray Serve's own commands look for it."""


@dataclass(frozen=True)
class Given:
    """What every ingress process needs to know.

    Attributes:
        config: resolved.
        prices: of device time.
        policies: by name; read once, as the models' files are read for it.
    """

    config: ServeConfig
    prices: Prices
    policies: Mapping[str, Policy]


class Ingress:
    """Parses requests, decodes pictures and asks the pools; one process of them.

    Args:
        given: what it needs to know.
        small: handle of the small pool.
        large: likewise.
    """

    def __init__(self, given: Given, small: DeploymentHandle, large: DeploymentHandle) -> None:
        self._given = given
        app = serve.get_replica_context().app_name
        self._backend = RayBackend(given.config, app, small, large)
        self._metrics, self._lifecycle = Metrics(), Lifecycle()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Of Ray Serve, once the constructor has run."""
        config = self._given.config
        app = create_app(
            config,
            self._backend,
            Pictures(config),
            policies=self._given.policies,
            prices=self._given.prices,
            metrics=self._metrics,
            gather=self._gather if config.listen.replicas > 1 else None,
            lifecycle=self._lifecycle,
        )
        if config.listen.playground:
            mount(app)
        return guarded(app, config, metrics=self._metrics)

    async def snapshot(self) -> Snapshot:
        """What this process has counted."""
        return self._metrics.snapshot()

    async def under_way(self) -> int:
        """Requests that are not answered yet."""
        return int(self._metrics.snapshot().values.get(("num_requests_running", ()), 0))

    async def drain(self) -> None:
        """From now on it is not ready: whoever routes to it shall go elsewhere."""
        self._lifecycle.draining = True

    async def _gather(self) -> Sequence[Snapshot]:
        own = serve.get_replica_context()
        handle = serve.get_deployment_handle(own.deployment, own.app_name)
        found: list[Snapshot] = await asyncio.to_thread(handle.broadcast("snapshot").results)
        return found


def build(arguments: Mapping[str, str]) -> serve.Application:
    """For `serve run` and `serve deploy`; what `sgl serve` warns of is in the log.

    Args:
        arguments: `config`, a YAML file.

    Raises:
        ConfigurationError: the file is wrong, or the models do not fit the cluster.
    """
    config = load_config(arguments["config"])
    for warning in warnings_of(config):
        logger.warning("WARNING: %s", warning)
    if not ray.is_initialized():  # `serve run` does so after it has built what it runs
        ray.init(address=config.ray.address, namespace=_NAMESPACE, include_dashboard=False)
    return application(config)


def application(config: ServeConfig) -> serve.Application:
    """Bind the deployments; Ray must run.

    Raises:
        ConfigurationError: the pools do not fit the cluster, or prices cannot be read.
    """
    if warning := bounds_warning(ray.get(ray.remote(num_cpus=0)(_callback).remote())):
        logger.warning("WARNING: %s", warning)
    config = resolved(config, ray.cluster_resources())
    small = _pool(SmallPool, "small", config).bind(config)
    large = _pool(LargePool, "large", config).bind(config)
    given = Given(config, priced(config, ray.nodes()), policies_of(config))
    return _ingress(config).bind(given, small, large)


def _callback() -> str | None:
    """What proxies call at their start: they inherit their node's environment, as tasks do."""
    return os.environ.get(CALLBACK)


def resolved(config: ServeConfig, resources: Mapping[str, float]) -> ServeConfig:
    """With GPUs in all pools: a whole one per replica, where the cluster has any."""
    own = 1.0 if resources.get("GPU") else 0.0
    pools = {
        name: pool if pool.num_gpus is not None else pool.model_copy(update={"num_gpus": own})
        for name, pool in (("small", config.pools.small), ("large", config.pools.large))
    }
    return config.model_copy(update={"pools": config.pools.model_copy(update=pools)})


def _pool(kind: type, name: str, config: ServeConfig) -> Any:
    pool: ServePoolConfig = getattr(config.pools, name)
    at_once = getattr(config.models, name).batch_size * pool.batches
    gpus = {"num_gpus": pool.num_gpus} if pool.num_gpus else {}
    return serve.deployment(kind).options(
        name=name,
        ray_actor_options={"num_cpus": pool.num_cpus, **gpus},
        # The replica itself refuses what is too much, and knows why.
        max_ongoing_requests=pool.max_waiting + at_once + 1,
        max_queued_requests=pool.max_waiting,
        health_check_period_s=_HEALTH_S,
        graceful_shutdown_timeout_s=config.drain_s,
        **_replicas(pool, at_once),
    )


def _replicas(pool: ServePoolConfig, at_once: int) -> dict[str, Any]:
    if pool.max_replicas is None or pool.max_replicas == pool.replicas:
        return {"num_replicas": pool.replicas}
    return {
        "autoscaling_config": {
            "min_replicas": pool.replicas,
            "max_replicas": pool.max_replicas,
            # More than one batch's worth of requests, and another replica has something to do.
            "target_ongoing_requests": at_once / pool.batches,
            "upscale_delay_s": pool.upscale_delay_s,
            "downscale_delay_s": pool.downscale_delay_s,
        }
    }


def _ingress(config: ServeConfig) -> Any:
    listen: ListenConfig = config.listen
    return serve.deployment(serve.ingress()(Ingress)).options(
        name=_INGRESS,
        num_replicas=listen.replicas,
        ray_actor_options={"num_cpus": listen.num_cpus},
        # The guard refuses, in OpenAI's shape, long before Ray Serve would.
        max_ongoing_requests=4 * config.limits.max_in_flight + 64,
        health_check_period_s=_HEALTH_S,
        graceful_shutdown_timeout_s=config.drain_s,
    )
