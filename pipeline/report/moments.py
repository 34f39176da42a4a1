"""Means with intervals from sums alone, so that no score has to be kept."""

from dataclasses import dataclass

import numpy as np

from pipeline.report.rows import Floats
from sgl.statistics import Estimate, wilson


@dataclass
class Moments:
    """Of scores in [0, 1], each record standing alone.

    Attributes:
        count: of them.
        total: their sum.
        squares: the sum of their squares.
    """

    count: float = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, scores: Floats) -> None:
        """More scores; NaN is none."""
        known = scores[~np.isnan(scores)]
        self.count += len(known)
        self.total += float(known.sum())
        self.squares += float((known**2).sum())

    def estimate(self) -> Estimate | None:
        """Wilson's interval, with as many trials as give the variance; None of no score."""
        if not self.count:
            return None
        mean = min(1.0, max(0.0, self.total / self.count))
        variance = max(0.0, self.squares / self.count - mean**2)
        trials = mean * (1 - mean) / variance * self.count if variance > 1e-12 else self.count
        return wilson(mean * trials, trials)
