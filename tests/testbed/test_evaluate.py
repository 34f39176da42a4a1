"""The figures' arithmetic, and the shipped pair's bar."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.evaluate import evaluate, load_split, threshold_for


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_the_threshold_is_the_lowest_that_keeps_the_promise(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score / 5 for score, _ in pairs])
    right = np.array([ok for _, ok in pairs])
    found = threshold_for(scores, right, accuracy=0.8)
    good = [t for t in set(scores) if right[scores >= t].mean() >= 0.8]
    if not good:
        assert found is None
        return
    assert found is not None
    exits = scores >= min(good)
    assert found["threshold"] == pytest.approx(min(good), abs=1e-4)
    assert found["exit_rate"] == pytest.approx(exits.mean(), abs=1e-4)
    assert found["accuracy_of_exits"] == pytest.approx(right[exits].mean(), abs=1e-4)


def test_the_shipped_pair_is_worth_a_cascade() -> None:
    """On validation pages: both models read, the large one better, and the score tells."""
    result = evaluate(load_split("validation", limit=120))
    small, large = (result["accuracy"][name]["all"] for name in ("small", "large"))
    assert small >= 0.4
    assert large >= small
    assert result["auroc"]["exit_score"] >= 0.7
    by_ranking = {(row["keep_ratio"], row["ranking"]): row["accuracy"] for row in result["pruned"]}
    assert by_ranking[0.05, "guided"] >= by_ranking[0.05, "random"]
