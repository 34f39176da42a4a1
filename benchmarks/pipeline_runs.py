"""One run of the demo's cascade, by the pipeline or by the bare loop, with its time and cost."""

import io
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console

from benchmarks.fresh import Fresh
from benchmarks.processes import Watcher, cpu_by_kind
from jobs.demo import demo_job
from pipeline.build import loaders_of
from pipeline.config import Mode
from pipeline.preflight import resolve

_EVERY_S = 0.25
_PATIENCE_S = 600
_NODES = [{"Alive": True, "Resources": {"CPU": 3.0}}]
"""What the loop runs on, as Ray would say it."""


@dataclass(frozen=True)
class Told:
    """What a run says of itself.

    Attributes:
        started: time.time() of its start.
        begun: of the first start of a model.
        ended: of the last row written.
        answers: by record.
    """

    started: float
    begun: float
    ended: float
    answers: dict[str, str | None]


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        wall_s: from the first start of a model to the last row written.
        cpu_by_kind: processor seconds of all its processes in that time, by kind of process.
        start_s: before that: start of Ray, if any, loading of the models, the first block.
        answers: by record.
    """

    wall_s: float
    cpu_by_kind: dict[str, float]
    start_s: float
    answers: dict[str, str | None]

    @property
    def cpu_s(self) -> float:
        """Of all processes."""
        return sum(self.cpu_by_kind.values())


def measured(run: Callable[[Path], Told], records: Path, cores: Collection[int]) -> Measured:
    """One run in a fresh process.

    Args:
        run: run_pipeline or run_loop.
        records: Parquet file of the testbed.
        cores: that it may use; those who watch it take others where there are any.
    """
    process = Fresh(run, records, cores=cores)
    with Watcher(partial(cpu_by_kind, process.pid), _EVERY_S) as watcher:
        told = process.result()
    before, after = (at_moment(watcher.seen, moment) for moment in (told.begun, told.ended))
    spent = {kind: after[kind] - before[kind] for kind in after}
    return Measured(told.ended - told.begun, spent, told.begun - told.started, told.answers)


def at_moment(seen: Sequence[tuple[float, dict[str, float]]], moment: float) -> dict[str, float]:
    """Between two looks, in proportion; beyond them, as between the last two."""
    late = next((i for i, (at, _) in enumerate(seen) if at >= moment), len(seen) - 1)
    (t0, one), (t1, other) = seen[max(late - 1, 0)], seen[late]
    share = (moment - t0) / (t1 - t0) if t1 > t0 else 0.0
    return {kind: one[kind] + share * (other[kind] - one[kind]) for kind in one}


def run_pipeline(records: Path) -> Told:
    """As `sgl run` does it, with a local Ray that is started for it."""
    from ray.data import DataContext

    from jobs.run import run_job

    # Nothing is read ahead while the models load: the loop cannot do so either.
    DataContext.get_current().wait_for_min_actors_s = _PATIENCE_S
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="sgl-bench-") as folder:
        job = demo_job(Mode.CASCADE, Path(folder), records)
        run_job(job, Console(file=io.StringIO()))
        rows = Path(job.output.path) / "rows"
        ended = max(file.stat().st_mtime for file in rows.iterdir())
        return _told(started, ended, rows)


def run_loop(records: Path) -> Told:
    """Without Ray."""
    from benchmarks.bare_loop import answer_all

    started = time.time()
    with tempfile.TemporaryDirectory(prefix="sgl-bench-") as folder:
        job = demo_job(Mode.CASCADE, Path(folder), records)
        loaders = loaders_of(job, resolve(job, _NODES))
        output = Path(folder) / "rows.parquet"
        answer_all(job, loaders.small(), loaders.large(), output)
        return _told(started, time.time(), output)


def _told(started: float, ended: float, rows: Path) -> Told:
    table = pq.read_table(rows, columns=["id", "answer", "small_started_at"])
    answers = dict(zip(table["id"].to_pylist(), table["answer"].to_pylist(), strict=True))
    return Told(started, pc.min(table["small_started_at"]).as_py().timestamp(), ended, answers)
