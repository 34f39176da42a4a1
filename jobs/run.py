"""`sgl run`: check, start, stream, tell."""

import secrets
import time
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import ray
from rich.console import Console

from jobs.cluster import cluster
from jobs.display import Display
from jobs.metrics import Sources, served
from jobs.tables import summary_table
from pipeline.alarm import Bell, check_alarm, describe, final_alarm, refuse_stopped, watched
from pipeline.bill import Bill, bill_of
from pipeline.build import Loaders, Run, build, loaders_of, rate_of, write
from pipeline.carried import check_unchanged
from pipeline.config import JobConfig
from pipeline.fingerprint import (
    continues,
    fingerprint_of,
    identity_of,
    precision_of,
    unpinned,
    versions,
)
from pipeline.guard import RemoteLedger
from pipeline.ids import Spill
from pipeline.journal import Journal
from pipeline.lease import Lease
from pipeline.logs import log_as_json, runtime_env
from pipeline.measured import Measured, measure
from pipeline.monitor import RemoteMonitor
from pipeline.output import Alarm, JobRecord, Output, check_apart, check_output, open_output
from pipeline.preflight import Placement, Resources, check_models, resolve
from pipeline.prices import Priced, priced
from pipeline.probe import OnAlarm
from pipeline.progress import BoardReporter
from pipeline.reservation import release
from pipeline.resume import Start, begin, finish
from pipeline.rowfiles import carried_by
from pipeline.run_record import Bookkeeper, PoolRecord, begun
from pipeline.source import Source, check_ids, drawn, open_source
from pipeline.stall import Stall
from pipeline.status import is_marked
from pipeline.summary import Summary, read_rows, summarise
from sgl.errors import ReplicaError, SglError


@dataclass(frozen=True)
class Outcome:
    """One finished run.

    Attributes:
        job: its settings.
        output: where its rows are.
        run_id: the value of that column in its rows.
        summary: of the whole output directory.
        wall_s: of this run, start-up included.
        bill: of all runs of the output.
        measured: by the probe, where there is one.
        alarm: that stands at the end.
    """

    job: JobConfig
    output: Output
    run_id: str
    summary: Summary
    wall_s: float
    bill: Bill
    measured: Measured | None = None
    alarm: Alarm | None = None

    @property
    def stopped(self) -> bool:
        """Whether the job was to end with the alarm that stands."""
        probe = self.job.probe
        return self.alarm is not None and probe is not None and probe.on_alarm is OnAlarm.STOP


def run_job(
    job: JobConfig,
    console: Console,
    loaders: Loaders | None = None,
    *,
    retry_errors: bool = False,
) -> Outcome:
    """Run one job to its end; the same job again does what is left of it.

    Args:
        job: with absolute paths.
        console: for progress.
        loaders: of the models; None means the real ones.
        retry_errors: do failed records again.

    Raises:
        ConfigurationError: before a model loads.
        OutputBusyError: another run writes the output, or has taken it over from this one.
        ReplicaError: one cannot be loaded, or its replicas die of nothing that a record is to
            blame for.
        AlarmError: the promise is broken, and the run was to end then.
        AuditError: the run has ended, and the output is not complete.
    """
    started = time.monotonic()
    check_models(job)
    check_apart(job.input.path, job.output.path, job.storage)
    source = drawn(open_source(job.input, job.storage))
    with Spill() as expected:
        check_ids(source, expected)
        record = _record(job, source)
        worker_env = None
        if job.logs.format == "json":
            log_as_json(record.run_id)
            worker_env = runtime_env(record.run_id)
        output = open_output(job.output.path, record.fingerprint, job.storage)
        ignored = [f"{name}: not looked at in mode '{job.mode}'" for name in job.ignored()]
        for line in [*ignored, *unpinned(job), *check_alarm(job, source.rows)]:
            _say(console, line)
        with Lease(output, record.run_id) as lease:
            check_output(output, record.identity)
            start = begin(output, expected, retry_errors=retry_errors)
            for line in start.repairs.lines():
                _say(console, line)
            if start.left:
                refuse_stopped(job, output)
                with cluster(job.ray, worker_env):
                    _stream(job, console, source, output, record, start, loaders)
            else:
                _say(console, "nothing left to do: every record is in the output")
                if output.record() is None:
                    output.tell(record)
            if not is_marked(output):
                lease.check()
                for line in finish(output, expected, start, record.run_id).lines():
                    _say(console, line)
    summary = summarise(read_rows(output), record.run_id)
    measured = measure(output, job.promise) if job.probe else None
    alarm = final_alarm(job, output, record.run_id, measured)
    wall_s = time.monotonic() - started
    return Outcome(job, output, record.run_id, summary, wall_s, bill_of(output), measured, alarm)


