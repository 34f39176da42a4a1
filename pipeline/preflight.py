"""Before a model loads: what the pools ask for against what the cluster has.

A resource that no node has would hang a Ray job in silence.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.config import ModelConfig
from actors.sharding import indivisible
from pipeline.config import JobConfig
from pipeline.pool_config import PoolConfig
from sgl.errors import ConfigurationError

CPUS_FOR_TASKS = 1
"""Cores that the replicas must leave, because read, fetch and write tasks need one each."""


_ROUNDING = 1e-6


@dataclass(frozen=True)
class Placement:
    """What one replica reserves.

    Attributes:
        num_gpus: 0 runs it on the CPU.
        num_cpus: logical cores.
        node_labels: that the node has.
    """

    num_gpus: float
    num_cpus: float
    node_labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def whole_gpus(self) -> int:
        """How many devices its model may be on; a share of a GPU is one, and so is the CPU."""
        return max(1, math.ceil(self.num_gpus))

    @property
    def gpu_share(self) -> float:
        """Of each of them."""
        return min(1.0, self.num_gpus) or 1.0


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
            processes = job.model(role).tensor_parallel or 1
            if processes > 1 and not placement.num_gpus:
                device = f"{processes} processes on the CPU"
            parts.append(f"{role}: {pool.replicas} x {device}")
        return ", ".join(parts)


def check_models(job: JobConfig) -> None:
    """Refuse what no cluster can mend: a missing checkpoint, or a model split as it cannot be.

    Hub ids are left to the loading.

    Raises:
        ConfigurationError: names the model.
    """
    for role in ("small", "large"):
        if job.uses(role):
            model, pool = job.model(role), getattr(job.pools, role)
            if pool.num_gpus is not None:
                _splits(role, model, pool.num_gpus)
            file = Path(model.path) / "config.json"
            if not file.is_absolute():
                continue
            if not file.is_file():
                raise ConfigurationError(
                    f"models.{role}.path: no checkpoint at {model.path} (it has no config.json)"
                )
            _divides(role, model, json.loads(file.read_bytes()))


_TASKS = {"read, fetch and write": float(CPUS_FOR_TASKS)}


def resolve(
    job: JobConfig, nodes: Sequence[Mapping[str, Any]], beside: Mapping[str, float] = _TASKS
) -> Resources:
    """Settle the GPUs of each pool, and check that the cluster can hold all replicas.

    Args:
        job: whose pools.
        nodes: as ray.nodes() tells them.
        beside: cores that something else needs; by default the tasks of a batch job.

    Raises:
        ConfigurationError: names the pool, what it asks for and what is there.
    """
    alive = [node for node in nodes if node.get("Alive")]
    gpus, cpus = _have("GPU", alive), _have("CPU", alive)
    pools: dict[str, PoolConfig] = {
        role: getattr(job.pools, role) for role in ("small", "large") if job.uses(role)
    }
    own = {role: _labelled(role, pool, alive) for role, pool in pools.items()}
    asked_gpus = {
        role: _asked_gpus(job.model(role), pool, _have("GPU", own[role]))
        for role, pool in pools.items()
    }
    share = _default_gpus(asked_gpus, {r: p.replicas for r, p in pools.items()}, sum(gpus))
    placements = {
        role: Placement(
            share if asked is None else asked, pools[role].num_cpus, pools[role].node_labels
        )
        for role, asked in asked_gpus.items()
    }
    for role, placement in placements.items():
        _splits(role, job.model(role), placement.num_gpus)
        own_gpus, own_cpus = _have("GPU", own[role]), _have("CPU", own[role])
        _fits(f"pools.{role}.num_gpus", placement.num_gpus, max(own_gpus, default=0.0))
        _on_single_nodes(role, pools[role].replicas, placement.num_gpus, own_gpus)
        _fits(f"pools.{role}.num_cpus", placement.num_cpus, max(own_cpus, default=0.0))
        if placement.node_labels:
            _on_own_nodes(role, pools[role].replicas, "num_gpus", placement.num_gpus, own_gpus)
            _on_own_nodes(role, pools[role].replicas, "num_cpus", placement.num_cpus, own_cpus)
    replicas = {role: pool.replicas for role, pool in pools.items()}
    _total("num_gpus", {r: p.num_gpus * replicas[r] for r, p in placements.items()}, gpus)
    asked = {r: p.num_cpus * replicas[r] for r, p in placements.items()}
    _total("num_cpus", asked | dict(beside), cpus)
    open_to = [frozenset(role for role in pools if node in own[role]) for node in alive]
    for name, has in (("num_gpus", gpus), ("num_cpus", cpus)):
        wanted = {r: (replicas[r], getattr(p, name)) for r, p in placements.items()}
        _together(name, wanted, list(zip(has, open_to, strict=True)))
    return Resources(placements)


def _have(resource: str, nodes: Sequence[Mapping[str, Any]]) -> list[float]:
    return [float(node.get("Resources", {}).get(resource, 0)) for node in nodes]


def _labelled(
    role: str, pool: PoolConfig, nodes: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Nodes that replicas of a pool may be on."""
    wanted = pool.node_labels.items()
    found = [node for node in nodes if wanted <= node.get("Labels", {}).items()]
    if wanted and not found:
        told = ", ".join(f"{name}={value}" for name, value in wanted)
        raise ConfigurationError(
            f"pools.{role}.node_labels: no node has {told}; start nodes with ray start --labels "
            f"{told}, or leave node_labels out"
        )
    return found


