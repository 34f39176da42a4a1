"""One run on a Ray that is there: reserve, watch, and stream every record through the graph."""

from collections.abc import Hashable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import ray
from rich.console import Console

from jobs.display import Display, say
from jobs.metrics import Sources, served
from pipeline.alarm import Bell, watched
from pipeline.balance.balancer import Balancer
from pipeline.balance.record import BalanceRecord
from pipeline.balance.splits import Limits, limits_of
from pipeline.budget import Purse, spent_before
from pipeline.build import Loaders, Run, build, loaders_of, rate_of, write
from pipeline.carried import check_unchanged
from pipeline.config import JobConfig
from pipeline.fingerprint import continues, precision_of
from pipeline.guard import RemoteLedger
from pipeline.joining import awaited
from pipeline.journal import Journal
from pipeline.monitor import RemoteMonitor
from pipeline.output import JobRecord, Output
from pipeline.preflight import Placement, Resources, resolve
from pipeline.prices import Priced, priced
from pipeline.progress import BoardReporter
from pipeline.reservation import release
from pipeline.resume import Start
from pipeline.rowfiles import carried_by
from pipeline.run_record import PoolRecord, RunRecord, begun, kept, run_records
from pipeline.source import Source
from pipeline.stall import Stall
from sgl.errors import ReplicaError, SglError


@dataclass(frozen=True)
class Task:
    """What a run has to do.

    Attributes:
        source: the input.
        output: where its rows go.
        record: of the job, as the output will tell it.
        start: what is there already.
    """

    source: Source
    output: Output
    record: JobRecord
    start: Start


def stream(job: JobConfig, task: Task, console: Console, loaders: Loaders | None) -> bool:
    """Run the graph to its end.

    Args:
        job: whose pools.
        task: of this run.
        console: for progress.
        loaders: of the models; None means the real ones.

    Returns:
        Whether the run took no more records at some point, because its budget was spent.

    Raises:
        ConfigurationError: the cluster has no place for the pools, or the rows that are there would
            not be continued.
        BudgetError: it had been spent before.
        ReplicaError: see jobs.run.
        AlarmError: likewise.
    """
    source, output, start = task.source, task.output, task.start
    resources = awaited(
        partial(resolve, job), ray.nodes, job.ray.nodes_wait_s, partial(say, console)
    )
    record = task.record.model_copy(update={"precision": precision_of(job, resources)})
    for line in continues(output.record(), record):
        say(console, line)
    retried = f", {start.retried:,} of them failed before" if start.retried else ""
    say(
        console,
        f"run {record.run_id}: {start.left:,} of {source.rows:,} records{retried}, "
        f"mode {job.mode}; {resources.describe(job)}",
    )
    limits = _limits(job, resources)
    costs = priced(job, resources, ray.nodes())
    job = costs.job
    say(console, costs.line())
    pools = {role: _pool(costs, role, one) for role, one in resources.placements.items()}
    begins = begun(record.run_id, pools)
    if carried := carried_by(output):
        check_unchanged(carried, source.carried_schema)
    board = BoardReporter.start(start.left)
    purse = _purse(job, begins, output, board, console)  # it may refuse; nothing is changed so far
    output.reopen()
    output.tell(record)
    stages = ("fetch", *(role for role in ("small", "large") if job.uses(role)))
    release(output)
    loaders = loaders or loaders_of(job, resources)
    slots = {role: pool.replicas for role, pool in pools.items()}
    ledger = RemoteLedger.start(job.faults, Journal(output), slots)
    balancer = None
    if limits:
        told = partial(say, console)
        balancer = Balancer(record.run_id, job, limits, start.left, board, ledger, told)
    balance = balancer.record if balancer else _fixed
    books = kept(output, begins, ledger.times, balance=balance)
    sources = Sources(
        *(begins, start.left, _labels(job), board.counts, board.work, ledger.times), balance
    )
    monitor = _monitor(job, output, record.run_id)
    run = Run(record.run_id, source, output, loaders, resources, board, ledger, monitor, balancer)
    stall = Stall(
        partial(_moved, board, ledger),
        max(getattr(job.pools, role).start_deadline_s for role in resources.placements),
        partial(_asked_and_free, job, resources),
        partial(say, console),
    )
    ends = partial(_ended, stall, _bell(job, monitor, console), purse, balancer)
    with served(job.metrics, sources) as port:
        if port is not None and job.metrics is not None:
            say(console, f"metrics: http://{job.metrics.host}:{port}/metrics")
        shown = Display(console, board.counts, stages, start.left)
        with books, balancer or nullcontext(), ledger.explained(ends), shown:
            write(build(job, run), job, run)
    return purse is not None and purse.stopped


def _purse(
    job: JobConfig, run: RunRecord, output: Output, board: BoardReporter, console: Console
) -> Purse | None:
    if job.budget is None:
        return None
    before = spent_before(run_records(output))
    return Purse(job.budget, run, before, board.close, partial(say, console))


def _pool(costs: Priced, role: str, placement: Placement) -> PoolRecord:
    rate, pool = rate_of(costs.job, role, placement), getattr(costs.job.pools, role)
    device = "gpu" if placement.num_gpus else "cpu"
    return PoolRecord(
        replicas=pool.replicas,
        devices=rate.devices,
        device=device,
        usd_per_hour=rate.usd_per_hour,
        price=costs.told[role],
    )


def _limits(job: JobConfig, resources: Resources) -> Limits | None:
    """Of pools between which devices move."""
    if not job.pools.balance:
        return None
    places = resources.placements
    gpus = {role: place.num_gpus for role, place in places.items()}
    return limits_of(job, gpus, {r: rate_of(job, r, place).devices for r, place in places.items()})


def _labels(job: JobConfig) -> dict[str, str]:
    """What the run is, for its metrics."""
    models = {role: job.model(role).path for role in ("small", "large") if job.uses(role)}
    threshold = {} if job.threshold is None else {"threshold": f"{job.threshold:g}"}
    return {"mode": job.mode.value, **models, **threshold}


def _monitor(job: JobConfig, output: Output, run_id: str) -> RemoteMonitor | None:
    given = watched(job)
    if given is None:
        return None
    probe, promise = given
    return RemoteMonitor.start(output, run_id, promise, probe.on_alarm)


def _bell(job: JobConfig, monitor: RemoteMonitor | None, console: Console) -> Bell | None:
    if monitor is None or job.probe is None:
        return None
    return Bell(monitor.alarm, job.probe.on_alarm, partial(say, console))


def _fixed() -> BalanceRecord | None:
    """Of pools that keep their sizes."""
    return None


def _ended(
    stall: Stall,
    bell: Bell | None,
    purse: Purse | None,
    balancer: Balancer | None,
) -> SglError | None:
    """Why the run is to end before its time."""
    if purse:
        purse(balancer.record() if balancer else None)
        if balancer and purse.stopped:
            balancer.close()
    if reason := stall():
        return ReplicaError(reason)
    return bell() if bell else None


def _moved(board: BoardReporter, ledger: RemoteLedger) -> Hashable:
    """What changes while anything happens; None where it cannot be told now."""
    counts, busy = board.counts(), ledger.busy()
    return None if counts is None or busy is None else (*counts.values(), busy)


def _asked_and_free(job: JobConfig, resources: Resources) -> str:
    free = ray.available_resources()
    listed = ", ".join(f"{free.get(name, 0.0):g} {name}" for name in ("CPU", "GPU"))
    return f"the pools ask for {resources.describe(job)}; free now: {listed}"
