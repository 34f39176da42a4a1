"""The whole graph, linear, every stage and every edge in order.

read -> small blocks -> fetch (CPU tasks) -> small pool -> large pool -> Parquet
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset
from ray.data.datasource import FilenameProvider

from actors.large_vlm import LargeVLM
from actors.small_vlm import SmallVLM
from pipeline.balance.balancer import Balancer
from pipeline.budget_config import WhenSpent
from pipeline.checkpoint import switch_on
from pipeline.config import JobConfig, Mode
from pipeline.fetch import FetchStage
from pipeline.guard import Guard, RemoteLedger
from pipeline.handover import Rate
from pipeline.large_stage import LargeModel, LargeSettings, LargeStage
from pipeline.monitor import RemoteMonitor
from pipeline.output import Output
from pipeline.pool_config import PoolConfig
from pipeline.preflight import Placement, Resources
from pipeline.probe import ProbeConfig
from pipeline.progress import Reporter, is_closed
from pipeline.read import RecordDatasource
from pipeline.references import Fetcher
from pipeline.replicas import Start
from pipeline.reservation import name_of
from pipeline.small_stage import SmallModel, SmallSettings, SmallStage
from pipeline.source import Source
from pipeline.web import Web

MAX_RESTARTS = 1000
"""Of one replica. Poison takes several each; a replica that gets nowhere is given up long before,
by the ledger. Ray's default is to restart for ever, which turns an unknown loop into a hang."""

MAX_READ_TASKS = 1000
_FETCH_ATTEMPTS = 2
"""Of a request for a picture. Two pictures, each two requests that time out twice, must end before
`input.fetch_deadline_s` takes the process for one that hangs."""


@dataclass(frozen=True)
class Loaders:
    """What makes the models inside the replicas; picklable."""

    small: Callable[[], SmallModel]
    large: Callable[[], LargeModel]


@dataclass(frozen=True)
class Run:
    """Everything about one run that the graph needs beside its settings."""

    id: str
    source: Source
    output: Output
    loaders: Loaders
    resources: Resources
    reporter: Reporter
    ledger: RemoteLedger
    monitor: RemoteMonitor | None = None
    balancer: Balancer | None = None


def build(job: JobConfig, run: Run) -> Dataset:
    """The graph up to the finished rows; nothing runs yet."""
    # Left alone, Ray splits the output of few read tasks into 200 blocks.
    tasks = min(len(run.source.parts), MAX_READ_TASKS)
    stopped = partial(is_closed, run.reporter) if _stops(job) else None
    source = RecordDatasource(run.source, stopped)
    rows = ray.data.read_datasource(source, override_num_blocks=tasks)
    rows.set_name(name_of(run.output))
    switch_on(run.output, rows.context)
    if run.balancer:
        run.balancer.watch(rows.context)
    rows = rows.repartition(target_num_rows_per_block=job.rows_per_block)
    rows = _fetch(rows, job, run)
    if job.uses("small"):
        rows = _small(rows, job, run)
    if job.uses("large"):
        rows = _large(rows, job, run)
    return rows


def write(rows: Dataset, job: JobConfig, run: Run) -> None:
    """Run the graph; returns when every row is written and committed."""
    filesystem, path = run.output.located(run.output.rows)
    rows.write_parquet(
        path,
        filesystem=filesystem,
        filename_provider=FilenameProvider(dataset_uuid=run.id, file_format="parquet"),
        mode="append",
        min_rows_per_file=job.output.rows_per_file,
        write_page_checksum=True,
    )


def loaders_of(job: JobConfig, resources: Resources) -> Loaders:
    """The real models, each on all GPUs of its replica."""
    devices = {
        role: {"gpus": placement.whole_gpus, "gpu_share": placement.gpu_share}
        for role, placement in resources.placements.items()
    }
    return Loaders(
        small=partial(_load_small, job, devices.get("small", {})),
        large=partial(_load_large, job, devices.get("large", {})),
    )


def _load_small(job: JobConfig, devices: dict[str, Any]) -> SmallModel:
    return SmallVLM(job.model("small"), job.guidance, job.decoding, **devices)


def _load_large(job: JobConfig, devices: dict[str, Any]) -> LargeModel:
    probe = _probe(job)
    probed = probe.prunings if probe else ()
    return LargeVLM(job.model("large"), job.pruning, job.decoding, probed=probed, **devices)


