import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.balance.evidence import Pace, Rate
from pipeline.balance.rule import Left, Seen, move_s, stay_s, worthwhile
from pipeline.balance.splits import Limits, Share, Split

EIGHT = Limits(Share(1, 1, 8), Share(1, 1, 8), 8)


def seen(mean: float, around: float = 0.02, start_s: float = 10.0) -> Seen:
    rate = Rate(mean, max(0.0, mean - around), mean + around, 1000)
    return Seen(rate, Pace(0.1, 0.0), Pace(0.25, 0.0), start_s, start_s)


def best(now: Split, left: Left, of: Seen) -> Split:
    found = worthwhile(now, EIGHT.splits(), left, of)
    return found[0].split if found else now


def test_the_later_pool_decides_when_the_work_is_done() -> None:
    left = Left(1000, 100, 0)
    assert stay_s(Split(4, 4), left, seen(0.1), 0.1) == pytest.approx(25)
    assert stay_s(Split(4, 1), left, seen(0.1), 0.1) == pytest.approx(50)


def test_a_jump_moves_devices_and_its_end_moves_them_back() -> None:
    many = Left(100_000, 0, 0)
    assert best(Split(6, 2), many, seen(0.6)) == Split(3, 5)
    assert best(Split(3, 5), many, seen(0.1)) == Split(6, 2)


def test_what_is_at_its_best_stays() -> None:
    assert best(Split(6, 2), Left(100_000, 0, 0), seen(0.1)) == Split(6, 2)


def test_near_the_end_a_move_is_not_worth_it() -> None:
    assert best(Split(6, 2), Left(100, 0, 0), seen(0.6)) == Split(6, 2)


def test_a_model_that_loads_slowly_is_moved_for_much_work_only() -> None:
    left = Left(3000, 0, 0)
    assert best(Split(6, 2), left, seen(0.6, start_s=10)) != Split(6, 2)
    assert best(Split(6, 2), left, seen(0.6, start_s=600)) == Split(6, 2)


def test_what_may_be_chance_moves_nothing() -> None:
    left = Left(100_000, 0, 0)
    assert best(Split(6, 2), left, seen(0.3, around=0.01)) != Split(6, 2)
    assert best(Split(6, 2), left, seen(0.3, around=0.25)) == Split(6, 2)


def test_what_is_not_known_of_the_seconds_is_doubt_as_well() -> None:
    left, sure = Left(100_000, 0, 0), seen(0.3, around=0.01)
    vague = Seen(sure.rate, Pace(0.1, 0.1), Pace(0.25, 0.3), 10.0, 10.0)
    assert best(Split(6, 2), left, sure) != Split(6, 2)
    assert best(Split(6, 2), left, vague) == Split(6, 2)


def test_what_large_replicas_hold_already_cannot_be_sped_up() -> None:
    now, free = Split(0, 2), EIGHT.without_small(2)
    waits = worthwhile(now, free, Left(0, 1000, 0), seen(0.6))
    assert waits[0].split == Split(0, 8)
    assert worthwhile(now, free, Left(0, 1000, 1000), seen(0.6)) == []


def test_while_it_lasts_a_move_costs_what_its_devices_do_not_do() -> None:
    left = Left(10_000, 0, 0)
    of = seen(0.1)
    there = stay_s(Split(6, 2), left, of, 0.1)
    assert there < move_s(Split(3, 5), Split(6, 2), left, of, 0.1) < there + of.small_start_s


_shares = st.floats(0.0, 1.0)
_works = st.builds(Left, st.floats(0, 1e6), st.floats(0, 1e5), st.just(0.0))


@given(_shares, st.floats(0.0, 0.2), _works, st.floats(0.01, 5), st.floats(0.01, 20), st.data())
def test_a_move_is_never_undone_while_nothing_changes(
    mean: float, around: float, left: Left, small_s: float, large_s: float, data: st.DataObject
) -> None:
    """At one rate, with less work left at every step, a split is left at most once."""
    rate = Rate(mean, max(0.0, mean - around), mean + around, 100)
    of = Seen(rate, Pace(small_s, 0.0), Pace(large_s, 0.0), 10.0, 10.0)
    now = data.draw(st.sampled_from(EIGHT.splits()))
    been = [now]
    for _ in range(10):
        then = best(now, left, of)
        if then == now:
            break
        assert EIGHT.fits(then)
        assert then not in been
        been.append(then)
        left = Left(left.records * 0.9, left.waiting, 0.0)
        now = then
    else:
        raise AssertionError(been)
