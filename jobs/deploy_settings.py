"""From a job's or an endpoint's settings to what is deployed, on a cluster that is not there yet.

Nothing is looked up on this machine: its folders are not the cluster's.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from actors.config import ModelConfig, StrictModel
from infra.deploy.config import DeployConfig
from infra.deploy.workload import (
    CODE_AT,
    KEYS,
    KEYS_AT,
    POOL_LABEL,
    SETTINGS_AT,
    Pool,
    Weights,
    Workload,
)
from jobs.deploy_prices import device_prices
from jobs.settings import TESTBED
from jobs.shared_paths import check_hub_id, is_shared, local_folder
from pipeline.config import JobConfig, absolute_path
from pipeline.pool_config import PoolConfig
from pipeline.settings_file import assign_all, explained, read_settings
from serving.config import ServeConfig, ServePoolConfig
from serving.proxy import environment
from sgl.errors import ConfigurationError

ROLES = ("small", "large")
_NODES_WAIT_S = 1800.0
"""A machine with GPUs takes minutes to come, and its image some more."""
_HANDLES = {
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2**31 - 1),
}
"""Quicker calls between replicas; the first alone refuses pictures above 4 MiB."""
_EVERYWHERE = {"RAY_USAGE_STATS_ENABLED": "0"}
_OWN_RAY = ("address", "num_cpus", "object_store_bytes")
_DEMO_RECORDS = 64
_DEMO_THRESHOLD = 0.9
_PRICE_FILE = "prices.yaml"

Settings = TypeVar("Settings", bound=StrictModel)


@dataclass(frozen=True)
class Deployment:
    """What is rendered.

    Attributes:
        config: of the deployment.
        source: the checked job or endpoint.
        workload: as it shall be on the cluster.
    """

    config: DeployConfig
    source: JobConfig | ServeConfig
    workload: Workload


def deployment_of(
    path: str, assignments: Sequence[str], policy: str | None, *, endpoint: bool
) -> Deployment:
    """What a settings file asks for.

    Args:
        path: of the file of a job or of an endpoint, with a section `deploy`.
        assignments: "a.b=value", the value in YAML.
        policy: file of a job's calibrated policy.
        endpoint: whether it is an endpoint's.

    Raises:
        ConfigurationError: names the setting and the remedy.
    """
    data = read_settings(path)
    assign_all(data, assignments)
    _check_kind(path, data, endpoint=endpoint)
    if endpoint:
        if policy is not None:
            raise ConfigurationError("--policy: an endpoint has its own; write them as `policies`")
        service = _checked(data, ServeConfig)
        return Deployment(_deploy(service), service, service_workload(service))
    if policy is not None and data.get("threshold") is None:
        # Decided by the policy, where the job runs.
        data["threshold"] = 0.0
    job = _checked(data, JobConfig)
    return Deployment(_deploy(job), job, job_workload(job, policy))


def job_workload(job: JobConfig, policy: str | None = None) -> Workload:
    """A batch job as it shall run on the cluster.

    Raises:
        ConfigurationError: a path is of this machine, the policy cannot be read, or the pools are
            balanced.
    """
    config = _deploy(job)
    roles = [role for role in ROLES if job.uses(role)]
    _shared("input.path", job.input.path, config)
    _shared("input.image_root", job.input.image_root, config)
    _elsewhere("output.path", job.output.path)
    _fixed_pools(job)
    data = _without_deploy(job)
    if policy is not None:
        data.pop("threshold", None)
        data.pop("pruning", None)
    pools: list[Pool] = []
    for role in roles:
        pool: PoolConfig = getattr(job.pools, role)
        pools.append(_settle(data, role, job.model(role), pool, pool.replicas, config))
    files = {} if policy is None else {"policy.yaml": _text("--policy", policy)}
    files |= _prices(data, pools, job)
    models = [job.model(role) for role in roles]
    return Workload(
        data,
        tuple(pools),
        _weights(models),
        files,
        _EVERYWHERE,
        metrics=_metrics(data, job, config),
    )


def service_workload(config: ServeConfig) -> Workload:
    """An endpoint as it shall run on the cluster.

    Raises:
        ConfigurationError: a path is of this machine, or a policy cannot be read.
    """
    deploy = _deploy(config)
    data = _without_deploy(config)
    pools: list[Pool] = []
    for role in ROLES:
        pool: ServePoolConfig = getattr(config.pools, role)
        most = pool.max_replicas or pool.replicas
        pools.append(_settle(data, role, getattr(config.models, role), pool, most, deploy))
    files = {
        f"policy-{name}.yaml": _text(f"policies.{name}", path)
        for name, path in config.policies.items()
    }
    if files:
        data["policies"] = {n: f"{SETTINGS_AT}/policy-{n}.yaml" for n in config.policies}
    files |= _prices(data, pools, config)
    if config.keys is not None:
        data["keys"] = f"{KEYS_AT}/{KEYS}"
    # Proxies listen on all addresses of their pods; who reaches them is the network policy's.
    data["listen"] = data.get("listen", {}) | {"host": "0.0.0.0"}
    models = (config.models.small, config.models.large)
    for role, model in zip(ROLES, models, strict=True):
        if model.path == TESTBED:  # a name of the command's, which the application does not know
            data["models"][role]["path"] = f"{CODE_AT}/testbed/weights/{role}"
    return Workload(
        data,
        tuple(pools),
        _weights(models),
        files,
        {**_EVERYWHERE, **_HANDLES, **environment(config)},
        config.listen.port,
        None if config.keys is None else absolute_path(config.keys),
    )


def demo_of(deployment: Deployment) -> Deployment | None:
    """The same on cores alone, with the testbed's models, one replica each and few records.

    Returns:
        None where the deployment itself takes no GPUs.
    """
    if not deployment.workload.on_gpus:
        return None
    source = deployment.source
    data = source.model_dump(exclude_unset=True)
    data["models"] = {
        role: {"path": TESTBED, "batch_size": 16} for role in ROLES if data["models"].get(role)
    }
    data["pools"] = {role: {"num_gpus": 0} for role in ROLES}
    data["deploy"] |= {role: {"spot": False} for role in ROLES}
    if isinstance(source, ServeConfig):
        # A policy is of the models that it was calibrated with.
        data |= {"policies": {}, "policy": None, "threshold": source.threshold or _DEMO_THRESHOLD}
        service = ServeConfig.model_validate(data)
        return Deployment(_deploy(service), service, service_workload(service))
    data["threshold"] = source.threshold or _DEMO_THRESHOLD
    data["input"]["limit"] = min(source.input.limit or _DEMO_RECORDS, _DEMO_RECORDS)
    data["output"]["path"] = source.output.path.rstrip("/") + "-cpu-demo"
    job = JobConfig.model_validate(data)
    return Deployment(_deploy(job), job, job_workload(job))


def _check_kind(path: str, data: Mapping[str, Any], *, endpoint: bool) -> None:
    """Refuse a job's settings for an endpoint and the other way round, in one line."""
    of_a_job = {"input", "output"} & data.keys()
    if endpoint and of_a_job:
        raise ConfigurationError(f"--config: {path} is a job's; leave --endpoint out")
    if not endpoint and not of_a_job and {"listen", "keys", "limits", "policies"} & data.keys():
        raise ConfigurationError(f"--config: {path} is an endpoint's; add --endpoint")


