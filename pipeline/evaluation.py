"""From the scores of rows to means with intervals: overall, by route, by group."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.scores import ROUTES, Scored
from sgl import metrics
from sgl.metrics.yes_no import YesNoCounts
from sgl.statistics import Estimate, mean_score
from sgl.types import Route


@dataclass(frozen=True)
class Line:
    """The scores of some rows.

    Attributes:
        name: of the group or the route.
        metric: that they were scored by; "several" where they differ.
        records: that were scored.
        failed: of these, rows without an answer, which score 0.
        answer: mean score of the output's answers.
        small_answer: of the small model's own ones; None where it never ran.
        yes_no: of the answers, where they were scored as yes or no.
    """

    name: str
    metric: str
    records: int
    failed: int
    answer: Estimate
    small_answer: Estimate | None
    yes_no: YesNoCounts | None


@dataclass(frozen=True)
class Evaluation:
    """Every figure of one output.

    Attributes:
        overall: all scored rows.
        routes: those that each model settled.
        groups: by the column that was asked for; empty without one.
        unscored: rows without accepted answers, or that the other output does not have.
        damaged: data files that could not be read.
    """

    overall: Line
    routes: tuple[Line, ...]
    groups: tuple[Line, ...]
    unscored: int
    damaged: int


def evaluate(scored: Scored) -> Evaluation:
    """Means with 95 % intervals; see sgl.statistics.mean_score."""
    every = np.ones(len(scored.routes), dtype=bool)
    routes = (
        _line(scored, name, scored.routes == place)
        for place, name in enumerate(ROUTES)
        if name != Route.FAILED and (scored.routes == place).any()
    )
    groups: tuple[Line, ...] = ()
    if scored.wanted.by is not None:
        named = sorted((name, place) for place, name in enumerate(scored.names))
        groups = tuple(
            _line(scored, name, scored.groups == place, scored.yes_no.get(name))
            for name, place in named
        )
    together = sum(scored.yes_no.values(), YesNoCounts()) if scored.yes_no else None
    overall = _line(scored, "all", every, together)
    return Evaluation(overall, tuple(routes), groups, scored.unscored, scored.damaged)


def _line(
    scored: Scored, name: str, rows: npt.NDArray[np.bool_], yes_no: YesNoCounts | None = None
) -> Line:
    clusters = None if scored.clusters is None else scored.clusters[rows]
    answer, small = (mean_score(scores[rows], clusters) for scores in scored.scores.values())
    used = {
        scored.wanted.metric_of(scored.names[place]) for place in np.unique(scored.groups[rows])
    }
    return Line(
        name=name,
        metric=used.pop() if len(used) == 1 else "several",
        records=int(rows.sum()),
        failed=int((scored.routes[rows] == ROUTES.index(Route.FAILED)).sum()),
        answer=answer,
        small_answer=small if scored.small_ran else None,
        yes_no=yes_no,
    )


def scale_of(metric: str) -> float:
    """The highest score of a measure."""
    return 10.0 if metric == metrics.CIDER_D else 1.0
