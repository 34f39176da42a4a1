"""Before a model loads: what the pools ask for against what the cluster has.

A resource that no node has would hang a Ray job in silence.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import JobConfig, PoolConfig
from sgl.errors import ConfigurationError

CPUS_FOR_TASKS = 1
"""Cores that the replicas must leave, because read, fetch and write tasks need one each."""


@dataclass(frozen=True)
class Placement:
    """What one replica reserves.

    Attributes:
        num_gpus: 0 runs it on the CPU.
        num_cpus: logical cores.
    """

    num_gpus: float
    num_cpus: float


@dataclass(frozen=True)
class Resources:
    """Placements by role, resolved for one cluster."""

    placements: Mapping[str, Placement]

    def describe(self, job: JobConfig) -> str:
        """One line for the start of a run."""
        parts = []
        for role, placement in self.placements.items():
            pool: PoolConfig = getattr(job.pools, role)
            device = f"{placement.num_gpus:g} GPU" if placement.num_gpus else "CPU"
            parts.append(f"{role}: {pool.replicas} x {device}")
        return ", ".join(parts)


def check_models(job: JobConfig) -> None:
    """Refuse a checkpoint folder that is not there; hub ids are left to the loading.

    Raises:
        ConfigurationError: names the model.
    """
    for role in ("small", "large"):
        if job.uses(role):
            path = Path(job.model(role).path)
            if path.is_absolute() and not (path / "config.json").is_file():
                raise ConfigurationError(
                    f"models.{role}.path: no checkpoint at {path} (it has no config.json)"
                )


def resolve(job: JobConfig, nodes: Sequence[Mapping[str, Any]]) -> Resources:
    """Settle the GPUs of each pool, and check that the cluster can hold all replicas.

    Args:
        job: whose pools.
        nodes: as ray.nodes() tells them.

    Raises:
        ConfigurationError: names the pool, what it asks for and what is there.
    """
    alive = [node.get("Resources", {}) for node in nodes if node.get("Alive")]
    gpus, cpus = ([float(node.get(key, 0)) for node in alive] for key in ("GPU", "CPU"))
    pools: dict[str, PoolConfig] = {
        role: getattr(job.pools, role) for role in ("small", "large") if job.uses(role)
    }
    share = _default_gpus(list(pools.values()), sum(gpus))
    placements = {
        role: Placement(share if pool.num_gpus is None else pool.num_gpus, pool.num_cpus)
        for role, pool in pools.items()
    }
    for role, placement in placements.items():
        _fits(f"pools.{role}.num_gpus", placement.num_gpus, max(gpus, default=0.0))
        _fits(f"pools.{role}.num_cpus", placement.num_cpus, max(cpus, default=0.0))
    replicas = {role: pool.replicas for role, pool in pools.items()}
    _total("num_gpus", {r: p.num_gpus * replicas[r] for r, p in placements.items()}, gpus)
    asked = {r: p.num_cpus * replicas[r] for r, p in placements.items()}
    _total("num_cpus", asked | {"read, fetch and write": CPUS_FOR_TASKS}, cpus)
    return Resources(placements)


def _default_gpus(pools: Sequence[PoolConfig], cluster: float) -> float:
    """One GPU per replica; an equal share where the cluster has fewer, such as a single one."""
    left = cluster - sum((pool.num_gpus or 0.0) * pool.replicas for pool in pools)
    replicas = sum(pool.replicas for pool in pools if pool.num_gpus is None)
    if not cluster or not replicas:
        return 0.0
    return 1.0 / math.ceil(replicas / left) if left >= 1 else 1.0


def _fits(name: str, asked: float, most: float) -> None:
    if asked > most:
        raise ConfigurationError(
            f"{name}: a replica asks for {asked:g}, and the largest node has {most:g}"
        )


def _total(name: str, asked: Mapping[str, float], nodes: Sequence[float]) -> None:
    if sum(asked.values()) > sum(nodes):
        needs = ", ".join(f"{role} {amount:g}" for role, amount in asked.items())
        raise ConfigurationError(
            f"pools: {sum(asked.values()):g} {name} are needed ({needs}), and the cluster has "
            f"{sum(nodes):g}"
        )
