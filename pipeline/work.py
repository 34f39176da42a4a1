"""What a block's rows say about the work on them, summed up so that it can be shown live.

Shapes: n rows of one block, H bins of a histogram.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Upper edges for scores, fill and retention."""
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)
"""Upper edges for forward batches."""


@dataclass(frozen=True)
class Histogram:
    """Weighted values by bin.

    Attributes:
        edges: (H,) upper ones, included; one more bin holds what is above them all.
        counts: (H + 1,) weights by bin.
        total: sum of weight x value.
    """

    edges: tuple[float, ...]
    counts: tuple[float, ...]
    total: float = 0.0

    @classmethod
    def of(
        cls, edges: tuple[float, ...], values: Iterable[float], weights: Iterable[float] = ()
    ) -> "Histogram":
        """Of values, each with weight 1 or its own; what is no number counts nowhere."""
        value_n = np.array(list(values), dtype=float)
        weight_n = np.array(list(weights), dtype=float)
        weight_n = weight_n if len(weight_n) else np.ones_like(value_n)
        known = np.isfinite(value_n)
        value_n, weight_n = value_n[known], weight_n[known]
        bins = np.searchsorted(edges, value_n, side="left")
        counts = np.bincount(bins, weight_n, minlength=len(edges) + 1)
        return cls(edges, tuple(map(float, counts)), float(value_n @ weight_n))

    def plus(self, other: "Histogram") -> "Histogram":
        """Both, of the same edges."""
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return Histogram(self.edges, counts, self.total + other.total)


_EDGES = {
    "exit_score": SHARES,
    "average_retention": SHARES,
    "batch_fill": SHARES,
    "forward_s": SECONDS,
}


@dataclass(frozen=True)
class Work:
    """Of one stage.

    Attributes:
        answered: rows that a model answered in it.
        prompt_tokens: of these, visual ones included.
        completion_tokens: of these.
        failed: rows that failed in it, by type of error.
        histograms: exit_score, average_retention (of pruned rows), batch_fill and forward_s, the
            device-seconds of a forward batch as its rows share them (both once per forward batch);
            those that the stage has.
    """

    answered: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    histograms: Mapping[str, Histogram] = field(default_factory=dict)

    def plus(self, other: "Work") -> "Work":
        """Both."""
        merged = dict(self.histograms)
        for name, one in other.histograms.items():
            merged[name] = merged[name].plus(one) if name in merged else one
        return Work(
            self.answered + other.answered,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.failed + other.failed,
            merged,
        )


def work_of(stage: str, table: pa.Table, rows: Iterable[int], batch_size: int = 1) -> Work:
    """What was done in a stage.

    Args:
        stage: fetch, small or large.
        table: the block behind it, in the output's columns.
        rows: those that were open before it.
        batch_size: of a full batch.
    """
    done = table.take(pa.array(list(rows), pa.int64()))
    errors = [error for error in done["error"].to_pylist() if error]
    failed = Counter(str(error["type"]) for error in errors if error["stage"] == stage)
    if stage == "fetch":
        return Work(failed=failed)
    of = {
        name: done[f"{stage}_{name}"].to_pylist()
        for name in ("prompt_tokens", "completion_tokens", "batch_rows", "gpu_s")
    }
    answered = [place for place, rows_of in enumerate(of["batch_rows"]) if rows_of]
    sizes = [of["batch_rows"][place] for place in answered]
    each = [1 / size for size in sizes]
    values = {
        "batch_fill": ([size / batch_size for size in sizes], each),
        "forward_s": ([of["gpu_s"][place] * of["batch_rows"][place] for place in answered], each),
    }
    own = {"small": "exit_score", "large": "average_retention"}[stage]
    values[own] = ([v for v in done[own].to_pylist() if v is not None], [])
    return Work(
        len(answered),
        sum(of["prompt_tokens"][place] for place in answered),
        sum(of["completion_tokens"][place] for place in answered),
        failed,
        {name: Histogram.of(_EDGES[name], *pair) for name, pair in values.items()},
    )
