"""How far the simulation of the pipeline is from the pipeline, on this machine.

    python -m benchmarks.simulation [FOLDER]

One probe run measures seconds and exit scores. From it alone other runs are foretold, on other
records: with another threshold, with other blocks, with other batches. Then they are run.
Compared is the time from the first start of a model to the last end of one.
"""

import io
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console

from benchmarks.record import use_threads, write_result
from jobs.cluster import cluster
from jobs.demo import demo_job
from jobs.run import run_job
from jobs.settings import checked
from pipeline.config import JobConfig, Mode
from pipeline.plan.costs import Overheads, pool_cost
from pipeline.plan.measured import Measured, of_output
from pipeline.plan.model import Job, Split
from pipeline.plan.simulation import simulate
from pipeline.ray_config import RayConfig
from testbed.generate import write_parquet

PROBED, RECORDS = 600, 1200
"""Records of the probe, of the validation split; and of each run, of the held-out one."""
_SEEDS = 5

Row = dict[str, Any]


@dataclass(frozen=True)
class Configuration:
    """What differs from the demo.

    Attributes:
        threshold: from which exit score the small model's answer stands.
        rows_per_block: that travel together.
        batch_rows: of the large model.
    """

    threshold: float = 0.964
    rows_per_block: int = 64
    batch_rows: int = 16


CONFIGURATIONS = (
    Configuration(threshold=0.5),
    Configuration(rows_per_block=32),
    Configuration(threshold=1.1, rows_per_block=128),
    Configuration(batch_rows=8),
)


@dataclass(frozen=True)
class Probe:
    """What one run told.

    Attributes:
        measured: its seconds.
        scores: exit scores of its rows.
    """

    measured: Measured
    scores: tuple[float, ...]


def foretold(probe: Probe, one: Configuration, records: int, cores: int) -> float:
    """Seconds between the first start of a model and the last end of one: a mean of simulations.

    Args:
        probe: all that is known.
        one: what is run.
        records: of the run.
        cores: of the machine.
    """
    large = probe.measured.large
    assert large is not None, "some of the probe's records escalate"
    job = Job(
        records=records,
        escalation=float(np.mean(np.asarray(probe.scores) < one.threshold)),
        small=pool_cost(probe.measured.small),
        large=replace(pool_cost(large), batch_rows=one.batch_rows),
        overheads=Overheads(),
        cores=cores,
    )
    split = Split(1, 1, one.rows_per_block)
    return float(np.mean([simulate(job, split, seed).stream_s for seed in range(_SEEDS)]))


def compared(probe: Probe, one: Configuration, records: int, cores: int, took_s: float) -> Row:
    """A simulation beside a run.

    Args:
        probe: see `foretold`.
        one: see `foretold`.
        records: see `foretold`.
        cores: see `foretold`.
        took_s: of the run.
    """
    simulated_s = foretold(probe, one, records, cores)
    error = simulated_s / took_s - 1
    return asdict(one) | {
        "records": records,
        "measured_s": took_s,
        "simulated_s": simulated_s,
        "error": error,
    }


def measure(configurations: Sequence[Configuration] = CONFIGURATIONS) -> list[Row]:
    """One row per configuration."""
    return list(_rows(configurations))


def _rows(configurations: Sequence[Configuration]) -> Iterator[Row]:
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="sgl-bench-") as name, cluster(RayConfig()):
        folder = Path(name)
        write_parquet("validation", PROBED, folder / "probe.parquet")
        write_parquet("heldout", RECORDS, folder / "heldout.parquet")
        probe = _probe(folder)
        for number, one in enumerate(configurations):
            job = _job(one, folder / str(number), folder / "heldout.parquet")
            took_s = run_job(job, Console(file=io.StringIO())).summary.stream_s
            yield compared(probe, one, RECORDS, cores, took_s)


def _probe(folder: Path) -> Probe:
    job = _job(Configuration(), folder / "probe", folder / "probe.parquet")
    output = run_job(job, Console(file=io.StringIO())).output
    table = pq.read_table(output.rows, columns=["exit_score"])
    return Probe(of_output(output), tuple(table["exit_score"].drop_null().to_pylist()))


def _job(one: Configuration, folder: Path, records: Path) -> JobConfig:
    data = demo_job(Mode.CASCADE, folder, records).model_dump(exclude_unset=True)
    data["threshold"] = one.threshold
    data["rows_per_block"] = one.rows_per_block
    data["models"]["large"]["batch_size"] = one.batch_rows
    return checked(data)


def report(rows: Sequence[Row]) -> str:
    """As a table of text."""
    lines = [f"{'threshold':>9} {'block':>5} {'batch':>5} {'measured':>9} {'simulated':>9} error"]
    lines += [
        f"{row['threshold']:>9g} {row['rows_per_block']:>5} {row['batch_rows']:>5} "
        f"{row['measured_s']:>7.1f} s {row['simulated_s']:>7.1f} s {row['error']:+.1%}"
        for row in rows
    ]
    return "\n".join(lines)


def main(folder: Path | None) -> None:
    """Measure, print and, where a folder is named, write."""
    use_threads(1)
    rows = measure()
    print(report(rows))
    if folder is not None:
        settings = {"probed": PROBED, "records": RECORDS, "seeds": _SEEDS}
        print(write_result("simulation", settings, rows, folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
