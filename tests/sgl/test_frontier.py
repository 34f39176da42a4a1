"""Laws that hold of any records, and an example that is counted by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgl import frontier as module
from sgl import statistics
from sgl.calibration import NOBODY_EXITS, UNPRUNED, Pruned, Sample
from sgl.errors import ConfigurationError
from sgl.frontier import BUDGETS, front, frontier
from sgl.routing import recovered
from sgl.statistics import Bootstrap
from sgl.strategies import (
    BOTH,
    CASCADE,
    LARGE,
    ORACLE,
    PRICES,
    PRUNE,
    RANDOM,
    RANDOM_PRUNED,
    SMALL,
    Answered,
    Policies,
    strategies,
    thresholds_of,
)

HALF, HARD = Pruned(0.2, 0.4), Pruned(0.1, 0.1)
WAYS = (UNPRUNED, HALF, HARD)


def drawn(seed: int, count: int = 60, *, right: bool = True) -> Answered:
    """Records at random; their qualities 0 or 1, or anything between."""
    random = np.random.default_rng(seed)
    scores = random.random(count)
    small, large = random.random(count), random.random((3, count))
    if right:
        small = (random.random(count) < scores).astype(float)
        large = (large < np.array([[0.9], [0.8], [0.5]])).astype(float)
        large[0, 0] = 1.0
    costs = np.array([[10.0], [5.0], [2.0]]) * random.uniform(0.5, 1.5, count)
    sample = Sample(scores, WAYS, random.uniform(1, 3, count), costs)
    return Answered(sample, small, large, np.arange(count) // 2)


EXAMPLE = Answered(
    Sample(
        np.array([0.9, 0.2, 0.6, 0.4]),
        (UNPRUNED, HALF),
        np.full(4, 2.0),
        np.array([np.full(4, 10.0), np.full(4, 4.0)]),
    ),
    small=np.array([1.0, 0.0, 0.0, 0.0]),
    large=np.array([[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]]),
    clusters=np.arange(4),
)


def figures(policies: Policies) -> list[tuple[float, float]]:
    """Cost and quality of each, means."""
    means = zip(policies.cost.mean(axis=0), policies.quality.mean(axis=0), strict=True)
    return [(float(cost), float(quality)) for cost, quality in means]


def test_four_records_counted_by_hand() -> None:
    made = strategies(EXAMPLE)
    assert figures(made[SMALL]) == [(2.0, 0.25)]
    assert figures(made[LARGE]) == [(10.0, 0.75)]
    assert figures(made[PRUNE]) == [(6.0, 0.5)]
    # All exit, then one after the other escalates: 0.2 helps, 0.4 does not, 0.6 helps, 0.9 is vain.
    assert figures(made[CASCADE]) == [(2, 0.25), (4.5, 0.5), (7, 0.5), (9.5, 0.75), (12, 0.75)]
    by_setting = dict(zip(made[BOTH].settings, figures(made[BOTH]), strict=True))
    pruned = {one.threshold: by_setting[one] for one in by_setting if one.pruned == HALF}
    assert pruned[0.6] == (4.0, 0.75)
    assert pruned[NOBODY_EXITS] == (6.0, 0.5)
    # The small model, or the pruned large one for 0.2 and 0.4, or the large one alone for 0.6.
    assert figures(made[ORACLE])[-1] == ((2 + 6 + 10 + 6) / 4, 1.0)
    assert made[RANDOM].settings[25].exit_share == pytest.approx(0.5)
    assert figures(made[RANDOM])[25] == pytest.approx((6.0, 0.5))


def test_a_pruner_without_guidance_is_not_charged_the_small_model() -> None:
    """The example with its pruned answers from another pruner: 4 where it was 2 + 4."""
    other = Pruned(HALF.prune_layer, HALF.keep_ratio, "fastv")
    made = strategies(replace(EXAMPLE, sample=replace(EXAMPLE.sample, prunings=(UNPRUNED, other))))
    guided = strategies(EXAMPLE)
    assert figures(made[PRUNE]) == [(4.0, 0.5)]
    # All or nobody to the small model; halfway, half of its cost and half of the other's.
    ends = sorted(figures(made[RANDOM_PRUNED]))
    assert (ends[0], ends[-1]) == ((2.0, 0.25), (4.0, 0.5))
    assert sorted(figures(guided[RANDOM_PRUNED]))[-1] == (6.0, 0.5)
    # A cascade asks the small model first, whatever prunes.
    assert figures(made[BOTH]) == figures(guided[BOTH])
    # At the lowest price: 2 where the small one is right; where not, the other pruner for 4, the
    # unpruned model for 10.
    assert figures(made[ORACLE])[-1] == ((2 + 4 + 10 + 4) / 4, 1.0)


def test_the_routing_gain_counted_by_hand() -> None:
    # Gains in the order of scores 1, 0, 1, 0, of a perfect order 1, 1, 0, 0; each step is 1/4 wide.
    by_score, perfect, chance = (
        sum(a + b for a, b in zip([0, *path], path, strict=False)) / 2 / 4
        for path in ([0.25, 0.25, 0.5, 0.5], [0.25, 0.5, 0.5, 0.5], [0.125, 0.25, 0.375, 0.5])
    )
    found = recovered(EXAMPLE, Bootstrap(EXAMPLE.clusters))
    assert found is not None
    assert found.value == pytest.approx((by_score - chance) / (perfect - chance), abs=1e-4)


@given(seed=st.integers(0, 10_000), right=st.booleans())
@settings(max_examples=40, deadline=None)
def test_no_policy_is_above_the_oracle_at_any_price(seed: int, right: bool) -> None:
    answered = drawn(seed, right=right)
    unit = answered.large_cost.mean()
    made = strategies(answered)
    oracle = made[ORACLE]
    for place, price in ((made[ORACLE].settings.index(one), one.price) for one in oracle.settings):
        assert price is not None
        bound = (oracle.quality - price * oracle.cost / unit)[:, place].mean()
        for policies in made.values():
            worth = (policies.quality - price * policies.cost / unit).mean(axis=0)
            assert worth.max() <= bound + 1e-9
    best = np.vstack([answered.small, answered.large]).max(axis=0)
    last = [one.price for one in oracle.settings].index(PRICES[0])
    assert oracle.quality[:, last].mean() == pytest.approx(best.mean(), abs=1e-4)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_random_routing_is_a_straight_line_between_what_it_mixes(seed: int) -> None:
    answered = drawn(seed)
    made = strategies(answered)
    small, large = figures(made[SMALL])[0], figures(made[LARGE])[0]
    for setting, point in zip(made[RANDOM].settings, figures(made[RANDOM]), strict=True):
        share = setting.exit_share
        assert share is not None
        line = [share * a + (1 - share) * b for a, b in zip(small, large, strict=True)]
        assert point == pytest.approx(tuple(line))
    ends = figures(made[RANDOM_PRUNED])
    for point in figures(made[PRUNE]):
        assert min(abs(point[0] - one[0]) + abs(point[1] - one[1]) for one in ends) < 1e-9


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_cascade_between_its_ends(seed: int) -> None:
    answered = drawn(seed)
    made = strategies(answered)
    cascade = figures(made[CASCADE])
    assert cascade[0] == pytest.approx(figures(made[SMALL])[0])
    cost, quality = figures(made[LARGE])[0]
    small_cost = figures(made[SMALL])[0][0]
    assert cascade[-1] == pytest.approx((cost + small_cost, quality))
    assert set(figures(made[CASCADE])) <= set(figures(made[BOTH]))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few resamples."""
    monkeypatch.setattr(statistics, "RESAMPLES", 60)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("seed", range(4))
