"""What is to be deployed, as plain values: whoever knows jobs and endpoints makes it of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from infra.deploy.config import DeployConfig, WorkersConfig

POOL_LABEL = "sgl-pool"
"""Of Ray's nodes, by which replicas find those of their own pool."""
SETTINGS_AT = "/etc/sgl"
KEYS_AT = "/etc/sgl-keys"
KEYS = "keys.yaml"
CODE_AT = "/opt/sgl"
"""In the image."""
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Pool:
    """Replicas of one model.

    Attributes:
        role: "small" or "large".
        replicas: at least.
        most: at most.
        num_gpus: of one node, per replica.
        cpus: that a replica keeps busy.
    """

    role: str
    replicas: int
    most: int
    num_gpus: float
    cpus: float


@dataclass(frozen=True)
class Weights:
    """A checkpoint on a hub, to be downloaded before models load.

    Attributes:
        repository: its id.
        revision: None is the default branch.
    """

    repository: str
    revision: str | None


@dataclass(frozen=True)
class Workload:
    """A batch job, or an endpoint.

    Attributes:
        settings: as they shall be on the cluster.
        pools: those that it uses.
        weights: what its models are, as far as they come from a hub.
        files: beside the settings, by name.
        environment: of all nodes.
        port: of an endpoint; None for a batch job.
        keys: file of an endpoint's keys, on the machine that renders; None lets everybody in.
        metrics: ports at which nodes tell how the work goes, besides Ray's own.
    """

    settings: Mapping[str, Any]
    pools: tuple[Pool, ...]
    weights: tuple[Weights, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    keys: str | None = None
    metrics: tuple[int, ...] = ()

    @property
    def mounted(self) -> dict[str, str]:
        """Text of what nodes have below SETTINGS_AT, by name.

        An endpoint's settings are not among it: Ray Serve is told them.
        """
        told = yaml.safe_dump(dict(self.settings), sort_keys=False)
        return {**self.files, **({"job.yaml": told} if self.port is None else {})}

    @property
    def on_gpus(self) -> bool:
        """Whether any replica takes one."""
        return any(pool.num_gpus for pool in self.pools)


@dataclass(frozen=True)
class Group:
    """Nodes of one pool.

    Attributes:
        role: of the pool.
        nodes: what they are.
        gpus: of one node.
        least: nodes, at least.
        most: at most.
    """

    role: str
    nodes: WorkersConfig
    gpus: int
    least: int
    most: int


def groups_of(workload: Workload, config: DeployConfig) -> tuple[Group, ...]:
    """The nodes that hold the replicas of every pool.

    Raises:
        ValueError: a replica fits on no node; names the setting and the remedy.
    """
    return tuple(_group(pool, config.nodes[pool.role]) for pool in workload.pools)


def _group(pool: Pool, nodes: WorkersConfig) -> Group:
    gpus = (nodes.gpus or math.ceil(pool.num_gpus)) if pool.num_gpus else 0
    per_node = min(_by_gpus(pool, nodes, gpus), int((nodes.cpus + _ROUNDING) / pool.cpus))
    if not per_node:
        raise ValueError(
            f"deploy.{pool.role}.cpus: a replica keeps {pool.cpus:g} busy, and a node has "
            f"{nodes.cpus}; write {math.ceil(pool.cpus)} or more"
        )
    least, most = (math.ceil(count / per_node) for count in (pool.replicas, pool.most))
    return Group(pool.role, nodes, gpus, least, most)


def _by_gpus(pool: Pool, nodes: WorkersConfig, gpus: int) -> int:
    """Replicas for which a node has GPUs; shares of a GPU are of one."""
    if not pool.num_gpus:
        if nodes.gpus:
            raise ValueError(
                f"deploy.{pool.role}.gpus: replicas run on the CPU, and {nodes.gpus} GPUs of each "
                f"node would idle; leave it out, or write pools.{pool.role}.num_gpus"
            )
        return pool.most
    if pool.num_gpus > gpus:
        raise ValueError(
            f"deploy.{pool.role}.gpus: a replica takes {pool.num_gpus:g} of one node, and a node "
            f"has {gpus}; write {math.ceil(pool.num_gpus)} or more, or a smaller "
            f"pools.{pool.role}.num_gpus"
        )
    if pool.num_gpus < 1:
        return gpus * int((1 + _ROUNDING) / pool.num_gpus)
    return int(gpus / pool.num_gpus)