def _fetch(rows: Dataset, job: JobConfig, run: Run) -> Dataset:
    stage = FetchStage(
        run_id=run.id,
        threshold=job.threshold if job.mode is Mode.CASCADE else None,
        max_image_pixels=job.input.max_image_pixels,
        text_only=job.input.text_only,
        threads=job.input.fetch_threads,
        fetcher=Fetcher(
            max_bytes=job.input.max_image_bytes,
            web=None if job.input.http is None else Web(job.input.http),
            # The stage itself waits for a storage that fails, outside of its deadline.
            storage=run.source.storage.model_copy(update={"max_attempts": _FETCH_ATTEMPTS}),
        ),
        reporter=run.reporter,
        guard=Guard("fetch", run.ledger, job.input.fetch_deadline_s),
        stops=_stops(job),
    )
    return rows.map_batches(
        _apply, fn_kwargs={"stage": stage}, batch_size=job.rows_per_block, **_ARROW
    )


def _apply(table: pa.Table, stage: FetchStage) -> Iterator[pa.Table]:
    yield from stage(table)


def _small(rows: Dataset, job: JobConfig, run: Run) -> Dataset:
    placement = run.resources.placements["small"]
    settings = SmallSettings(
        threshold=job.threshold if job.mode is Mode.CASCADE else None,
        batch_size=job.model("small").batch_size,
        when_spent=job.budget.then if job.budget else None,
        write_importance=job.output.write_importance,
        rate=rate_of(job, "small", placement),
        probe=_probe(job),
    )
    guard = _guard("small", job, run)
    return rows.map_batches(
        SmallStage,
        fn_constructor_args=(run.loaders.small, settings, run.reporter, guard, run.monitor),
        compute=ActorPoolStrategy(size=job.pools.small.replicas, max_tasks_in_flight_per_actor=2),
        batch_size=job.rows_per_block,
        **_remote(placement),
        **_ARROW,
    )


def _large(rows: Dataset, job: JobConfig, run: Run) -> Dataset:
    pool, batch_size = job.pools.large, job.model("large").batch_size
    blocks, placement = pool.blocks_for(batch_size), run.resources.placements["large"]
    settings = LargeSettings(
        batch_size=batch_size,
        concurrent_blocks=blocks,
        linger_s=pool.linger_s,
        rate=rate_of(job, "large", placement),
        probe=_probe(job),
    )
    guard = _guard("large", job, run)
    return rows.map_batches(
        LargeStage,
        fn_constructor_args=(run.loaders.large, settings, run.reporter, guard, run.monitor),
        compute=ActorPoolStrategy(
            size=pool.replicas,
            max_concurrent_calls_per_actor=blocks,
            max_tasks_in_flight_per_actor=blocks,
        ),
        batch_size=job.rows_per_block,
        **_remote(placement),
        **_ARROW,
    )


def _remote(placement: Placement) -> dict[str, Any]:
    # Being no argument of the fetch tasks, max_restarts also keeps Ray from fusing them into the
    # replicas, which then would decode pictures.
    remote: dict[str, Any] = {"num_cpus": placement.num_cpus, "max_restarts": MAX_RESTARTS}
    if placement.node_labels:
        remote["label_selector"] = dict(placement.node_labels)
    return remote | ({"num_gpus": placement.num_gpus} if placement.num_gpus else {})


def _guard(role: str, job: JobConfig, run: Run) -> Guard:
    pool: PoolConfig = getattr(job.pools, role)
    start = Start(role, job.model(role).path, pool.start_deadline_s)
    return Guard(role, run.ledger, pool.deadline_s, start)


def rate_of(job: JobConfig, role: str, placement: Placement) -> Rate:
    """What a second of one replica of a pool is; on the CPU its devices are the cores it uses."""
    pool: PoolConfig = getattr(job.pools, role)
    model = job.model(role)
    cores = model.cpu_threads * (model.tensor_parallel or 1)
    return Rate(devices=placement.num_gpus or cores, usd_per_hour=pool.usd_per_hour)


def _stops(job: JobConfig) -> bool:
    return job.budget is not None and job.budget.then is WhenSpent.STOP


def _probe(job: JobConfig) -> ProbeConfig | None:
    return job.probe if job.mode is Mode.CASCADE else None


_ARROW = {"batch_format": "pyarrow", "zero_copy_batch": True}