def test_large_only_is_the_unit_of_everything(seed: int) -> None:
    found = frontier(drawn(seed))
    point = found.curves[LARGE].points[0]
    assert (point.cost.value, point.cost.low, point.cost.high) == (1, 1, 1)
    assert [one.budget for one in found.curves[LARGE].budgets] == [1.0]
    for least in found.curves[LARGE].least.values():
        assert least is not None
        assert least.cost.value == 1
    assert found.curves[SMALL].least[0.99] is None
    assert (found.records, found.clusters) == (60, 30)
    for curve in found.curves.values():
        for estimate in (one.quality for one in (*curve.points, *curve.budgets)):
            assert estimate.low <= estimate.value + 0.2
            assert 0 <= estimate.value <= 1


@pytest.mark.usefixtures("quick")
def test_what_is_kept_is_measured_where_it_was_not_chosen() -> None:
    """Ways that are right by chance: their best is flattered, cross-fitted it is not."""
    random = np.random.default_rng(0)
    count, ways = 1000, tuple(Pruned(0.1, 0.01 * number) for number in range(1, 13))
    large = (random.random((13, count)) < 0.5).astype(float)
    costs = np.full((13, count), 5.0)
    costs[0] = 10.0
    sample = Sample(np.full(count, 0.5), (UNPRUNED, *ways), np.ones(count), costs)
    curve = frontier(Answered(sample, np.zeros(count), large, np.arange(count))).curves[PRUNE]
    fitted = curve.within(1.0)
    assert fitted is not None
    assert max(one.quality.value for one in curve.points) > fitted.quality.value + 0.01
    assert abs(fitted.quality.value - 0.5) < 0.03