def _on_own_nodes(
    role: str, replicas: int, name: str, asked: float, nodes: Sequence[float]
) -> None:
    """Refuse replicas for which nodes with their labels have too little, whatever others have."""
    places = sum(_room(name, node, asked) for node in nodes) if asked else replicas
    if places < replicas:
        raise ConfigurationError(
            f"pools.{role}.node_labels: {replicas} replicas are asked for, each with {asked:g} "
            f"{name}, and the nodes with these labels have room for {places}"
        )


def _asked_gpus(model: ModelConfig, pool: PoolConfig, nodes: Sequence[float]) -> float | None:
    """GPUs of a replica as far as they are settled; None leaves them to the default."""
    if pool.num_gpus is not None:
        return pool.num_gpus
    if model.device == "cpu" or not sum(nodes):
        return 0.0
    if model.tensor_parallel and model.tensor_parallel > 1:
        return float(model.tensor_parallel)
    return None


def _default_gpus(
    asked: Mapping[str, float | None], replicas: Mapping[str, int], cluster: float
) -> float:
    """One GPU per replica; an equal share where the cluster has fewer, such as a single one."""
    left = cluster - sum((gpus or 0.0) * replicas[role] for role, gpus in asked.items())
    waiting = sum(replicas[role] for role, gpus in asked.items() if gpus is None)
    if not cluster or not waiting:
        return 0.0
    return 1.0 / math.ceil(waiting / left) if left >= 1 else 1.0


def _splits(role: str, model: ModelConfig, gpus: float) -> None:
    """Refuse GPUs that a replica could not all use."""
    processes = model.tensor_parallel
    if gpus > 1 and not gpus.is_integer():
        raise ConfigurationError(
            f"pools.{role}.num_gpus: {gpus:g} is no whole number of GPUs; write "
            f"{math.floor(gpus)} or {math.ceil(gpus)}"
        )
    if gpus > 1 and model.device == "cpu":
        raise ConfigurationError(
            f"models.{role}.device: 'cpu' leaves the {gpus:g} GPUs of pools.{role}.num_gpus idle; "
            "write num_gpus: 0, or device: auto"
        )
    if gpus and processes and processes > 1 and processes != gpus:
        raise ConfigurationError(
            f"models.{role}.tensor_parallel: {processes} processes need as many GPUs, and "
            f"pools.{role}.num_gpus is {gpus:g}; write the same number for both, or leave one out"
        )


def _divides(role: str, model: ModelConfig, config: Mapping[str, Any]) -> None:
    processes = model.tensor_parallel or 1
    if reason := indivisible(config.get("text_config", config), processes):
        raise ConfigurationError(
            f"models.{role}.tensor_parallel: the model cannot be split over {processes} processes, "
            f"{reason}; write another number, or leave it out to spread the layers over the GPUs"
        )


def _fits(name: str, asked: float, most: float) -> None:
    if asked > most:
        raise ConfigurationError(
            f"{name}: a replica asks for {asked:g}, and the largest node has {most:g}"
        )


def _on_single_nodes(role: str, replicas: int, asked: float, nodes: Sequence[float]) -> None:
    """Refuse replicas for which GPUs are left over on every node, but too few on each."""
    places = sum(int(gpus // asked) for gpus in nodes) if asked > 1 else replicas
    if places < replicas:
        raise ConfigurationError(
            f"pools.{role}.replicas: {replicas} are asked for, each with {asked:g} GPUs of one "
            f"node, and the nodes have room for {places}"
        )


def _together(
    name: str,
    asked: Mapping[str, tuple[int, float]],
    nodes: Sequence[tuple[float, frozenset[str]]],
) -> None:
    """Refuse pools that fit on the nodes one by one and in sum, but not together.

    Args:
        name: of the resource.
        asked: replicas of each pool, and what each of them takes of one node.
        nodes: what each has, and the pools whose replicas may be on it.
    """
    pools = sorted((role for role in asked if asked[role][1]), key=lambda role: -asked[role][1])
    if not pools:
        return
    wide, narrow = pools[0], pools[-1]
    (most_replicas, most), (least_replicas, least) = asked[wide], asked[narrow]
    if wide == narrow:
        least_replicas = 0
    # Replicas that take less than a GPU lie on one, so that each GPU is a node of its own.
    places = list(nodes)
    if name == "num_gpus" and most <= 1:
        places = [(1.0, roles) for gpus, roles in nodes for _ in range(int(gpus))]
    beside = {0: 0}  # the most narrow replicas beside each number of wide ones, node after node
    for node, roles in places:
        found: dict[int, int] = {}
        for placed, already in beside.items():
            fit = min(most_replicas - placed, _room(name, node, most)) if wide in roles else 0
            for here in range(fit + 1):
                room = _room(name, node - here * most, least) if narrow in roles else 0
                found[placed + here] = max(found.get(placed + here, 0), already + room)
        beside = found
    if beside.get(most_replicas, -1) < least_replicas:
        needs = " and ".join(f"{role} {n} x {each:g}" for role, (n, each) in asked.items())
        raise ConfigurationError(
            f"pools: {needs} {name} are asked for, each replica's of one node, and there is no way "
            f"to place them all on nodes with {', '.join(f'{node:g}' for node, _ in nodes)}"
        )


def _room(name: str, left: float, each: float) -> int:
    """Replicas that fit into what is left of a node; a share of a GPU is of one GPU."""
    if name == "num_gpus" and each < 1 < left:
        return int(left) * int((1 + _ROUNDING) // each)
    return int((left + _ROUNDING) // each)


def _total(name: str, asked: Mapping[str, float], nodes: Sequence[float]) -> None:
    if sum(asked.values()) > sum(nodes):
        needs = ", ".join(f"{role} {amount:g}" for role, amount in asked.items())
        raise ConfigurationError(
            f"pools: {sum(asked.values()):g} {name} are needed ({needs}), and the cluster has "
            f"{sum(nodes):g}"
        )
