"""What a run came to, computed from the rows that it wrote and from nothing else."""

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.dataset as pa_dataset

from pipeline.output import Output
from pipeline.rowfiles import visible
from pipeline.tally import READS, Score, Span, Tally, earliest, latest
from sgl.types import Route

_ROWS = 4096
_FILES_AHEAD = 4
_FILES = 64
"""Of one dataset, which keeps the footers of all its files: some 70 kB each."""


@dataclass(frozen=True)
class Accuracy:
    """Shares of records whose answer equals one of the accepted answers, 0 to 1.

    Attributes:
        overall: of all records that have accepted answers; a failed one counts as wrong.
        by_route: of those that the small or the large model settled.
        small_alone: what the small model's own answers would have given; None where it never ran.
    """

    overall: float
    by_route: dict[str, float]
    small_alone: float | None


@dataclass(frozen=True)
class Summary:
    """Totals over the rows of an output directory.

    Attributes:
        records: rows.
        exits: settled by the small model.
        escalated: put through the large model.
        doubtful: scored below the threshold; in a cascade the same as escalated, until an alarm.
        fail_safe: answered by the unpruned large model because of an alarm.
        failed: by error type.
        accuracy: None where no record has accepted answers.
        small_gpu_s: device-seconds of the small model.
        consistency_gpu_s: of them, those of its consistency pass.
        large_gpu_s: of the large one.
        small_flops: of the small model.
        large_flops: of the large one.
        cost_usd: None without prices.
        large_batches: that the large model ran.
        large_rows: that they held.
        padding: by model, the share of its prompt tokens that was padding.
        prune_layer: None where nothing was pruned.
        keep_ratio: likewise.
        average_retention: mean over the pruned records; likewise.
        run_records: rows of this run.
        timed_records: rows of the run that the times are of: this one, or the latest that wrote.
        stream_s: from the first start of a model in it to the last end.
        overlap_s: how long before the small stage's end the large one started; None unless both
            ran; negative if they took turns.
    """

    records: int
    exits: int
    escalated: int
    doubtful: int
    fail_safe: int
    failed: dict[str, int]
    accuracy: Accuracy | None
    small_gpu_s: float
    consistency_gpu_s: float
    large_gpu_s: float
    small_flops: float
    large_flops: float
    cost_usd: float | None
    large_batches: float
    large_rows: int
    padding: dict[str, float]
    prune_layer: float | None
    keep_ratio: float | None
    average_retention: float | None
    run_records: int
    timed_records: int
    stream_s: float
    overlap_s: float | None

    def fill(self, batch_size: int) -> float | None:
        """Rows per large batch as a share of a full one; None where none ran."""
        if not self.large_batches:
            return None
        return self.large_rows / (self.large_batches * batch_size)


def read_rows(output: Output) -> Iterator[pa.Table]:
    """The rows of an output, some at a time, in the columns that count."""
    filesystem, folder = output.located(output.rows)
    files = [posixpath.join(folder, name) for name in visible(output, output.rows)]
    for start in range(0, len(files), _FILES):
        some = files[start : start + _FILES]
        data = pa_dataset.dataset(some, filesystem=filesystem, format="parquet")
        names = [name for name in data.schema.names if name in READS or name == "answers"]
        batches = data.to_batches(
            columns=names, batch_size=_ROWS, batch_readahead=1, fragment_readahead=_FILES_AHEAD
        )
        yield from map(pa.table, batches)


def summarise(tables: Iterable[pa.Table], run_id: str) -> Summary:
    """Totals of an output.

    Args:
        tables: see read_rows.
        run_id: the run whose times are told, or the latest one if it wrote no rows.
    """
    tally = Tally()
    for rows in tables:
        tally.add(rows)
    sums, spans = tally.sums, tally.spans
    span = spans.get(run_id) or spans.get(max(spans, default=""), Span())
    start = earliest(span.small_start, span.large_start)
    end = latest(span.small_end, span.large_end)
    both = span.small_end is not None and span.large_start is not None
    return Summary(
        records=tally.rows,
        exits=tally.exits,
        escalated=tally.escalated,
        doubtful=tally.doubtful,
        fail_safe=tally.fail_safe,
        failed=dict(tally.failed),
        accuracy=_accuracy(tally.score),
        small_gpu_s=sums.get("small_gpu_s", 0.0),
        consistency_gpu_s=sums.get("consistency_gpu_s", 0.0),
        large_gpu_s=sums.get("large_gpu_s", 0.0),
        small_flops=sums.get("small_flops", 0.0),
        large_flops=sums.get("large_flops", 0.0),
        cost_usd=sums.get("cost_usd"),
        large_batches=tally.batches,
        large_rows=tally.batched,
        padding=_padding(sums),
        prune_layer=tally.greatest.get("prune_layer"),
        keep_ratio=tally.greatest.get("keep_ratio"),
        average_retention=_average_retention(tally),
        run_records=spans[run_id].rows if run_id in spans else 0,
        timed_records=span.rows,
        stream_s=(end - start).total_seconds() if start and end else 0.0,
        overlap_s=(span.small_end - span.large_start).total_seconds() if both else None,  # type: ignore[operator]
    )


def _accuracy(score: Score) -> Accuracy | None:
    if not score.scored:
        return None
    by_route = {
        route: score.right_of_route[route] / score.of_route[route]
        for route in (Route.SMALL.value, Route.LARGE.value)
        if score.of_route[route]
    }
    small = score.small_right / score.scored if score.small_ran else None
    return Accuracy(score.right / score.scored, by_route, small)


def _average_retention(tally: Tally) -> float | None:
    pruned = tally.values["average_retention"]
    return tally.sums["average_retention"] / pruned if pruned else None


def _padding(sums: dict[str, float]) -> dict[str, float]:
    """By model, where it ran."""
    padded = {role: sums.get(f"{role}_padded_tokens", 0.0) for role in ("small", "large")}
    return {
        role: 1 - sums.get(f"{role}_prompt_tokens", 0.0) / total
        for role, total in padded.items()
        if total
    }
