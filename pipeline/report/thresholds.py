"""What every threshold would have come to, and how that is known.

Below the run's own threshold both answers of every record that it touches are there: what is told
is measured. Above it, records that have exited would be escalated, and their large answers are not
there. Their cost is modelled: the mean of the escalated ones. Their quality is estimated on the
records that the run's probe asked the unpruned large model about: its quality there, less what
pruning cost it on escalated records that were probed, and told with the width of both samples.
That exited records would lose as much to pruning as escalated ones is an assumption. Without a
probe the quality is unknown, and nothing is told.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import hypot, sqrt

import numpy as np

from pipeline.report.bins import COSTS, Bins
from pipeline.report.moments import Moments
from pipeline.report.rows import Floats
from sgl.statistics import Estimate

ABOVE_ALL = 1.01
"""A threshold that no score reaches."""
_FULL = ("judged_full", "full", "full_squares")
_LOSS = ("judged_loss", "loss", "loss_squares")
_FEWEST = 10
"""Probed records from which a mean loss is told."""
_Z = 1.96


class Basis(StrEnum):
    """How the quality at a threshold is known."""

    MEASURED = "measured"
    PROBED = "probed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Point:
    """One threshold.

    Attributes:
        threshold: records whose exit score reaches it exit.
        exits: share of the records that would exit.
        escalated: share that would be escalated.
        modelled: share whose large answer this run did not ask for.
        costs: per record, by role and quantity, see bins.COSTS.
        quality: with its 95 % interval; None where it is unknown.
        basis: of the quality.
    """

    threshold: float
    exits: float
    escalated: float
    modelled: float
    costs: dict[str, float]
    quality: Estimate | None
    basis: Basis


@dataclass(frozen=True)
class Histogram:
    """Records by exit score.

    Attributes:
        edges: (E + 1,) of the classes.
        rows: (E,) records.
        right: (E,) of those with something to judge by, the expected number whose small answer is
            right.
        wrong: (E,) likewise, is wrong.
        without: records without a score.
    """

    edges: list[float]
    rows: list[int]
    right: list[float]
    wrong: list[float]
    without: int


def curve(bins: Bins) -> list[Point]:
    """A point for every edge, and one that lets nothing exit."""
    return [_point(bins, place) for place in range(len(bins.edges) + 1)]


def histogram(bins: Bins, classes: int = 50) -> Histogram:
    """Even classes.

    Args:
        bins: the sums.
        classes: wanted.
    """
    edges = np.linspace(0.0, 1.0, classes + 1)
    place = np.searchsorted(edges, bins.edges + 1e-9, side="right") - 1
    place = np.clip(place, 0, classes - 1)

    def summed(name: str) -> Floats:
        return np.bincount(place, bins.sums[name], minlength=classes).astype(np.float64)

    right = summed("small")
    return Histogram(
        edges=[round(float(one), 6) for one in edges],
        rows=[int(one) for one in summed("rows")],
        right=[round(float(one), 3) for one in right],
        wrong=[round(float(one), 3) for one in summed("judged") - right],
        without=int(bins.apart["rows"]),
    )


def _point(bins: Bins, place: int) -> Point:
    """Of the threshold at an edge: the classes from it on exit."""
    total = float(bins.sums["rows"].sum()) + bins.apart["rows"]
    escalated = float(bins.sums["rows"][:place].sum()) + bins.apart["escalated"]
    exits = float(bins.sums["rows"][place:].sum())
    missing = _missing(bins, "rows", "escalated", place)
    quality, basis = _quality(bins, place)
    at_end = place == len(bins.edges)
    return Point(
        threshold=ABOVE_ALL if at_end else round(float(bins.edges[place]), 6),
        exits=exits / total if total else 0.0,
        escalated=escalated / total if total else 0.0,
        modelled=missing / total if total else 0.0,
        costs={name: _cost(bins, name, place, missing) / (total or 1.0) for name in COSTS},
        quality=quality,
        basis=basis,
    )


def _missing(bins: Bins, every: str, asked: str, place: int) -> float:
    """Records below a threshold that the large model was not asked about."""
    return float((bins.sums[every] - bins.sums[asked])[:place].clip(0).sum())


def _cost(bins: Bins, name: str, place: int, missing: float) -> float:
    if name.startswith("small"):
        return float(bins.sums[name].sum()) + bins.apart[name]
    known = float(bins.sums[name][:place].sum())
    asked = float(bins.sums["escalated"].sum())
    mean = float(bins.sums[name].sum()) / asked if asked else 0.0
    return known + bins.apart[name] + missing * mean


def _quality(bins: Bins, place: int) -> tuple[Estimate | None, Basis]:
    judged = float(bins.sums["judged"].sum()) + bins.apart["judged"]
    known = Moments(judged, *(_known(bins, place, tail) for tail in ("", "_squares")))
    missing = _missing(bins, "judged", "judged_large", place)
    if not judged:
        return None, Basis.UNKNOWN
    if not missing:
        return known.estimate(), Basis.MEASURED
    whole, loss = _unpruned(bins, place), _loss(bins)
    if whole is None or loss is None:
        return None, Basis.UNKNOWN
    probed = Estimate(
        value=min(1.0, max(0.0, whole.value - loss.value)),
        low=whole.value - loss.value - hypot(whole.value - whole.low, loss.high - loss.value),
        high=whole.value - loss.value + hypot(whole.high - whole.value, loss.value - loss.low),
    )
    return _together(known, missing, probed, judged), Basis.PROBED


def _known(bins: Bins, place: int, tail: str) -> float:
    small = bins.sums[f"small{tail}"][place:].sum()
    return float(small + bins.sums[f"large{tail}"][:place].sum()) + bins.apart[f"large{tail}"]


def _loss(bins: Bins) -> Estimate | None:
    """What pruning cost on escalated records that were probed, by the normal distribution."""
    count, total, squares = (float(bins.sums[name].sum()) for name in _LOSS)
    if count < _FEWEST:
        return None
    mean = total / count
    margin = _Z * sqrt(max(0.0, squares / count - mean**2) / count)
    return Estimate(mean, mean - margin, mean + margin)


def _unpruned(bins: Bins, place: int) -> Estimate | None:
    """The unpruned large model's quality on exited records below a threshold."""
    exited = np.where(bins.sums["escalated"] > 0, 0.0, 1.0)[:place]
    sums = [float((bins.sums[name][:place] * exited).sum()) for name in _FULL]
    return Moments(*sums).estimate()


def _together(known: Moments, missing: float, probed: Estimate, judged: float) -> Estimate:
    """Two parts of one mean; the width of the sample that judges, and that of the probe."""
    share = missing / judged
    rest = Moments(judged - missing, known.total, known.squares).estimate()
    values = [(rest, 1 - share)] if rest else []
    parts = [*values, (probed, share)]
    mean = sum(one.value * part for one, part in parts)
    low = hypot(*((one.value - one.low) * part for one, part in parts))
    high = hypot(*((one.high - one.value) * part for one, part in parts))
    return Estimate(mean, max(0.0, mean - low), min(1.0, mean + high))
