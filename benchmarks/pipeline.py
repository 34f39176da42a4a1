"""What the pipeline costs beside a bare loop of the same engine, on the demo's records.

Both run the same core classes with the same settings, in a fresh process each, one torch thread
per model, and take turns. Counted is the steady state: from the moment that both models are loaded
to the last row written. Before it nothing is read or decoded; starting Ray and loading the models
are told apart.

The pipeline has a process per model, and overlaps them where there are several cores; so there are
three figures. On one core nothing can overlap: rows per second there are the honest overhead.
Processor seconds say the same of several cores. Rows per second on several cores are what a user
sees.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import Ratio
from benchmarks.pipeline_runs import Measured, measured, run_loop, run_pipeline
from testbed.generate import write_parquet

RECORDS = 1200
"""Of the held-out split."""

Row = dict[str, Any]


def measure(rounds: int = 5, records: int = RECORDS) -> list[Row]:
    """One row per number of cores: one, and all there are."""
    every = sorted(os.sched_getaffinity(0))
    places = [every[:1], every] if len(every) > 1 else [every]
    with tempfile.TemporaryDirectory(prefix="sgl-bench-") as folder:
        path = Path(folder) / "heldout.parquet"
        write_parquet("heldout", records, path)
        return [_row(cores, rounds, records, path) for cores in places]


def _row(cores: Sequence[int], rounds: int, records: int, path: Path) -> Row:
    works = {"loop": run_loop, "pipeline": run_pipeline}
    done: dict[str, list[Measured]] = {name: [] for name in works}
    for turn in range(rounds):
        for name in sorted(works, reverse=bool(turn % 2)):
            done[name].append(measured(works[name], path, cores))
    loop, pipeline = done["loop"], done["pipeline"]
    assert all(one.answers == loop[0].answers for one in (*loop, *pipeline)), "answers differ"
    return {
        "cores": len(cores),
        "records": records,
        "rounds": rounds,
        "time": asdict(Ratio.of([p.wall_s for p in pipeline], [b.wall_s for b in loop])),
        "cpu": asdict(Ratio.of([p.cpu_s for p in pipeline], [b.cpu_s for b in loop])),
        "loop_s": median(one.wall_s for one in loop),
        "pipeline_s": median(one.wall_s for one in pipeline),
        "loop_start_s": median(one.start_s for one in loop),
        "pipeline_start_s": median(one.start_s for one in pipeline),
        "loop_cpu_s": median(one.cpu_s for one in loop),
        "pipeline_cpu_s": {
            kind: median(one.cpu_by_kind[kind] for one in pipeline)
            for kind in pipeline[0].cpu_by_kind
        },
    }


def report(rows: Sequence[Row]) -> str:
    """As a table of text."""
    lines = [
        f"{'cores':>5} {'rows/s loop':>12} {'pipeline':>9} {'time, pipeline / loop':>24} "
        f"{'CPU, pipeline / loop':>24} {'start-up':>10}"
    ]
    for row in rows:
        rates = (row["records"] / row[f"{name}_s"] for name in ("loop", "pipeline"))
        loop, pipeline = (f"{rate:.1f}" for rate in rates)
        lines.append(
            f"{row['cores']:>5} {loop:>12} {pipeline:>9} {Ratio(**row['time'])!s:>24} "
            f"{Ratio(**row['cpu'])!s:>24} {row['pipeline_start_s']:>8.1f} s"
        )
    for row in rows:
        parts = ", ".join(f"{kind} {s:.1f}" for kind, s in row["pipeline_cpu_s"].items())
        lines.append(
            f"CPU seconds on {row['cores']}: loop {row['loop_cpu_s']:.1f}; pipeline {parts}"
        )
    return "\n".join(lines)