def report(outcome: Outcome, console: Console) -> None:
    """Print the summary of a run and where its rows are."""
    job = outcome.job
    batch_size = job.model("large").batch_size if job.uses("large") else 1
    console.print(
        summary_table(outcome.summary, batch_size, outcome.wall_s, outcome.bill, outcome.measured)
    )
    if outcome.alarm and job.probe:
        _say(console, describe(outcome.alarm, job.probe.on_alarm, outcome.measured))
    _say(console, f"rows: {outcome.output.rows}")


def _record(job: JobConfig, source: Source) -> JobRecord:
    identity = identity_of(job)
    return JobRecord(
        fingerprint=fingerprint_of(identity),
        run_id=f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}",
        records=source.rows,
        identity=identity,
        precision={},
        versions=versions(),
        job=job.model_dump(mode="json"),
    )


def _stream(
    job: JobConfig,
    console: Console,
    source: Source,
    output: Output,
    record: JobRecord,
    start: Start,
    loaders: Loaders | None,
) -> None:
    resources = resolve(job, ray.nodes())
    record = record.model_copy(update={"precision": precision_of(job, resources)})
    for line in continues(output.record(), record):
        _say(console, line)
    retried = f", {start.retried:,} of them failed before" if start.retried else ""
    _say(
        console,
        f"run {record.run_id}: {start.left:,} of {source.rows:,} records{retried}, "
        f"mode {job.mode}; {resources.describe(job)}",
    )
    costs = priced(job, resources, ray.nodes())
    job = costs.job
    _say(console, costs.line())
    if carried := carried_by(output):
        check_unchanged(carried, source.carried_schema)
    output.reopen()
    output.tell(record)
    stages = ("fetch", *(role for role in ("small", "large") if job.uses(role)))
    release(output)
    board = BoardReporter.start(start.left)
    loaders = loaders or loaders_of(job, resources)
    pools = {role: _pool(costs, role, one) for role, one in resources.placements.items()}
    slots = {role: pool.replicas for role, pool in pools.items()}
    ledger = RemoteLedger.start(job.faults, Journal(output), slots)
    begins = begun(record.run_id, pools)
    books = Bookkeeper(output, begins, ledger.times)
    sources = Sources(begins, start.left, _labels(job), board.counts, board.work, ledger.times)
    monitor = _monitor(job, output, record.run_id)
    run = Run(record.run_id, source, output, loaders, resources, board, ledger, monitor)
    stall = Stall(
        partial(_moved, board, ledger),
        max(getattr(job.pools, role).start_deadline_s for role in resources.placements),
        partial(_asked_and_free, job, resources),
        partial(_say, console),
    )
    ends = partial(_ended, stall, _bell(job, monitor, console))
    with served(job.metrics, sources) as port:
        if port is not None and job.metrics is not None:
            _say(console, f"metrics: http://{job.metrics.host}:{port}/metrics")
        with books, ledger.explained(ends), Display(console, board.counts, stages, start.left):
            write(build(job, run), job, run)


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
    return Bell(monitor.alarm, job.probe.on_alarm, partial(_say, console))


def _ended(stall: Stall, bell: Bell | None) -> SglError | None:
    """Why the run is to end before its time."""
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


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True, markup=False)
