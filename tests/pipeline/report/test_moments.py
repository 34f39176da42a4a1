import numpy as np
import pytest

from pipeline.report.moments import Moments
from sgl.statistics import mean_score, wilson


def test_right_or_wrong_is_wilsons_interval() -> None:
    moments = Moments()
    for part in np.split(np.array([1.0, 0, 1, 1, 0, 1, 1, 1]), 4):
        moments.add(part)
    moments.add(np.array([np.nan]))
    assert moments.estimate() == wilson(6, 8)


def test_partial_scores_have_the_width_of_their_variance() -> None:
    scores = np.random.default_rng(0).beta(4, 2, 2000)
    moments = Moments()
    moments.add(scores)
    found, resampled = moments.estimate(), mean_score(scores)
    assert found is not None
    assert found.value == pytest.approx(resampled.value, abs=1e-4)
    assert found.high - found.low == pytest.approx(resampled.high - resampled.low, rel=0.1)


def test_none_of_no_score() -> None:
    assert Moments().estimate() is None
