"""What a run came to, computed from the rows that it wrote and from nothing else."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pa_dataset

from infra.s3 import DEFAULT, StorageConfig
from infra.storage import list_files, locate
from pipeline.schema import OUTPUT
from sgl.metrics.text import exact_match
from sgl.types import Route


@dataclass(frozen=True)
class Accuracy:
    """Shares of records whose answer exactly matches an accepted one (sgl/metrics/text.py), 0 to 1.

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
        doubtful: scored below the threshold; in a cascade the same as escalated.
        failed: by error type.
        accuracy: None where no record has accepted answers.
        small_gpu_s: device-seconds of the small model.
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
    failed: dict[str, int]
    accuracy: Accuracy | None
    small_gpu_s: float
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


def read_rows(folder: str, storage: StorageConfig = DEFAULT) -> pa.Table:
    """Every row of an output's `rows` folder, without importance maps."""
    filesystem, _ = locate(folder, storage)
    files = list_files(folder, storage)
    data = pa_dataset.dataset(files, filesystem=filesystem, format="parquet")
    names = [name for name in data.schema.names if name in OUTPUT.names or name == "answers"]
    return data.to_table(columns=names)


def summarise(rows: pa.Table, run_id: str) -> Summary:
    """Totals of an output.

    Args:
        rows: see read_rows.
        run_id: the run whose times are told, or the latest one if it wrote no rows.
    """
    run = rows.filter(pc.equal(rows["run_id"], run_id))
    run_records = run.num_rows
    if not run_records:
        run = rows.filter(pc.equal(rows["run_id"], pc.max(rows["run_id"])))
    small_end, large_start = _last(run, "small_finished_at"), _first(run, "large_started_at")
    start = _earliest(_first(run, "small_started_at"), large_start)
    end = _latest(small_end, _last(run, "large_finished_at"))
    both = small_end is not None and large_start is not None
    return Summary(
        records=rows.num_rows,
        exits=_count(rows, Route.SMALL),
        escalated=rows.num_rows - rows["large_started_at"].null_count,
        doubtful=_doubtful(rows),
        failed=dict(Counter(error["type"] for error in rows["error"].to_pylist() if error)),
        accuracy=_accuracy(rows),
        small_gpu_s=_sum(rows, "small_gpu_s"),
        large_gpu_s=_sum(rows, "large_gpu_s"),
        small_flops=_sum(rows, "small_flops"),
        large_flops=_sum(rows, "large_flops"),
        cost_usd=pc.sum(rows["cost_usd"]).as_py(),
        large_batches=pc.sum(pc.divide(1.0, rows["large_batch_rows"])).as_py() or 0.0,
        large_rows=rows.num_rows - rows["large_batch_rows"].null_count,
        padding=_padding(rows),
        prune_layer=pc.max(rows["prune_layer"]).as_py(),
        keep_ratio=pc.max(rows["keep_ratio"]).as_py(),
        average_retention=pc.mean(rows["average_retention"]).as_py(),
        run_records=run_records,
        timed_records=run.num_rows,
        stream_s=(end - start).total_seconds() if start and end else 0.0,
        overlap_s=(small_end - large_start).total_seconds() if both else None,  # type: ignore[operator]
    )


def _accuracy(rows: pa.Table) -> Accuracy | None:
    if "answers" not in rows.column_names or not _scorable(rows.schema.field("answers").type):
        return None
    scored = rows.filter(pc.is_valid(rows["answers"]))
    if not scored.num_rows:
        return None
    accepted = [[text for text in one if text] for one in scored["answers"].to_pylist()]
    right = _matches(scored["answer"], accepted)
    small = _matches(scored["small_answer"], accepted)
    routes = scored["route"].to_pylist()
    by_route = {
        route: _mean(r for r, of in zip(right, routes, strict=True) if of == route)
        for route in (Route.SMALL.value, Route.LARGE.value)
        if route in routes
    }
    ran = scored["small_answer"].null_count < scored.num_rows
    return Accuracy(_mean(right), by_route, _mean(small) if ran else None)


def _scorable(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) and pa.types.is_string(type_.value_type))


def _matches(answers: pa.ChunkedArray, accepted: Sequence[Sequence[str]]) -> list[bool]:
    given: list[Any] = answers.to_pylist()
    return [
        answer is not None and bool(exact_match(answer, texts))
        for answer, texts in zip(given, accepted, strict=True)
    ]


def _mean(values: Iterable[bool]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def _count(rows: pa.Table, route: Route) -> int:
    return int(pc.sum(pc.equal(rows["route"], route.value)).as_py() or 0)


def _doubtful(rows: pa.Table) -> int:
    # Not "less than": a NaN score is doubtful too.
    scored = rows.filter(pc.and_(pc.is_valid(rows["threshold"]), pc.is_valid(rows["exit_score"])))
    return scored.num_rows - int(
        pc.sum(pc.greater_equal(scored["exit_score"], scored["threshold"])).as_py() or 0
    )


def _sum(rows: pa.Table, name: str) -> float:
    return float(pc.sum(rows[name]).as_py() or 0.0)


def _padding(rows: pa.Table) -> dict[str, float]:
    """By model, where it ran."""
    padded = {role: _sum(rows, f"{role}_padded_tokens") for role in ("small", "large")}
    return {
        role: 1 - _sum(rows, f"{role}_prompt_tokens") / total
        for role, total in padded.items()
        if total
    }


def _first(rows: pa.Table, name: str) -> datetime | None:
    return pc.min(rows[name]).as_py()


def _last(rows: pa.Table, name: str) -> datetime | None:
    return pc.max(rows[name]).as_py()


def _earliest(*instants: datetime | None) -> datetime | None:
    return min((one for one in instants if one is not None), default=None)


def _latest(*instants: datetime | None) -> datetime | None:
    return max((one for one in instants if one is not None), default=None)
