"""Sums by class of exit score: all that is needed to say what another threshold would have done."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pipeline.report.quality import Judged
from pipeline.report.rows import Chunk, Floats

_CLASSES = 200
_QUANTITIES = ("s", "usd", "flops")
COSTS = tuple(f"{role}_{what}" for role in ("small", "large") for what in _QUANTITIES)
"""Device-seconds, US dollars and FLOPs of each model."""
_COUNTS = ("rows", "escalated", "judged", "judged_large", "judged_full", "judged_loss")
_SCORES = ("small", "large", "full", "loss")
"""Loss: by how much the large model was better unpruned, where it was asked in both ways."""


@dataclass(frozen=True)
class Prices:
    """Of a device-hour in US dollars; None where none is known."""

    small: float | None
    large: float | None


class Bins:
    """Sums over the rows of each class.

    A class holds the scores from one edge to below the next, so that each edge can be a threshold.
    Rows without a score, which no threshold touches, are summed up apart.

    Args:
        thresholds: that rows were decided by; each is an edge.
        prices: of both pools.

    Attributes:
        edges: (E,) ascending, 0 the first; the last class is open.
        sums: by quantity, (E,): of the class that begins at each edge.
        apart: by quantity: of rows without a score.
    """

    def __init__(self, thresholds: Iterable[float], prices: Prices) -> None:
        even = np.round(np.linspace(0.0, 1.0, _CLASSES + 1), 6)
        inside = [one for one in thresholds if 0 <= one <= 1]
        self.edges = np.unique(np.concatenate([even, inside]))
        names = (*_COUNTS, *COSTS, *_SCORES, *(f"{one}_squares" for one in _SCORES))
        self.sums = {name: np.zeros(len(self.edges)) for name in names}
        self.apart = dict.fromkeys(names, 0.0)
        self._prices = prices

    def add(self, chunk: Chunk, judged: Judged) -> None:
        """More rows and their scores."""
        known = ~np.isnan(chunk.scores)
        place = np.searchsorted(self.edges, chunk.scores[known], side="right") - 1
        place = np.clip(place, 0, len(self.edges) - 1)
        for name, values in self._quantities(chunk, judged).items():
            clean = np.nan_to_num(values)
            self.sums[name] += np.bincount(place, clean[known], minlength=len(self.edges))
            self.apart[name] += float(clean[~known].sum())

    def _quantities(self, chunk: Chunk, judged: Judged) -> dict[str, Floats]:
        scored = ~np.isnan(judged.answer)
        one = np.ones(len(chunk))
        found = {
            "rows": one,
            "escalated": one * chunk.escalated,
            "judged": one * scored,
            "judged_large": one * (scored & chunk.escalated),
            "judged_full": one * ~np.isnan(judged.full),
            "judged_loss": one * ~np.isnan(judged.full - judged.large),
        }
        # What no threshold would change of a row without a score is its answer, as it is.
        scores = {"small": judged.small, "large": judged.large, "full": judged.full}
        scores["loss"] = judged.full - judged.large
        scores["large"] = np.where(np.isnan(chunk.scores), judged.answer, scores["large"])
        for name, values in scores.items():
            found[name], found[f"{name}_squares"] = values, values**2
        return found | self._costs(chunk)

    def _costs(self, chunk: Chunk) -> dict[str, Floats]:
        small_s, large_s = chunk.floats("small_gpu_s"), chunk.floats("large_gpu_s")
        found = {"small_s": small_s, "large_s": large_s}
        found["small_usd"] = small_s * (self._prices.small or 0.0) / 3600
        found["large_usd"] = large_s * (self._prices.large or 0.0) / 3600
        for role in ("small", "large"):
            found[f"{role}_flops"] = chunk.floats(f"{role}_flops")
        return found
