"""What a job costs beside its models: of the one driver, and of a cluster's cores.

    python -m benchmarks.overheads FOLDER

The whole pipeline over real pictures, with models that answer by arithmetic at once: what is left
is reading, decoding and Ray. Counted are processor seconds, so that other work on the machine does
not count, from the start of the first quarter's last block to the last row written, so that what a
run does once does not either. Two sizes of block tell what goes with a block from what goes with a
row; more replicas, and more rows, tell whether the driver minds them.

The driver's seconds bound from above how long a block holds it up, as its threads may run side by
side; and one over them bounds what any number of GPUs makes of a job. The control store and a
node's daemon, of which there is also one each, are told beside it.
"""

import io
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console

from benchmarks.arithmetic_models import ArithmeticLarge, ArithmeticSmall
from benchmarks.fresh import Fresh
from benchmarks.memory_run import write_records
from benchmarks.pipeline_runs import at_moment
from benchmarks.processes import Watcher, cpu_by_kind
from benchmarks.record import write_result
from benchmarks.simulation_runs import local_ray

_EVERY_S = 0.25
_ESCALATION = 0.3
_COUNTED = 0.75
"""Of a run's blocks, the last ones."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        blocks: of it.
        rows_per_block: of each.
        replicas: of either model.
    """

    blocks: int
    rows_per_block: int
    replicas: int


TRIALS = (Trial(400, 8, 1), Trial(400, 64, 1), Trial(400, 8, 8), Trial(100, 256, 1))


def measure(trials: Sequence[Trial] = TRIALS) -> list[Row]:
    """One row per trial."""
    with tempfile.TemporaryDirectory(prefix="sgl-bench-") as folder:
        return [
            _row(trial, Path(folder) / f"{number}.parquet") for number, trial in enumerate(trials)
        ]


def _row(trial: Trial, records: Path) -> Row:
    write_records(trial.blocks * trial.rows_per_block, records)
    process = Fresh(streamed, records, trial)
    with Watcher(partial(cpu_by_kind, process.pid), _EVERY_S) as watcher:
        begun, ended = process.result()
    before, after = (at_moment(watcher.seen, moment) for moment in (begun, ended))
    blocks = _COUNTED * trial.blocks
    spent = {kind: (after[kind] - before[kind]) / blocks for kind in after}
    return asdict(trial) | {"blocks_per_s": blocks / (ended - begun), "block_cpu_s": spent}


def streamed(records: Path, trial: Trial) -> tuple[float, float]:
    """Run the pipeline once, with a Ray of its own.

    Args:
        records: of `write_records`.
        trial: what is run.

    Returns:
        time.time() of the start of the first block that counts, and of the last row written.
    """
    from jobs.run import run_job
    from pipeline.build import Loaders
    from pipeline.config import JobConfig

    pool = {"replicas": trial.replicas}
    with tempfile.TemporaryDirectory(prefix="sgl-bench-") as folder:
        job = JobConfig.model_validate(
            {
                "input": {"path": str(records)},
                "output": {"path": f"{folder}/out"},
                "models": {"small": {"path": "small"}, "large": {"path": "large"}},
                "pools": {"small": pool, "large": pool},
                "threshold": _ESCALATION,
                "rows_per_block": trial.rows_per_block,
            }
        )
        with local_ray(0):
            loaders = Loaders(ArithmeticSmall, ArithmeticLarge)
            run_job(job, Console(file=io.StringIO()), loaders)
        rows = Path(job.output.path) / "rows"
        starts = pq.read_table(rows, columns=["small_started_at"])["small_started_at"].to_numpy()
        first = np.sort(starts)[round((1 - _COUNTED) * len(starts))]
        begun = first.astype("datetime64[us]").astype(int) / 1e6
        return float(begun), max(file.stat().st_mtime for file in rows.iterdir())


def parts(rows: Sequence[Row], kind: str) -> tuple[float, float]:
    """Processor seconds of a kind of process: per block, and per row.

    Args:
        rows: of which the first two differ in rows per block alone.
        kind: of processes.
    """
    (some, few), (others, many) = (
        (row["block_cpu_s"][kind], row["rows_per_block"]) for row in rows[:2]
    )
    row_s = max(0.0, (others - some) / (many - few))
    return max(0.0, some - few * row_s), row_s


def driver_load(rows: Sequence[Row]) -> tuple[float, float]:
    """What the driver takes of a core in any case, and seconds per block besides: least squares."""
    rates = np.array([row["blocks_per_s"] for row in rows])
    loads = rates * [row["block_cpu_s"]["driver"] for row in rows]
    idle, block_s = np.linalg.lstsq(np.stack([np.ones_like(rates), rates], 1), loads)[0]
    return float(idle), float(block_s)


def report(rows: Sequence[Row]) -> str:
    """As a table of text."""
    lines = [f"{'blocks':>6} {'rows':>4} {'replicas':>8} {'blocks/s':>8}  CPU ms per block"]
    for row in rows:
        spent = ", ".join(f"{kind} {s * 1000:.1f}" for kind, s in row["block_cpu_s"].items())
        lines.append(
            f"{row['blocks']:>6} {row['rows_per_block']:>4} {row['replicas']:>8} "
            f"{row['blocks_per_s']:>8.1f}  {spent}"
        )
    for kind in rows[0]["block_cpu_s"]:
        block_s, row_s = parts(rows, kind)
        lines.append(f"{kind}: {block_s * 1000:.1f} ms per block, {row_s * 1000:.2f} ms per row")
    idle, block_s = driver_load(rows)
    lines.append(
        f"driver at any speed: {idle:.1%} of a core, and {block_s * 1000:.1f} ms per block"
    )
    return "\n".join(lines)


def main(folder: Path) -> None:
    """Measure, print and write."""
    rows = measure()
    print(report(rows))
    print(write_result("overheads", {"cores": len(os.sched_getaffinity(0))}, rows, folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
