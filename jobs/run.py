"""`sgl run`: check, start, stream, tell."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow.compute as pc
import ray
from rich.console import Console

from jobs.cluster import cluster
from jobs.display import Display
from jobs.tables import summary_table
from pipeline.build import Loaders, Run, build, loaders_of, write
from pipeline.checkpoint import check_output, ids_done, rows_path
from pipeline.config import JobConfig
from pipeline.guard import RemoteLedger
from pipeline.journal import Journal
from pipeline.preflight import check_models, resolve
from pipeline.progress import Board, BoardReporter, StageCount
from pipeline.source import Source, check_ids, open_source
from pipeline.summary import Summary, read_rows, summarise


@dataclass(frozen=True)
class Outcome:
    """One finished run.

    Attributes:
        job: its settings.
        run_id: the value of that column in its rows.
        summary: of the whole output directory.
        wall_s: of this run, start-up included.
    """

    job: JobConfig
    run_id: str
    summary: Summary
    wall_s: float


def run_job(job: JobConfig, console: Console, loaders: Loaders | None = None) -> Outcome:
    """Run one job to its end; the same job again does what is left of it.

    Args:
        job: with absolute paths.
        console: for progress.
        loaders: of the models; None means the real ones.

    Raises:
        ConfigurationError: before a model loads.
        ReplicaError: one cannot be loaded, or its replicas die of nothing that a record is to
            blame for.
    """
    started = time.monotonic()
    check_models(job)
    source = open_source(job.input)
    ids = check_ids(source)
    check_output(job)
    left = source.rows - int(pc.sum(pc.is_in(ids, value_set=ids_done(job))).as_py() or 0)
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
    for name in job.ignored():
        console.print(f"{name}: not looked at in mode '{job.mode}'", highlight=False)
    if left:
        with cluster(job.ray):
            _stream(job, console, source, left, run_id, loaders)
    else:
        console.print("nothing left to do: every record is in the output", highlight=False)
    summary = summarise(read_rows(rows_path(job)), run_id)
    return Outcome(job, run_id, summary, time.monotonic() - started)


def report(outcome: Outcome, console: Console) -> None:
    """Print the summary of a run and where its rows are."""
    job = outcome.job
    batch_size = job.model("large").batch_size if job.uses("large") else 1
    console.print(summary_table(outcome.summary, batch_size, outcome.wall_s))
    console.print(f"rows: {rows_path(job)}", soft_wrap=True, highlight=False)


def _stream(
    job: JobConfig,
    console: Console,
    source: Source,
    left: int,
    run_id: str,
    loaders: Loaders | None,
) -> None:
    resources = resolve(job, ray.nodes())
    stages = ("fetch", *(role for role in ("small", "large") if job.uses(role)))
    console.print(
        f"run {run_id}: {left:,} of {source.rows:,} records, mode {job.mode}; "
        f"{resources.describe(job)}",
        highlight=False,
        soft_wrap=True,
    )
    board = ray.remote(num_cpus=0)(Board).remote(left)
    loaders = loaders or loaders_of(job, resources)
    ledger = RemoteLedger.start(job.faults, Journal(job.output.path, job.fingerprint()))
    run = Run(run_id, source, loaders, resources, BoardReporter(board), ledger)
    with ledger.explained(), Display(console, lambda: _counts(board), stages, left):
        write(build(job, run), job)


def _counts(board: Any) -> Mapping[str, StageCount] | None:
    try:
        counts: Mapping[str, StageCount] = ray.get(board.counts.remote(), timeout=5)
    except ray.exceptions.RayError:
        return None
    return counts
