"""Summaries as tables for a terminal."""

from rich.table import Table

from pipeline.bill import Bill, PoolBill
from pipeline.measured import Measured, Part
from pipeline.summary import Accuracy, Summary
from sgl.statistics import unseen


def summary_table(
    summary: Summary,
    batch_size: int,
    wall_s: float,
    bill: Bill,
    measured: Measured | None = None,
) -> Table:
    """Every figure of one run.

    Args:
        summary: of the output.
        batch_size: of the large model, for the fill.
        wall_s: of the run, start-up included.
        bill: of all runs of the output.
        measured: by the run's probe.
    """
    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column()
    for name, value in _rows(summary, batch_size, wall_s):
        table.add_row(name, value)
    for role, pool in bill.pools.items():
        table.add_row(f"{role} pool", pool_bill(pool))
    if bill.without_record:
        table.add_row("runs of unknown time", ", ".join(bill.without_record))
    if measured:
        for name, value in _agreement(measured):
            table.add_row(name, value)
        table.add_row("FLOPs of the large model alone, saved", str(measured.saved))
    return table


def _agreement(measured: Measured) -> list[tuple[str, str]]:
    """Where some answers are fail-safe, of both kinds apart: those agree by construction."""
    whole = Part(measured.records, measured.agreement)
    rows = [("agreement with the large model alone", _part(whole))]
    if measured.fail_safe:
        if measured.cascade:
            rows.append(("  as the cascade answered", _part(measured.cascade)))
        rows.append(("  as the fail-safe did", _part(measured.fail_safe)))
    return rows


def _part(part: Part) -> str:
    return f"{part.agreement} on {part.records:,} probed records"


def _rows(s: Summary, batch_size: int, wall_s: float) -> list[tuple[str, str]]:
    rows = [("records", f"{s.records:,} ({s.run_records:,} in this run)")]
    rows.append(("settled by the small model", share(s.exits, s.records)))
    rows.append(("put through the large model", share(s.escalated, s.records)))
    if s.fail_safe:
        rows.append(("  fail-safe, after the alarm", share(s.fail_safe, s.records)))
    rows.append(("failed", failures(s)))
    if s.accuracy is not None:
        rows.append(("accuracy", accuracy(s.accuracy)))
    again = f", {s.consistency_gpu_s:.1f} of them for consistency" if s.consistency_gpu_s else ""
    rows.append(("small model, device-seconds", f"{s.small_gpu_s:.1f}{again}"))
    rows.append(("large model, device-seconds", f"{s.large_gpu_s:.1f}"))
    rows.append(("FLOPs", f"{s.small_flops + s.large_flops:.3g}"))
    if s.cost_usd is not None:
        rows.append(("cost", f"{s.cost_usd:.4f} USD"))
    if (fill := s.fill(batch_size)) is not None:
        rows.append(("large batches", f"{s.large_batches:.0f}, {fill:.1%} full of {batch_size}"))
        rows.append(("pruning of the large model", pruning(s)))
    rows += [(f"padding, {role} model", f"{part:.1%}") for role, part in s.padding.items()]
    if s.overlap_s is not None:
        rows.append(("large stage started", overlap(s.overlap_s)))
    if s.stream_s:
        rate = s.timed_records / s.stream_s
        rows.append(("models at work", f"{s.stream_s:.1f} s, {rate:.1f} rows/s"))
    rows.append(("wall time", f"{wall_s:.1f} s, start-up included"))
    return rows


def pool_bill(pool: PoolBill) -> str:
    """What a pool's reserved time went into."""
    parts = {
        "rows": pool.rows_s,
        "probe": pool.probe_s,
        "start-up": pool.startup_s,
        "idle": pool.idle_s,
        "recomputed": pool.recomputed_s,
        "unexplained": pool.unexplained_s,
    }
    told = (f"{name} {part / (pool.pool_s or 1.0):.1%}" for name, part in parts.items())
    price = "" if pool.usd is None else f", {pool.usd:.4f} USD"
    return f"{pool.pool_s:.1f} device-seconds reserved{price}: {', '.join(told)}"


def share(part: int, whole: int) -> str:
    """A count and its share."""
    return f"{part:,} ({part / whole:.1%})" if whole else f"{part:,}"


def without_width(count: int, what: str) -> str:
    """What an interval without width says, one line.

    Args:
        count: of what is resampled.
        what: that is.
    """
    return (
        f"an interval without width: not one of {count:,} {what} differs, so that resamples do "
        f"not; a difference that {unseen(count):.1%} of all {what} have could have gone unseen"
    )


def failures(summary: Summary) -> str:
    """Failed records by error type."""
    total = sum(summary.failed.values())
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(summary.failed.items()))
    return f"{total:,} ({kinds})" if total else "0"


def accuracy(scored: Accuracy) -> str:
    """Overall, by route, and of the small model alone."""
    parts = [f"{route} route {value:.1%}" for route, value in scored.by_route.items()]
    if scored.small_alone is not None:
        parts.append(f"small model alone {scored.small_alone:.1%}")
    return f"{scored.overall:.1%} ({', '.join(parts)})"


def overlap(seconds: float) -> str:
    """When the large stage started."""
    side = "before" if seconds >= 0 else "after"
    return f"{abs(seconds):.1f} s {side} the small stage ended"


def pruning(summary: Summary) -> str:
    """Prune layer, keep ratio and average retention, which only mean something together."""
    if summary.average_retention is None:
        return "none"
    return (
        f"prune layer {summary.prune_layer:g}, keep ratio {summary.keep_ratio:g}, "
        f"average retention {summary.average_retention:.1%}"
    )
