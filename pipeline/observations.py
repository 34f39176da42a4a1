"""What a probed output says about every cascade that might have been: losses and costs by record.

Calibration runs one job in which no record exits, nothing is pruned and every record is probed, so
that each row holds the small model's answer, the large model's unpruned and in every way to prune,
and what all of them cost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.config import PruningConfig
from pipeline.multiple_choice import OPTIONS, carried_options
from pipeline.output import Output
from pipeline.rowfiles import in_parallel, read, visible
from pipeline.schema import PROBE
from sgl.bounds import BINARY, DIFFERENCE, SHARE, Floats, Kind
from sgl.calibration import UNPRUNED, Losses, Pruned, Sample
from sgl.errors import ConfigurationError
from sgl.metrics import metric_named

BINARY_METRICS = frozenset({"exact_match", "multiple_choice", "yes_no", "box_iou"})
"""Scores that are 0 or 1, for which the exact bound may be used."""
_READ = (
    *("id", "route", "error", "exit_score", "small_answer", "answer", "answers", OPTIONS),
    *("small_flops", "large_flops", "small_gpu_s", "large_gpu_s", PROBE.name),
)
HEADROOM = 2.0
"""The dearest record there can be is taken to cost at most so many times the dearest seen."""


@dataclass(frozen=True)
class Prices:
    """USD per device-second, by model; a job without prices counts FLOPs."""

    small: float
    large: float


@dataclass(frozen=True)
class Observations:
    """Of n records and P ways to run the large model.

    Attributes:
        scores: (n,) exit scores.
        small: (n) answers.
        large: by way, (n) answers; None where that way failed.
        accepted: (n) accepted answers, empty lists where there are none.
        options: (n) texts of the answer options, likewise.
        small_cost: (n,).
        large_cost: by way, (n,).
        unit: of the costs: usd or flops.
        left_out: records without an unpruned answer to compare with, by reason.
    """

    scores: Floats
    small: list[str]
    large: dict[Pruned, list[str | None]]
    accepted: list[list[str]]
    options: list[list[str]]
    small_cost: Floats
    large_cost: dict[Pruned, Floats]
    unit: str
    left_out: dict[str, int]

    def sample(self) -> Sample:
        """For calibration."""
        ways = tuple(self.large)
        costs = np.stack([self.large_cost[way] for way in ways])
        return Sample(self.scores, ways, self.small_cost, costs)

    def scores_by(
        self, metric: str, answers: Sequence[str | None], references: Sequence[Sequence[str]]
    ) -> Floats:
        """(n,) of answers to these records; see `scores_of`."""
        return scores_of(metric, answers, references, self.options)

    def disagreement(self, metric: str) -> Losses:
        """1 - agreement with the unpruned large model's own answer."""
        references = [[text or ""] for text in self.large[UNPRUNED]]
        small = 1 - self.scores_by(metric, self.small, references)
        large = [1 - self.scores_by(metric, texts, references) for texts in self.large.values()]
        return Losses(small, np.stack(large), kind_of(metric))

    def accuracy_drop(self, metric: str) -> Losses:
        """What the unpruned large model's answer scores more than another one.

        Raises:
            ConfigurationError: some records have no accepted answers.
        """
        without = sum(not texts for texts in self.accepted)
        if without:
            raise ConfigurationError(
                f"--max-accuracy-drop: {without:,} records of the sample have no accepted answers "
                "(input.columns.answers); use --agreement, which needs none"
            )
        unpruned = self.scores_by(metric, self.large[UNPRUNED], self.accepted)
        small = unpruned - self.scores_by(metric, self.small, self.accepted)
        large = [
            unpruned - self.scores_by(metric, texts, self.accepted) for texts in self.large.values()
        ]
        return Losses(small, np.stack(large), DIFFERENCE)

    def escalations(self) -> Losses:
        """1 for each record that the large model gets."""
        return Losses(
            np.zeros_like(self.scores), np.ones((len(self.large), len(self.scores))), BINARY
        )

    def costs(self) -> Losses:
        """Of each record, in `unit`."""
        large = self.small_cost + np.stack(list(self.large_cost.values()))
        return Losses(self.small_cost, large, Kind(0.0, float(large.max()) * HEADROOM))