def _checked(data: Mapping[str, Any], model: type[Settings]) -> Settings:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigurationError(explained(error, model)) from error


def _deploy(config: JobConfig | ServeConfig) -> DeployConfig:
    if config.deploy is None:
        raise ConfigurationError(
            "deploy: there is none; write deploy.image, as in registry.example/sgl:0.1.0-cuda"
        )
    return config.deploy


def _without_deploy(config: JobConfig | ServeConfig) -> dict[str, Any]:
    """Settings as on the cluster: its own Ray, and nothing of how it came to be."""
    data = config.model_dump(mode="json", exclude_unset=True)
    data.pop("deploy")
    data.pop("submit", None)
    written = "nodes_wait_s" in config.ray.model_fields_set
    wait_s = config.ray.nodes_wait_s if written else _NODES_WAIT_S
    data["ray"] = {"address": "auto", "nodes_wait_s": wait_s}
    return data


def passed_over(config: JobConfig | ServeConfig) -> tuple[str, ...]:
    """Settings that were written, and are of a Ray that this machine would start or has."""
    return tuple(f"ray.{name}" for name in _OWN_RAY if getattr(config.ray, name) is not None)


def _fixed_pools(job: JobConfig) -> None:
    """Refuse what the job would refuse where it runs."""
    if job.pools.balance:
        raise ConfigurationError(
            "pools.balance: pools of a rendered cluster have nodes of their own, between which no "
            "device can move; write balance: false, without min_replicas and max_replicas"
        )


