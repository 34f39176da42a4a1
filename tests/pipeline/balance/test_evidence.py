import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.balance.evidence import RecentPace, RecentRate, Served


def told(shares: list[float], records: int = 100, seed: int = 0) -> RecentRate:
    """Steps of records that escalate by chance."""
    chance, rate, done, sent = random.Random(seed), RecentRate(), 0, 0
    for share in shares:
        done += records
        sent += sum(chance.random() < share for _ in range(records))
        rate.add(done, sent)
    return rate


def test_nothing_is_known_of_no_records() -> None:
    assert RecentRate().latest() is None


def test_a_jump_leaves_what_came_before_it_behind() -> None:
    found = told([0.1] * 20 + [0.6] * 2).latest()
    assert found is not None
    assert found.records <= 200
    assert found.low < 0.6 < found.high


def test_a_small_change_is_seen_once_there_are_enough_records() -> None:
    found = told([0.1] * 300 + [0.15] * 64).latest()
    assert found is not None
    assert 0.12 < found.low < 0.15 < found.high


def test_a_rate_that_stays_becomes_more_certain() -> None:
    early, late = told([0.3] * 2).latest(), told([0.3] * 50).latest()
    assert early is not None
    assert late is not None
    assert late.high - late.low < (early.high - early.low) / 3


@given(st.floats(0.0, 1.0), st.integers(1, 40), st.integers(0, 1000))
def test_the_rate_is_within_its_limits(share: float, steps: int, seed: int) -> None:
    found = told([share] * steps, seed=seed).latest()
    assert found is not None
    assert 0 <= found.low <= found.mean <= found.high
    assert found.low < found.high


def test_few_new_records_wait_for_more() -> None:
    rate = RecentRate()
    rate.add(5, 5)
    assert rate.latest() is None
    rate.add(50, 5)
    found = rate.latest()
    assert found is not None
    assert found.mean == pytest.approx(0.1)


def test_probes_can_ask_the_large_model_more_than_once_per_record() -> None:
    rate = RecentRate(ways=3)
    rate.add(100, 60, 90)
    found = rate.latest()
    assert found is not None
    assert found.low < 1.5 < found.high


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_rate_is_within_its_limits_beside_a_probe(share: float) -> None:
    """In three ways: each probed record is three requests at once."""
    missed = 0
    for seed in range(200):
        chance, rate = random.Random(seed), RecentRate(ways=3)
        escalated = sum(chance.random() < share for _ in range(200))
        rate.add(200, escalated, 3 * sum(chance.random() < 0.3 for _ in range(200)))
        found = rate.latest()
        assert found is not None
        missed += not found.low <= share + 3 * 0.3 <= found.high
    assert missed <= 4


def paced(seconds: list[float]) -> RecentPace:
    pace, done = RecentPace(), Served()
    for took_s in seconds:
        done = done.plus(Served.call(4, took_s))
        pace.add(done)
    return pace


def test_seconds_are_those_of_the_latest_calls() -> None:
    found = paced([7.9, 8.1] * 50 + [1.9, 2.1] * 16).latest()
    assert found is not None
    assert found.record_s == pytest.approx(0.5)
    assert found.error < 0.02


def test_more_calls_make_the_seconds_more_certain() -> None:
    few, many = paced([1.0, 3.0] * 4).latest(), paced([1.0, 3.0] * 64).latest()
    assert few is not None
    assert many is not None
    assert many.error < few.error / 2


def test_a_call_with_few_records_weighs_no_more_than_they_do() -> None:
    pace, done = RecentPace(), Served()
    for records, took_s in [(16, 16.0), (1, 6.0)] * 8:
        done = done.plus(Served.call(records, took_s))
    pace.add(done)
    found = pace.latest()
    assert found is not None
    assert found.record_s == pytest.approx(22 / 17)
    assert 0 < found.error < 0.3


def test_few_calls_tell_nothing() -> None:
    assert paced([8.0]).latest() is None
