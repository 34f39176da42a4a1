"""Figures of an output added up table by table, in memory that does not grow with its rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.fail_safe import Decision
from sgl.metrics.text import exact_match
from sgl.types import Route

SUMMED = (
    *("small_gpu_s", "large_gpu_s", "small_flops", "large_flops", "cost_usd", "average_retention"),
    "consistency_gpu_s",
    *("small_prompt_tokens", "large_prompt_tokens", "small_padded_tokens", "large_padded_tokens"),
)
GREATEST = ("prune_layer", "keep_ratio")
READS = (
    *("answer", "route", "exit_score", "threshold", "decision", "small_answer", "error", "run_id"),
    *("small_started_at", "small_finished_at", "large_started_at", "large_finished_at"),
    *("large_batch_rows", *SUMMED, *GREATEST),
)
"""Columns of the output. And `answers`, where the input had them."""


@dataclass
class Span:
    """Of one run: its rows, and when each model started and ended."""

    rows: int = 0
    small_start: datetime | None = None
    small_end: datetime | None = None
    large_start: datetime | None = None
    large_end: datetime | None = None

    def add(self, rows: pa.Table) -> None:
        """Rows of this run."""
        self.rows += rows.num_rows
        self.small_start = earliest(self.small_start, pc.min(rows["small_started_at"]).as_py())
        self.large_start = earliest(self.large_start, pc.min(rows["large_started_at"]).as_py())
        self.small_end = latest(self.small_end, pc.max(rows["small_finished_at"]).as_py())
        self.large_end = latest(self.large_end, pc.max(rows["large_finished_at"]).as_py())


@dataclass
class Score:
    """Records that have accepted answers, and how many of the answers given are among them.

    Attributes:
        scored: records.
        right: of them, those whose answer is.
        small_ran: those that the small model answered.
        small_right: of them, those whose small answer is.
        of_route: records by route.
        right_of_route: likewise, those whose answer is.
    """

    scored: int = 0
    right: int = 0
    small_ran: int = 0
    small_right: int = 0
    of_route: Counter[str] = field(default_factory=Counter)
    right_of_route: Counter[str] = field(default_factory=Counter)

    def add(self, rows: pa.Table) -> None:
        """Rows, be there accepted answers or not."""
        if "answers" not in rows.column_names or not _scorable(rows.schema.field("answers").type):
            return
        rows = rows.filter(pc.is_valid(rows["answers"]))
        accepted = [[text for text in one if text] for one in rows["answers"].to_pylist()]
        right = _matches(rows["answer"], accepted)
        routes = rows["route"].to_pylist()
        self.scored += rows.num_rows
        self.right += sum(right)
        self.small_ran += rows.num_rows - rows["small_answer"].null_count
        self.small_right += sum(_matches(rows["small_answer"], accepted))
        self.of_route.update(routes)
        self.right_of_route.update(of for of, so in zip(routes, right, strict=True) if so)


@dataclass
class Tally:
    """Everything that a summary is made of.

    Attributes:
        rows: of all runs.
        exits: of the small route.
        escalated: that a batch of the large model held, or a failure in one.
        doubtful: that scored below their threshold.
        fail_safe: that were to be answered unpruned, whatever their score.
        failed: by type of error.
        batches: of the large model, each row counted as its share of its batch.
        batched: rows of them.
        sums: by column; a column without any value is not in it.
        values: how many values each of these sums has.
        greatest: likewise, the greatest value.
        spans: by run.
        score: against accepted answers.
    """

    rows: int = 0
    exits: int = 0
    escalated: int = 0
    doubtful: int = 0
    fail_safe: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    batches: float = 0.0
    batched: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    values: Counter[str] = field(default_factory=Counter)
    greatest: dict[str, float] = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)
    score: Score = field(default_factory=Score)

    def add(self, rows: pa.Table) -> None:
        """More rows."""
        self.rows += rows.num_rows
        self.exits += _number(pc.equal(rows["route"], Route.SMALL.value))
        self.escalated += rows.num_rows - rows["large_started_at"].null_count
        self.doubtful += _doubtful(rows)
        if "decision" in rows.column_names:  # rows of earlier versions have none
            self.fail_safe += _number(pc.equal(rows["decision"], Decision.FAIL_SAFE.value))
        self.failed.update(error["type"] for error in rows["error"].to_pylist() if error)
        self.batches += pc.sum(pc.divide(1.0, rows["large_batch_rows"])).as_py() or 0.0
        self.batched += rows.num_rows - rows["large_batch_rows"].null_count
        for name in (one for one in SUMMED if one in rows.column_names):
            if number := rows.num_rows - rows[name].null_count:
                self.sums[name] = self.sums.get(name, 0.0) + float(pc.sum(rows[name]).as_py())
                self.values[name] += number
        for name in GREATEST:
            if (value := pc.max(rows[name]).as_py()) is not None:
                self.greatest[name] = max(value, self.greatest.get(name, value))
        for run in pc.unique(rows["run_id"]).to_pylist():
            of_run = rows.filter(pc.equal(rows["run_id"], run))
            self.spans.setdefault(run, Span()).add(of_run)
        self.score.add(rows)


def earliest(*instants: datetime | None) -> datetime | None:
    """Of those that are known."""
    return min((one for one in instants if one is not None), default=None)


def latest(*instants: datetime | None) -> datetime | None:
    """Of those that are known."""
    return max((one for one in instants if one is not None), default=None)


def _number(flags: pa.ChunkedArray) -> int:
    return int(pc.sum(flags).as_py() or 0)


def _doubtful(rows: pa.Table) -> int:
    # Not "less than": a NaN score is doubtful too.
    scored = rows.filter(pc.and_(pc.is_valid(rows["threshold"]), pc.is_valid(rows["exit_score"])))
    return scored.num_rows - _number(pc.greater_equal(scored["exit_score"], scored["threshold"]))


def _scorable(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) and pa.types.is_string(type_.value_type))


def _matches(answers: pa.ChunkedArray, accepted: Sequence[Sequence[str]]) -> list[bool]:
    given: list[Any] = answers.to_pylist()
    return [
        answer is not None and exact_match(answer, texts) == 1
        for answer, texts in zip(given, accepted, strict=True)
    ]
