import pytest

from benchmarks.balance import floors, ratio, report, scenarios
from benchmarks.balance_runs import Seconds

JUMP, CONSTANT, _ = scenarios(800)


def test_a_split_needs_at_least_what_its_slower_model_needs() -> None:
    least = floors(CONSTANT, Seconds(small=0.25, large=0.6))
    assert least[6, 2] == pytest.approx(400 * 0.25 / 6)
    assert least[7, 1] == pytest.approx(400 * 0.1 * 0.6)


def test_records_that_escalate_late_cannot_be_answered_early() -> None:
    """Four large replicas have little to do while the first half lasts."""
    least = floors(JUMP, Seconds(small=0.25, large=0.6))
    assert least[4, 4] == pytest.approx(400 * 0.25 / 4 + 400 * 0.6 * 0.6 / 4)


def test_the_ratio_is_to_the_best_split_that_was_run() -> None:
    move = {"at_s": 38.0, "small": [6, 3], "large": [2, 5]}
    shared = {"scenario": "jump", "records": 800}
    rows = [
        {**shared, "balanced": True, "small": 6, "large": 2, "stream_s": 60.0, "moves": [move]},
        {**shared, "balanced": False, "small": 4, "large": 4, "stream_s": 80.0, "least_s": 61.0},
        {**shared, "balanced": False, "small": 5, "large": 3, "stream_s": 75.0, "least_s": 68.0},
        {**shared, "balanced": False, "small": 1, "large": 7, "least_s": 200.0},
    ]
    assert ratio(rows) == pytest.approx(0.8)
    told = report(rows)
    assert "38 s: 3 and 5" in told
    assert "at least 200.0 s, not run" in told
