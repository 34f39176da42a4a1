"""Laws of plans, for many seeds."""

from collections import Counter

import pytest

from tests.chaos.phases import Phase
from tests.chaos.plan import Kind, Life, draw

SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_kind_and_every_phase_has_its_kills(seed: int) -> None:
    kills = draw(seed, 60).kills
    assert len(kills) >= 60
    counts = Counter(kill.kind for kill in kills)
    assert min(counts[kind] for kind in Kind) >= 8
    assert {kill.phase for kill in kills if kill.kind is Kind.PHASE} == set(Phase)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_driver_dies_last_in_its_life_and_at_phases_on_s3_only(seed: int) -> None:
    plan = draw(seed, 60)
    for life in (*plan.local, *plan.s3):
        drivers = [kill.kind in (Kind.DRIVER, Kind.PHASE) for kill in life.kills]
        assert not any(drivers[:-1])
    assert not any(kill.kind is Kind.PHASE for life in plan.local for kill in life.kills)
    assert not any(kill.kind is Kind.DRIVER for life in plan.s3 for kill in life.kills)


@pytest.mark.parametrize("seed", SEEDS)
def test_reconciling_follows_what_there_is_to_reconcile(seed: int) -> None:
    ends = [life.kills[-1].phase if life.kills else None for life in draw(seed, 60).s3]
    at = [place for place, phase in enumerate(ends) if phase is Phase.RECONCILING]
    assert at
    assert all(ends[place - 1] is Phase.DATA_WRITTEN for place in at)


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_dies_before_a_phase_that_comes_before_all_work(seed: int) -> None:
    starts = [life for life in draw(seed, 60).s3 if life.kills and life.kills[-1].phase]
    first = [life for life in starts if life.kills[-1].phase and life.kills[-1].phase.at_start]
    assert first
    assert all(len(life.kills) == 1 for life in first)


def test_a_seed_is_a_plan_and_another_one_another() -> None:
    assert draw(3, 60) == draw(3, 60)
    assert draw(3, 60) != draw(4, 60)


def test_a_short_plan_ends_in_peace() -> None:
    plan = draw(0, 8)
    assert plan.local[-1].kills == () or plan.local[-1].kills[-1].kind is not Kind.DRIVER
    assert Life() not in plan.local[:-1]