@pytest.mark.usefixtures("quick")
def test_a_perfect_score_gains_everything_and_a_constant_one_nothing() -> None:
    answered = drawn(3)
    gain = answered.large_quality - answered.small
    bootstrap = Bootstrap(answered.clusters)
    for scores, share in ((-gain, 1.0), (np.zeros(60), 0.0), (gain, None)):
        found = recovered(
            replace(answered, sample=replace(answered.sample, scores=scores)), bootstrap
        )
        assert found is not None
        if share is None:
            assert found.value < 0
        else:
            assert (found.value, found.low, found.high) == pytest.approx((share,) * 3)
    same = replace(answered, large=np.stack([answered.small] * 3))
    assert recovered(same, bootstrap) is None


@pytest.mark.usefixtures("quick")
def test_the_least_cost_is_where_every_dearer_budget_keeps_it() -> None:
    curve = frontier(drawn(1, 400)).curves[BOTH]
    for share, least in curve.least.items():
        enough = [one.kept.value >= share - 1e-3 for one in curve.budgets]
        if least is None:
            assert not enough[-1]
            continue
        place = next(at for at in range(len(enough)) if all(enough[at:]))
        assert least.cost.value == curve.budgets[place].cost.value
        assert least.setting == curve.budgets[place].setting


def test_the_front_holds_what_nothing_beats() -> None:
    costs, qualities = [3, 1, 2, 2, 4], [0.9, 0.5, 0.7, 0.8, 0.9]
    assert front(costs, qualities) == [1, 3, 0]
    assert 0.4 in BUDGETS
    assert module.BUDGET in BUDGETS


def test_thresholds_let_even_shares_exit() -> None:
    cuts = thresholds_of(np.arange(1000) / 1000)
    assert (cuts[0], cuts[-1], len(cuts)) == (0.0, NOBODY_EXITS, 52)
    assert np.allclose(np.diff(cuts[:-1]), 0.02, atol=2e-3)
    assert thresholds_of(np.full(9, 0.5)) == [0.5, NOBODY_EXITS]


def test_unpruned_answers_are_needed() -> None:
    sample = replace(EXAMPLE.sample, prunings=(HALF, HARD))
    with pytest.raises(ConfigurationError, match="unpruned"):
        replace(EXAMPLE, sample=sample)