def kind_of(metric: str) -> Kind:
    """What is known of a metric's scores."""
    return BINARY if metric in BINARY_METRICS else SHARE


def way_of(pruning: PruningConfig) -> Pruned:
    """As calibration knows it."""
    return Pruned(pruning.prune_layer, pruning.keep_ratio, pruning.pruner)


def observe(
    output: Output, prunings: Sequence[PruningConfig], prices: Prices | None
) -> Observations:
    """Read the output of a job that answered everything unpruned and probed everything.

    Args:
        output: of that job.
        prunings: of its probe.
        prices: None counts FLOPs.

    Raises:
        ConfigurationError: it holds no record that could be used.
    """
    ways = [way_of(pruning) for pruning in prunings]
    return observed(*answered_rows(output), ways, prices)


def observed(
    rows: Sequence[dict[str, Any]],
    left_out: dict[str, int],
    ways: Sequence[Pruned],
    prices: Prices | None,
) -> Observations:
    """See `observe`; of rows that were read."""
    large: dict[Pruned, list[str | None]] = {UNPRUNED: [row["answer"] for row in rows]}
    small_usd, large_usd = (prices.small, prices.large) if prices else (None, None)
    cost = {UNPRUNED: costs_of(rows, "large_flops", "large_gpu_s", large_usd)}
    for number, way in enumerate(ways):
        probed = [row["probe"][number] for row in rows]
        large[way] = [one["answer"] for one in probed]
        cost[way] = costs_of(probed, "flops", "gpu_s", large_usd)
    return Observations(
        scores=np.array([row["exit_score"] for row in rows]),
        small=[row["small_answer"] for row in rows],
        large=large,
        accepted=[row.get("answers") or [] for row in rows],
        options=options_of(rows),
        small_cost=costs_of(rows, "small_flops", "small_gpu_s", small_usd),
        large_cost=cost,
        unit="flops" if prices is None else "usd",
        left_out=left_out,
    )


def answered_rows(
    output: Output, more: Sequence[str] = (), files: Sequence[str] | None = None
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Of a job that probed everything: the rows with an unpruned answer, by id, and how many not.

    Args:
        output: of that job.
        more: other columns that are wanted, where the output has them.
        files: names of some of its data files; None reads all.

    Raises:
        ConfigurationError: there is no row with an answer.
    """
    kept: list[dict[str, Any]] = []
    left_out: dict[str, int] = {}
    wanted = {*_READ, *more}
    names = visible(output, output.rows) if files is None else files
    for table in in_parallel(lambda name: read(output, output.rows, name), names):
        assert table is not None, "an audited output has damaged files"
        for row in table.select([n for n in table.column_names if n in wanted]).to_pylist():
            if row["answer"] is None or row["probe"] is None:
                reason = row["error"]["type"] if row["error"] else "not probed"
                left_out[reason] = left_out.get(reason, 0) + 1
            else:
                kept.append(row)
    if not kept:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        raise ConfigurationError(f"the sample holds no record that was answered: {reasons}")
    # Files come in the order in which records were done.
    return sorted(kept, key=lambda row: str(row["id"])), left_out


def costs_of(
    rows: Sequence[Mapping[str, Any]], flops: str, seconds: str, price: float | None
) -> Floats:
    """(n,); what failed has the mean of the others, as it was spent and not written down."""
    name, factor = (flops, 1.0) if price is None else (seconds, price)
    values = np.array([row[name] for row in rows], dtype=float) * factor
    known = values[np.isfinite(values)]
    return np.where(np.isfinite(values), values, known.mean() if len(known) else 0.0)


def options_of(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """(n) texts of the answer options; empty lists where a row has none."""
    return [carried_options(row.get(OPTIONS)) for row in rows]


def scores_of(
    metric: str,
    answers: Sequence[str | None],
    accepted: Sequence[Sequence[str]],
    options: Sequence[Sequence[str]],
) -> Floats:
    """(n,) 0 to 1, by a metric's name; no answer is as wrong as can be."""
    score = metric_named(metric)
    every = zip(answers, accepted, options, strict=True)
    return np.array([0.0 if text is None else score(text, *right) for text, *right in every])
