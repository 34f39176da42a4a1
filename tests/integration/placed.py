"""A driver of jobs whose replicas write down where they are, on GPUs that are none.

The models answer by arithmetic, and say that they took as long as they did.
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray import serve
from rich.console import Console

from actors.batching import Watch, unwatched
from actors.large_vlm import GuidedQuestion
from jobs.cluster import cluster
from jobs.run import run_job
from jobs.settings import load_job
from pipeline.build import Loaders
from serving.app import _pool
from serving.placement import placed
from sgl.errors import ConfigurationError
from sgl.types import Answer, Failure, Guidance, ImageQuestion
from tests.chaos.cluster import Machine
from tests.pipeline.fakes import FakeLarge, FakeSmall, Load, calls
from tests.serving.fakes import config_of

SMALL = Machine(num_gpus=1, labels={"sgl-pool": "small"})
LARGE = Machine(num_gpus=4, labels={"sgl-pool": "large"})
POOLS: dict[str, dict[str, Any]] = {
    # Halves of a GPU would fit on the large pool's node as well.
    "small": {"replicas": 2, "num_gpus": 0.5, "node_labels": SMALL.labels, "usd_per_hour": 1.0},
    "large": {"replicas": 2, "num_gpus": 2, "node_labels": LARGE.labels, "usd_per_hour": 3.0},
}
_CALLS = 3
"""Of a role, before the next is one that does not end by itself."""
_HELD_S = 600.0

Result = TypeVar("Result", Guidance, Answer)


@dataclass(frozen=True)
class Place:
    """Where a replica has loaded its model.

    Attributes:
        role: of its pool.
        node: Ray's id of the node.
        gpus: that Ray gave to its process.
        at: when, in nanoseconds.
    """

    role: str
    node: str
    gpus: tuple[str, ...]
    at: int


def places(log: Path) -> list[Place]:
    """All that were written down, the earliest first."""
    found = [json.loads(path.read_text()) for path in log.glob("place-*.json")]
    told = [Place(**one | {"gpus": tuple(one["gpus"])}) for one in found]
    return sorted(told, key=lambda place: place.at)


@dataclass
class PlacedSmall(FakeSmall):
    """Writes down its place; after some calls, one of all replicas waits for its node to die."""

    def __post_init__(self) -> None:
        _write_place(self.log, "small")

    def run(
        self, records: Sequence[ImageQuestion], watch: Watch = unwatched
    ) -> list[Guidance | Failure]:
        _hold(self, "small", [record.id for record in records], watch)
        began = time.monotonic()
        return _timed(super().run(records, watch), time.monotonic() - began)


@dataclass
class PlacedLarge(FakeLarge):
    """As PlacedSmall."""

    def __post_init__(self) -> None:
        _write_place(self.log, "large")

    def run(
        self, requests: Sequence[GuidedQuestion], watch: Watch = unwatched
    ) -> list[Answer | Failure]:
        _hold(self, "large", [request.id for request in requests], watch)
        began = time.monotonic()
        return _timed(super().run(requests, watch), time.monotonic() - began)


def _write_place(log: Path | None, role: str) -> None:
    assert log is not None
    gpus = tuple(os.environ["CUDA_VISIBLE_DEVICES"].split(","))
    place = Place(role, ray.get_runtime_context().get_node_id(), gpus, time.time_ns())
    path = log / f"place-{role}-{place.at}-{os.getpid()}.json"
    path.write_text(json.dumps(vars(place)))


def _hold(model: FakeSmall | FakeLarge, role: str, ids: Sequence[str], watch: Watch) -> None:
    """Begin a batch that only a death ends, once in a job whose calls take time."""
    assert model.log is not None
    mark = model.log / held(role)
    if model.seconds and not mark.exists() and len(calls(model.log, role)) >= _CALLS:
        with watch(ids):
            mark.touch()
            time.sleep(_HELD_S)


def held(role: str) -> str:
    """The file that says that a replica of this role is at work and will not end."""
    return f"{role}.held"


def _timed(results: Sequence[Result | Failure], seconds: float) -> list[Result | Failure]:
    """Seconds of one forward pass shared among its records."""
    share = seconds / len(results)
    return [
        one if isinstance(one, Failure) else replace(one, usage=replace(one.usage, device_s=share))
        for one in results
    ]


def drive(folder: Path, calls_s: Mapping[str, float]) -> None:
    """Run the jobs NAME.yaml of a folder, one after the other, and then an endpoint's pools.

    Logs go to NAME.log, and the endpoint's to endpoint.log.

    Args:
        folder: of everything.
        calls_s: what a call takes, by the job's name; where it takes none, no replica is held.
    """
    console = Console(file=sys.stdout, width=400)
    jobs = {name: load_job(str(folder / f"{name}.yaml")) for name in calls_s}
    with cluster(next(iter(jobs.values())).ray):
        for name, job in jobs.items():
            log = folder / f"{name}.log"
            log.mkdir()
            loads = (Load(kind, log, calls_s[name]) for kind in (PlacedSmall, PlacedLarge))
            loaders = Loaders(*loads)  # type: ignore[arg-type]
            try:
                run_job(job, console, loaders)
            except ConfigurationError as error:
                console.print(f"refused: {error}")
        _serve(folder / "endpoint.log")


class Replica:
    """Of an endpoint; writes down its place and does nothing else."""

    def __init__(self, log: Path, role: str) -> None:
        _write_place(log, role)


def _serve(log: Path) -> None:
    """Deploy replicas with what the pools of an endpoint ask for."""
    log.mkdir()
    config = placed(config_of(pools=POOLS), ray.nodes())
    serve.start(http_options={"location": "NoServer"})
    for role in POOLS:
        deployment = _pool(Replica, role, config)
        serve.run(deployment.bind(log, role), name=role, route_prefix=None)
    serve.shutdown()
