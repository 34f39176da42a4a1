"""Figures of exit scores, against sums by hand, scikit-learn and numerical integration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from sgl.exit_quality import BINS, ExitOrder, exit_curve, lead, quality
from sgl.statistics import Bootstrap, Estimate

records = st.lists(
    st.tuples(st.integers(0, 10), st.booleans(), st.booleans(), st.integers(0, 3)),
    min_size=1,
    max_size=30,
).filter(lambda rows: any(weight for *_, weight in rows))


def unpack(rows: list[tuple[int, bool, bool, int]]) -> tuple[ExitOrder, list[np.ndarray]]:
    scores, right, large, weights = (np.array(column) for column in zip(*rows, strict=True))
    return ExitOrder(scores / 10, right, large), [scores / 10, right, large, weights.astype(float)]


@given(records)
def test_auroc_is_scikit_learns(rows: list[tuple[int, bool, bool, int]]) -> None:
    order, (scores, right, _, weights) = unpack(rows)
    found = order.auroc(weights)
    if len(set(right[weights > 0])) < 2:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(roc_auc_score(right, scores, sample_weight=weights))


@given(records)
def test_a_weight_is_so_many_equal_records(rows: list[tuple[int, bool, bool, int]]) -> None:
    order, (*_, weights) = unpack(rows)
    repeated, (*_, once) = unpack([(*row[:3], 1) for row in rows for _ in range(row[3])])
    for name in ("auroc", "exits_area", "cascade_area", "calibration_error"):
        found, expected = getattr(order, name)(weights), getattr(repeated, name)(once)
        assert found == pytest.approx(expected, nan_ok=True)
        assert np.isnan(found) or -1e-9 <= found <= 1 + 1e-9


@given(records)
def test_areas_are_those_under_the_curves(rows: list[tuple[int, bool, bool, int]]) -> None:
    """Midpoints of many thin slices; a group of ties is as right as on average."""
    order, (scores, right, large, weights) = unpack(rows)
    best_first = np.unique(scores)[::-1]
    sizes = np.array([weights[scores == one].sum() for one in best_first])
    rights = np.array([(weights * right)[scores == one].sum() for one in best_first])
    larges = np.array([(weights * large)[scores == one].sum() for one in best_first])
    sums = [np.concatenate([[0], np.cumsum(one)]) for one in (sizes, rights, larges)]
    middle = (np.arange(20_000) + 0.5) / 20_000 * sizes.sum()
    exited, stayed = (
        np.interp(middle, sums[0], sums[1]),
        larges.sum() - np.interp(middle, sums[0], sums[2]),
    )
    assert order.exits_area(weights) == pytest.approx((exited / middle).mean(), abs=1e-3)
    cascade = ((exited + stayed) / sizes.sum()).mean()
    assert order.cascade_area(weights) == pytest.approx(cascade, abs=1e-3)


def test_by_hand() -> None:
    scores, right = np.array([0.9, 0.7, 0.5, 0.1]), np.array([True, False, True, False])
    order, ones = ExitOrder(scores, right, np.array([True, True, False, False])), np.ones(4)
    assert order.auroc(ones) == 0.75
    # 1 up to the first record; then 1 / w, (w - 1) / w and 2 / w.
    expected = (1 + np.log(2) + (1 - np.log(1.5)) + 2 * np.log(4 / 3)) / 4
    assert order.exits_area(ones) == pytest.approx(expected)
    # 2, 2, 1, 2 and 2 right of 4 at exit rates 0, 1/4, ... 1.
    assert order.cascade_area(ones) == pytest.approx((2 + 1.5 + 1.5 + 2) / 16)
    assert order.calibration_error(ones) == pytest.approx((0.1 + 0.7 + 0.5 + 0.1) / 4)


@given(records)
def test_only_the_order_counts_but_for_calibration(
    rows: list[tuple[int, bool, bool, int]],
) -> None:
    order, (scores, right, large, weights) = unpack(rows)
    bent = ExitOrder(scores**2 / 2, right, large)
    for name in ("auroc", "exits_area", "cascade_area"):
        found, expected = getattr(bent, name)(weights), getattr(order, name)(weights)
        assert found == pytest.approx(expected, nan_ok=True)


def test_right_before_wrong_is_the_best_there_is() -> None:
    rng = np.random.default_rng(0)
    right, large = rng.random((2, 300)) < 0.6
    gain = right.astype(float) - large
    perfect, chance = (
        quality_of(gain / 2 + 0.5, right, large),
        quality_of(rng.random(300), right, large),
    )
    assert perfect.cascade_area is not None
    assert chance.cascade_area is not None
    assert perfect.cascade_area.low > chance.cascade_area.high
    told = quality_of(right.astype(float), right)
    assert told.auroc is not None
    assert (told.auroc.value, told.calibration_error.value, told.cascade_area) == (1.0, 0.0, None)


def quality_of(scores: np.ndarray, right: np.ndarray, large: np.ndarray | None = None):  # type: ignore[no-untyped-def]
    return quality(Bootstrap(np.arange(len(right)) // 3), scores, right, large)


def test_a_lead_is_surer_than_the_areas_that_it_lies_between() -> None:
    rng = np.random.default_rng(1)
    right = rng.random(600) < 0.7
    sharp = right + rng.normal(0, 0.8, 600)
    clusters, dull = np.arange(600) // 3, sharp + rng.normal(0, 0.3, 600)
    one, other = (ExitOrder(1 / (1 + np.exp(-scores)), right) for scores in (sharp, dull))
    bootstrap = Bootstrap(clusters)
    found = lead(bootstrap, one, other)
    areas = [bootstrap.estimate(order.exits_area) for order in (one, other)]
    assert found.value == pytest.approx(areas[0].value - areas[1].value, abs=2e-4)
    assert found.high - found.low < areas[0].high - areas[0].low
    assert lead(bootstrap, one, one) == Estimate(0.0, 0.0, 0.0)


def test_where_all_are_right_there_is_nothing_to_tell_apart() -> None:
    found = quality_of(np.linspace(0, 1, 9), np.ones(9, dtype=bool))
    assert found.auroc is None
    assert found.exits_area.value == found.exits_area.low == 1.0


def test_bins_hold_every_record_the_highest_score_included() -> None:
    scores = np.array([0.0, 0.01, 0.5, 1.0])
    bins = ExitOrder(scores, np.array([True, False, True, True])).reliability()
    assert [one.records for one in bins] == [2, 1, 1]
    assert bins[0].score == pytest.approx(0.005, abs=1e-4)
    assert [one.accuracy for one in bins] == [0.5, 1.0, 1.0]
    assert len(ExitOrder(np.linspace(0, 1, 999), np.ones(999, dtype=bool)).reliability()) == BINS


def test_the_curve_is_without_a_cascade_where_the_large_model_is_silent() -> None:
    curve = exit_curve(np.array([0.9, 0.1]), np.array([True, False]), points=3)
    assert [sorted(point) for point in curve] == [["accuracy_of_exits", "exit_rate"]] * 3
    assert [point["accuracy_of_exits"] for point in curve] == [1.0, 1.0, 0.5]


def test_resamples_are_drawn_once_for_all_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than what is computed of them."""
    random = np.random.default_rng(0)
    scores = random.random(200)
    right, large = random.random(200) < scores, random.random(200) < 0.9
    bootstrap, order = Bootstrap(np.arange(200) // 2), ExitOrder(scores, right, large)
    names = ("auroc", "exits_area", "cascade_area", "calibration_error")
    expected = {name: bootstrap.estimate(getattr(order, name)) for name in names}
    passes, draws = [], Bootstrap._draws
    monkeypatch.setattr(Bootstrap, "_draws", lambda self: passes.append(1) or draws(self))
    found = quality(bootstrap, scores, right, large)
    assert {name: getattr(found, name) for name in names} == expected
    assert len(passes) == 1
