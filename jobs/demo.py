"""`sgl demo`: small only, large only and the cascade on the testbed's held-out records."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from jobs.cluster import cluster
from jobs.run import Outcome, report, run_job
from jobs.settings import checked
from jobs.tables import overlap, pruning
from pipeline.config import JobConfig, Mode
from pipeline.ray_config import RayConfig
from pipeline.summary import Summary
from testbed.generate import write_parquet

SETTINGS = Path(__file__).with_name("demo.yaml")
RECORDS = 600
"""Of the held-out split."""


@dataclass(frozen=True)
class Demo:
    """Both runs. The small model alone is read off the cascade: no step is done twice."""

    cascade: Outcome
    large: Outcome


def run_demo(console: Console, output: str | None = None, limit: int | None = None) -> Demo:
    """Run the cascade, then the large model alone, and print how they compare.

    Args:
        console: for progress and tables.
        output: directory; None means a new one below ./out.
        limit: only the first records.
    """
    folder = Path(output or Path("out") / f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    records = folder / "heldout.parquet"
    write_parquet("heldout", limit or RECORDS, records)
    with cluster(RayConfig()):
        cascade = run_job(demo_job(Mode.CASCADE, folder, records), console)
        report(cascade, console)
        large = run_job(demo_job(Mode.LARGE, folder, records), console)
    demo = Demo(cascade, large)
    console.print()
    console.print(comparison(demo))
    for line in remarks(demo):
        console.print(line, highlight=False, soft_wrap=True)
    return demo


def demo_job(mode: Mode, folder: Path, records: Path) -> JobConfig:
    """The settings of one of the two runs."""
    data: dict[str, Any] = yaml.safe_load(SETTINGS.read_text())
    if mode is Mode.LARGE:
        data = {name: data[name] for name in ("decoding", "models")}
    data["mode"] = mode.value
    data["input"] = {"path": str(records)}
    data["output"] = {"path": str(folder / mode.value)}
    return checked(data)


def comparison(demo: Demo) -> Table:
    """One row per way to answer the same records."""
    cascade, large = demo.cascade.summary, demo.large.summary
    scored, alone = cascade.accuracy, large.accuracy
    assert scored is not None
    assert alone is not None
    table = Table("", box=None, header_style="bold")
    for header in ("accuracy", "large model ran for", "device-seconds", "FLOPs", "of large only"):
        table.add_column(header, justify="right")
    every = large.large_flops
    rows = (
        ("small only", scored.small_alone, 0, cascade.small_gpu_s, cascade.small_flops),
        ("large only", alone.overall, large.escalated, large.large_gpu_s, every),
        ("cascade", scored.overall, cascade.escalated, _seconds(cascade), _flops(cascade)),
    )
    for name, accuracy, ran, seconds, flops in rows:
        table.add_row(
            name,
            "" if accuracy is None else f"{accuracy:.1%}",
            f"{ran:,} of {cascade.records:,}",
            f"{seconds:.1f}",
            f"{flops:.3g}",
            f"{flops / every:.0%}",
        )
    return table


def remarks(demo: Demo) -> list[str]:
    """What else the demo shows, one line each."""
    summary = demo.cascade.summary
    batch_size = demo.cascade.job.model("large").batch_size
    fill = summary.fill(batch_size)
    lines = [
        f"escalation rate {summary.escalated / summary.records:.1%}: "
        f"{summary.doubtful:,} records scored below the threshold {demo.cascade.job.threshold:g}, "
        f"and the large model ran for {summary.escalated:,}",
        f"pruning: {pruning(summary)}",
    ]
    if fill is not None:
        batches = f"{summary.large_batches:.0f} batches of up to {batch_size} records"
        lines.append(f"the large model ran {batches}, {fill:.1%} full")
    if summary.overlap_s is not None:
        lines.append(f"the large stage started {overlap(summary.overlap_s)}")
    return lines


def _seconds(summary: Summary) -> float:
    return summary.small_gpu_s + summary.large_gpu_s


def _flops(summary: Summary) -> float:
    return summary.small_flops + summary.large_flops