def _settle(
    data: dict[str, Any],
    role: str,
    model: ModelConfig,
    pool: PoolConfig | ServePoolConfig,
    most: int,
    config: DeployConfig,
) -> Pool:
    """The pool, and what the settings on the cluster have to say of it."""
    if pool.node_labels:
        raise ConfigurationError(
            f"pools.{role}.node_labels: each pool gets nodes of its own; leave it out"
        )
    if model.path != TESTBED:
        check_hub_id(role, model)
    _shared(f"models.{role}.path", local_folder(model), config)
    gpus = _gpus(role, model, pool)
    written = data.setdefault("pools", {}).setdefault(role, {})
    written |= {"num_gpus": gpus, "node_labels": {POOL_LABEL: role}}
    # A replica on the CPU keeps its threads busy, whatever it reserves.
    busy = pool.num_cpus if gpus else model.cpu_threads * (model.tensor_parallel or 1)
    return Pool(role, pool.replicas, most, gpus, max(busy, pool.num_cpus))


def _gpus(role: str, model: ModelConfig, pool: PoolConfig | ServePoolConfig) -> float:
    """Of a replica; what is not written is one, as there are as many as are asked for."""
    if pool.num_gpus is None:
        return 0.0 if model.device == "cpu" else float(model.tensor_parallel or 1)
    gpus, processes = pool.num_gpus, model.tensor_parallel
    if gpus > 1 and not gpus.is_integer():
        raise ConfigurationError(
            f"pools.{role}.num_gpus: {gpus:g} is no whole number of GPUs; write "
            f"{math.floor(gpus)} or {math.ceil(gpus)}"
        )
    if gpus and model.device == "cpu":
        raise ConfigurationError(
            f"models.{role}.device: 'cpu' leaves the {gpus:g} GPUs of pools.{role}.num_gpus idle; "
            "write num_gpus: 0, or device: auto"
        )
    if gpus and processes and processes > 1 and processes != gpus:
        raise ConfigurationError(
            f"models.{role}.tensor_parallel: {processes} processes need as many GPUs, and "
            f"pools.{role}.num_gpus is {gpus:g}; write the same number for both, or leave one out"
        )
    return gpus


def _shared(name: str, path: str | None, config: DeployConfig) -> None:
    """Refuse what only this machine has."""
    mount = config.volume.mount
    if path is None or is_shared(path, (mount,)):
        return
    raise ConfigurationError(
        f"{name}: {path} is not on every node; write a URI, as in s3://bucket/folder, or a path "
        f"below deploy.volume.mount, {mount}"
    )


def _elsewhere(name: str, path: str) -> None:
    """Refuse an output that would go with the nodes, or lie where they cannot write."""
    if not is_shared(path, ()):
        raise ConfigurationError(
            f"{name}: {path} would be lost with the cluster; write a URI, as in s3://bucket/folder"
        )


def _metrics(data: dict[str, Any], job: JobConfig, config: DeployConfig) -> tuple[int, ...]:
    """Ports of the driver's metrics, which then listens on all addresses of its pod.

    Who reaches them is the network policy's, which has to know them.
    """
    if job.metrics is None or config.metrics_namespace is None:
        return ()
    if not job.metrics.port:
        raise ConfigurationError("metrics.port: 0 is any; write one, as in 9400")
    data["metrics"]["host"] = "0.0.0.0"
    return (job.metrics.port,)


def _weights(models: Sequence[ModelConfig]) -> tuple[Weights, ...]:
    hub = [m for m in models if m.path != TESTBED and local_folder(m) is None]
    return tuple(dict.fromkeys(Weights(model.path, model.revision) for model in hub))


def _prices(
    data: dict[str, Any], pools: Sequence[Pool], source: JobConfig | ServeConfig
) -> dict[str, str]:
    """Puts prices of the pools' devices into the settings; returns the price file, if there is one.

    Once, here: machines do not tell whether they are spot ones, and a price table has one plan.
    """
    usd = device_prices(pools, source)
    if usd is not None:
        for role, price in usd.items():
            data["pools"][role]["usd_per_hour"] = price
    file = source.pricing and source.pricing.file
    if not file or "://" in file:
        return {}
    data["pricing"]["file"] = f"{SETTINGS_AT}/{_PRICE_FILE}"
    return {_PRICE_FILE: _text("pricing.file", file)}


def _text(name: str, path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        raise ConfigurationError(f"{name}: {path} cannot be read") from error
