"""`sgl run`: check, start, stream, tell."""

import time
from dataclasses import dataclass

from rich.console import Console

from jobs.cluster import cluster
from jobs.display import say
from jobs.stream import Task, stream
from jobs.tables import summary_table
from pipeline.alarm import check_alarm, describe, final_alarm, refuse_stopped
from pipeline.batch_files import Batch, discard_batch, write_batch
from pipeline.bill import Bill, bill_of
from pipeline.budget import refuse_spent, spent_before
from pipeline.build import Loaders
from pipeline.config import JobConfig
from pipeline.fingerprint import (
    fingerprint_of,
    identity_of,
    unpinned,
    versions,
)
from pipeline.ids import Spill
from pipeline.lease import Lease
from pipeline.logs import log_as_json, made_run_id, runtime_env
from pipeline.measured import Measured, measure
from pipeline.output import Alarm, JobRecord, Output, check_apart, check_output, open_output
from pipeline.preflight import check_models
from pipeline.probe import OnAlarm
from pipeline.resume import begin, finish
from pipeline.run_record import run_records
from pipeline.source import Source, check_ids, drawn, open_source
from pipeline.status import is_marked
from pipeline.summary import Summary, read_rows, summarise
from sgl.errors import IncompleteError


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
        over_budget: what is missing because the budget was spent; None where nothing is.
        batch: the files in OpenAI's format, where the input was and the output is complete.
    """

    job: JobConfig
    output: Output
    run_id: str
    summary: Summary
    wall_s: float
    bill: Bill
    measured: Measured | None = None
    alarm: Alarm | None = None
    over_budget: str | None = None
    batch: Batch | None = None

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
        BudgetError: it was spent before the run began.
        AuditError: the run has ended, and the output is not complete.
        OSError: the storage fails.
    """
    started = time.monotonic()
    check_models(job)
    check_apart(job.input.path, job.output.path, job.storage)
    source = drawn(open_source(job.input, job.storage))
    with Spill() as expected:
        check_ids(source, expected)
        record = _record(job, source)
        worker_env, over_budget, closed, batch = None, None, False, None
        if job.logs.format == "json":
            log_as_json(record.run_id)
            worker_env = runtime_env(record.run_id)
        output = open_output(job.output.path, record.fingerprint, job.storage)
        ignored = [f"{name}: not looked at in mode '{job.mode}'" for name in job.ignored()]
        for line in [*ignored, *unpinned(job), *check_alarm(job, source.rows)]:
            say(console, line)
        with Lease(output, record.run_id) as lease:
            check_output(output, record.identity)
            if job.budget and retry_errors:  # which undoes rows
                refuse_spent(job.budget, spent_before(run_records(output)))
            start = begin(output, expected, retry_errors=retry_errors)
            for line in start.repairs.lines():
                say(console, line)
            if start.left:
                refuse_stopped(job, output)
                discard_batch(output)
                with cluster(job.ray, worker_env):
                    task = Task(source, output, record, start)
                    closed = stream(job, task, console, loaders)
            else:
                say(console, "nothing left to do: every record is in the output")
                if output.record() is None:
                    output.tell(record)
            if not is_marked(output):
                lease.check()
                try:
                    for line in finish(output, expected, start, record.run_id).lines():
                        say(console, line)
                except IncompleteError as error:
                    if not closed:
                        raise
                    over_budget = str(error)
            if source.requests and over_budget is None:
                lease.check()
                batch = write_batch(output, source)
    summary = summarise(read_rows(output), record.run_id)
    measured = measure(output, job.promise) if job.probe else None
    alarm = final_alarm(job, output, record.run_id, measured)
    wall_s = time.monotonic() - started
    return Outcome(
        job=job,
        output=output,
        run_id=record.run_id,
        summary=summary,
        wall_s=wall_s,
        bill=bill_of(output),
        measured=measured,
        alarm=alarm,
        over_budget=over_budget,
        batch=batch,
    )


def report(outcome: Outcome, console: Console) -> None:
    """Print the summary of a run and where its rows are."""
    job = outcome.job
    batch_size = job.model("large").batch_size if job.uses("large") else 1
    console.print(
        summary_table(outcome.summary, batch_size, outcome.wall_s, outcome.bill, outcome.measured)
    )
    if outcome.alarm and job.probe:
        say(console, describe(outcome.alarm, job.probe.on_alarm, outcome.measured))
    if outcome.over_budget:
        say(console, f"the budget is spent: {outcome.over_budget}, once the budget is larger")
    say(console, f"rows: {outcome.output.rows}")
    if batch := outcome.batch:
        say(console, f"batch: {batch.folder}, {batch.results:,} results, {batch.errors:,} errors")


def _record(job: JobConfig, source: Source) -> JobRecord:
    identity = identity_of(job)
    return JobRecord(
        fingerprint=fingerprint_of(identity),
        run_id=made_run_id(),
        records=source.rows,
        identity=identity,
        precision={},
        versions=versions(),
        job=job.model_dump(mode="json"),
    )
