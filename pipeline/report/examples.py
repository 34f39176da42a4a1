"""Whole rows that stand for many: the slowest, the dearest, the failed, and random samples."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.latency import durations_of
from pipeline.report.quality import Judged, Yardstick
from pipeline.report.rows import Chunk, Flags, Floats
from sgl.chance import Purpose, hash_of
from sgl.types import Route

_SHOWN = 10
_FAILED_SHOWN = 3
_CANDIDATES = 64
"""Of one chunk and kind, whose ids are hashed for the sample."""
_COLUMNS = (
    *("id", "question", "answer", "small_answer", "route", "exit_score", "confidence"),
    *("consistency", "threshold", "visual_tokens", "kept_tokens", "average_retention"),
    *("pruner", "prune_layer", "keep_ratio", "small_gpu_s", "large_gpu_s", "cost_usd", "flops"),
    "file",
)
Row = dict[str, Any]


@dataclass(frozen=True)
class ErrorKind:
    """Failed rows of one kind, and the first of them."""

    stage: str
    type: str
    rows: int
    examples: list[Row]


class Greatest:
    """The rows of the highest values.

    Args:
        count: how many.
    """

    def __init__(self, count: int = _SHOWN) -> None:
        self._count = count
        self._kept: list[tuple[float, int, Row]] = []
        self._seen = 0

    def add(self, chunk: Chunk, values: Floats, name: str) -> None:
        """More rows.

        Args:
            chunk: the rows.
            values: (n,); NaN is left out.
            name: under which a row is told its value.
        """
        ranked = np.where(np.isnan(values), -np.inf, values)
        least = self._kept[0][0] if len(self._kept) == self._count else -np.inf
        best = np.argsort(-ranked, kind="stable")[: self._count]
        for place in best[ranked[best] > least]:
            self._seen += 1
            row = row_at(chunk, int(place)) | {name: float(values[place])}
            # The number settles ties, so that rows are never compared.
            heapq.heappush(self._kept, (float(values[place]), -self._seen, row))
            if len(self._kept) > self._count:
                heapq.heappop(self._kept)

    def rows(self) -> list[Row]:
        """The greatest first."""
        return [row for *_, row in sorted(self._kept, key=lambda one: one[:2], reverse=True)]


class Errors:
    """Failed rows by stage and type."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], list[Row]] = defaultdict(list)

    def add(self, chunk: Chunk) -> None:
        """More rows, failed or not."""
        failed = chunk.table.select(["id", "error"]).filter(pc.is_valid(chunk.table["error"]))
        for row in failed.to_pylist():
            error = row["error"]
            kind = (error["stage"] or "", error["type"] or "")
            self._counts[kind] += 1
            if len(self._examples[kind]) < _FAILED_SHOWN:
                self._examples[kind].append({"id": row["id"], "message": error["message"]})

    def kinds(self) -> list[ErrorKind]:
        """The most frequent first."""
        return [
            ErrorKind(*kind, rows=count, examples=self._examples[kind])
            for kind, count in self._counts.most_common()
        ]


class Samples:
    """Rows of each kind, drawn at random, the same each time.

    Args:
        count: of each kind.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._kept: dict[str, list[tuple[int, Row]]] = defaultdict(list)
        self._random = np.random.default_rng(0)

    def add(self, chunk: Chunk, kinds: Mapping[str, Flags]) -> None:
        """More rows.

        Args:
            chunk: the rows.
            kinds: by name, (n,) which rows are of it.
        """
        for kind, flags in kinds.items():
            places = np.flatnonzero(flags)
            if not self._count or not len(places):
                continue
            if len(places) > _CANDIDATES:
                places = np.sort(self._random.choice(places, _CANDIDATES, replace=False))
            ids = chunk.table["id"].take(pa.array(places)).to_pylist()
            ranked = [
                (hash_of(name, Purpose.GALLERY), int(at))
                for name, at in zip(ids, places, strict=True)
            ]
            fresh = heapq.nsmallest(self._count, ranked)
            rows = [(number, row_at(chunk, place)) for number, place in fresh]
            merged = sorted(self._kept[kind] + rows, key=lambda one: one[0])
            self._kept[kind] = merged[: self._count]

    def rows(self) -> dict[str, list[Row]]:
        """By kind."""
        return {kind: [row for _, row in kept] for kind, kept in self._kept.items()}


def kinds_of(chunk: Chunk, judged: Judged, yardstick: Yardstick) -> dict[str, Flags]:
    """Which rows tell what, by name.

    exited and escalated; rescued, where only the large model was right, and lost, where only the
    small one was; without anything to tell right from wrong, changed, where they differ. A partial
    score counts as right from 0.5 on.
    """
    large = chunk.is_route(Route.LARGE) & chunk.escalated & ~np.isnan(judged.small)
    small_right, right = judged.small >= 0.5, judged.answer >= 0.5
    known = ~np.isnan(judged.answer)
    told = {"rescued": large & ~small_right & right, "lost": large & small_right & ~right & known}
    if yardstick is Yardstick.SAME:
        told = {"changed": large & ~small_right}
    return told | {"exited": chunk.is_route(Route.SMALL), "escalated": large}


def spent_of(chunk: Chunk) -> tuple[str, Floats]:
    """What a row's dearness is told in, and (n,) of it: dollars, else device-seconds."""
    usd = chunk.floats("cost_usd")
    if not np.isnan(usd).all():
        return "usd", usd
    return "device_s", sum_of(chunk.floats("small_gpu_s"), chunk.floats("large_gpu_s"))


def sum_of(first: Floats, second: Floats) -> Floats:
    """NaN only where both are."""
    both = np.isnan(first) & np.isnan(second)
    return np.where(both, np.nan, np.nan_to_num(first) + np.nan_to_num(second))


def seconds_of(chunk: Chunk) -> npt.NDArray[np.float64]:
    """(n,) from the start in the first model to the answer."""
    took = durations_of(chunk)
    alone = np.where(np.isnan(took["small"]), took["large"], took["small"])
    return np.where(np.isnan(took["escalated"]), alone, took["escalated"])


def row_at(chunk: Chunk, place: int) -> Row:
    """One row as plain data, in the columns that are told, null ones left out."""
    names = [*_COLUMNS, *(["answers"] if "answers" in chunk.table.column_names else [])]
    row: Row = chunk.table.select(names).slice(place, 1).to_pylist()[0]
    return {name: value for name, value in row.items() if value is not None}
