"""Before a model loads: what the pools ask for against what the cluster has.

A resource that no node has would hang a Ray job in silence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import JobConfig, PoolConfig
from sgl.errors import ConfigurationError


@dataclass(frozen=True)
class Resources:
    """GPUs per replica, resolved for this cluster, by role."""

    num_gpus: Mapping[str, float]

    def describe(self, job: JobConfig) -> str:
        """One line for the start of a run."""
        parts = []
        for role, gpus in self.num_gpus.items():
            pool: PoolConfig = getattr(job.pools, role)
            device = f"{gpus:g} GPU" if gpus else "CPU"
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
    wanted: dict[str, float] = {}
    for role in ("small", "large"):
        if job.uses(role):
            pool: PoolConfig = getattr(job.pools, role)
            default = 1.0 if sum(gpus) else 0.0
            wanted[role] = default if pool.num_gpus is None else pool.num_gpus
            _fits(f"pools.{role}.num_gpus", wanted[role], max(gpus, default=0.0))
            _fits(f"pools.{role}.num_cpus", pool.num_cpus, max(cpus, default=0.0))
    _total("num_gpus", {r: n * getattr(job.pools, r).replicas for r, n in wanted.items()}, gpus)
    _total(
        "num_cpus",
        {r: getattr(job.pools, r).num_cpus * getattr(job.pools, r).replicas for r in wanted},
        cpus,
    )
    return Resources(wanted)


def _fits(name: str, asked: float, most: float) -> None:
    if asked > most:
        raise ConfigurationError(
            f"{name}: a replica asks for {asked:g}, and the largest node has {most:g}"
        )


def _total(name: str, asked: Mapping[str, float], nodes: Sequence[float]) -> None:
    if sum(asked.values()) > sum(nodes):
        needs = ", ".join(f"{role} {amount:g}" for role, amount in asked.items())
        raise ConfigurationError(
            f"pools: the replicas ask for {sum(asked.values()):g} {name} ({needs}), and the "
            f"cluster has {sum(nodes):g}"
        )
