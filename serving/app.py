"""The endpoint as a Ray Serve application: an ingress, the small pool and the large pool.

For Ray Serve's own commands:

    serve run serving.app:build config=serve.yaml
    serve deploy application.yaml       with import_path: serving.app:build and its args
"""

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from pipeline.joining import awaited
from pipeline.logs import log_as_json, made_run_id
from pipeline.policy import Policy
from serving.config import ListenConfig, ServeConfig, ServePoolConfig
from serving.config_file import checked, load_config
from serving.draining import RefusesAtTheEnd
from serving.exposure import bounds_warning, warnings_of
from serving.guarded import guarded
from serving.http_app import create_app
from serving.metrics import Metrics, Snapshot
from serving.pictures import Pictures
from serving.placement import placed
from serving.playground_files import mount
from serving.policies import policies_of
from serving.pool_states import PoolStates
from serving.pools import LargePool, SmallPool
from serving.prices import priced
from serving.proxy import CALLBACK
from serving.ray_backend import RayBackend, reported_by_serve
from serving.status import Lifecycle
from serving.surroundings import Prices
from sgl.errors import ConfigurationError

logger = logging.getLogger(__name__)

_HEALTH_S = 1.0
"""Replicas whose process has died are noticed so soon."""
_FROZEN_S = 10.0
"""One that is there and says nothing is ended after three times so long."""
_RETRY_AFTER_S = 1.0
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
        run_id: of this endpoint, from its start to its end; in every line of JSON.
    """

    config: ServeConfig
    prices: Prices
    policies: Mapping[str, Policy]
    run_id: str


class Ingress:
    """Parses requests, decodes pictures and asks the pools; one process of them.

    Args:
        given: what it needs to know.
        small: handle of the small pool.
        large: likewise.
    """

    def __init__(self, given: Given, small: DeploymentHandle, large: DeploymentHandle) -> None:
        self._given = given
        if given.config.logs.format == "json":
            log_requests(given.run_id)
        app, pools = serve.get_replica_context().app_name, given.config.pools
        wanted = {"small": pools.small.replicas, "large": pools.large.replicas}
        states = PoolStates(wanted, partial(reported_by_serve, app))
        self._backend = RayBackend(given.config, states, small, large)
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
        return guarded(RefusesAtTheEnd(app, self._lifecycle), config, metrics=self._metrics)

    async def snapshot(self) -> Snapshot:
        """What this process has counted."""
        return self._metrics.snapshot()

    async def drain(self) -> int:
        """From now on it is not ready, and takes nothing; how much is not answered yet."""
        self._lifecycle.draining = True
        return int(self._metrics.snapshot().values.get(("num_requests_running", ()), 0))

    async def _gather(self) -> Sequence[Snapshot]:
        own = serve.get_replica_context()
        handle = serve.get_deployment_handle(own.deployment, own.app_name)
        found: list[Snapshot] = await asyncio.to_thread(handle.broadcast("snapshot").results)
        return found


def log_requests(run_id: str) -> None:
    """From now on this process writes JSON, a line for each request among it."""
    log_as_json(run_id)
    logging.getLogger("serving").setLevel(logging.INFO)


def build(arguments: Mapping[str, Any]) -> serve.Application:
    """For `serve run` and `serve deploy`; what `sgl serve` warns of is in the log.

    Args:
        arguments: `config`, a YAML file where this runs; or `settings`, what would stand in it.

    Raises:
        ConfigurationError: the settings are wrong, or the models do not fit the cluster.
    """
    config = _told_by(arguments)
    for warning in warnings_of(config):
        logger.warning("WARNING: %s", warning)
    if not ray.is_initialized():  # `serve run` does so after it has built what it runs
        ray.init(address=config.ray.address, namespace=_NAMESPACE, include_dashboard=False)
    return application(config)


def _told_by(arguments: Mapping[str, Any]) -> ServeConfig:
    match dict(arguments):
        case {"config": str(path), **others} if not others:
            return load_config(path)
        case {"settings": dict(settings), **others} if not others:
            return checked(settings)
    raise ConfigurationError(
        "args: write config, the path of a YAML file, or settings, what would stand in it"
    )


def application(config: ServeConfig, run_id: str | None = None) -> serve.Application:
    """Bind the deployments; Ray must run.

    Args:
        config: of the endpoint.
        run_id: of it; None makes one.

    Raises:
        ConfigurationError: the pools do not fit the cluster, or prices cannot be read.
    """
    if warning := bounds_warning(ray.get(ray.remote(num_cpus=0)(_callback).remote())):
        logger.warning("WARNING: %s", warning)
    config = awaited(partial(placed, config), ray.nodes, config.ray.nodes_wait_s)
    small = _pool(SmallPool, "small", config).bind(config)
    large = _pool(LargePool, "large", config).bind(config)
    prices, policies = priced(config, ray.nodes()), policies_of(config)
    given = Given(config, prices, policies, run_id or made_run_id())
    return _ingress(config).bind(given, small, large)


def _callback() -> str | None:
    """What proxies call at their start: they inherit their node's environment, as tasks do."""
    return os.environ.get(CALLBACK)


def _pool(kind: type, name: str, config: ServeConfig) -> Any:
    pool: ServePoolConfig = getattr(config.pools, name)
    at_once = getattr(config.models, name).batch_size * pool.batches
    gpus = {"num_gpus": pool.num_gpus} if pool.num_gpus else {}
    where = {"label_selector": pool.node_labels} if pool.node_labels else {}
    return serve.deployment(kind).options(
        name=name,
        ray_actor_options={"num_cpus": pool.num_cpus, **gpus, **where},
        # The replica itself refuses what is too much, and knows why.
        max_ongoing_requests=pool.max_waiting + at_once + 1,
        max_queued_requests=pool.max_waiting,
        health_check_period_s=_HEALTH_S,
        health_check_timeout_s=_FROZEN_S,
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
        # While no ingress lives requests wait in the proxy, and it shall not hold many bodies.
        max_queued_requests=config.limits.max_in_flight,
        backpressure_config={"retry_after_s": _RETRY_AFTER_S},
        health_check_period_s=_HEALTH_S,
        health_check_timeout_s=_FROZEN_S,
        graceful_shutdown_timeout_s=config.drain_s,
    )
