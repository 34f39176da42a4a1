import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pipeline.balance.splits import Split
from tests.pipeline.balance.simulated import Pair

RECORDS = 8000


def jump(record: int) -> float:
    return 0.1 if record < RECORDS / 2 else 0.6


def steady(rate: float) -> Pair:
    return Pair(Split(6, 2), lambda _: rate, RECORDS)


def last(pair: Pair) -> Split:
    """Where the pools were before the input ended."""
    moves = [one for one in pair.course.moves if one.small[1]]
    return Split(moves[-1].small[1], moves[-1].large[1]) if moves else pair.split


def test_a_jump_moves_devices_to_where_they_are_needed() -> None:
    pair = Pair(Split(6, 2), jump, RECORDS)
    pair.run()
    assert last(pair) == Split(3, 5)
    assert len([one for one in pair.course.moves if one.small[1]]) <= 2


def test_a_balanced_run_beats_every_fixed_split_of_a_stream_that_jumps() -> None:
    balanced = Pair(Split(6, 2), jump, RECORDS).run()
    fixed = [fixed_run(Split(8 - large, large)) for large in range(1, 8)]
    assert balanced < min(fixed)


def fixed_run(split: Split) -> int:
    pair = Pair(split, jump, RECORDS)
    pair.course.look = lambda sight: []  # type: ignore[method-assign]
    return pair.run()


def test_at_the_best_split_nothing_moves_until_the_input_ends() -> None:
    pair = steady(0.1)
    pair.run()
    assert [one for one in pair.course.moves if one.small[1]] == []


def test_a_wrong_start_is_put_right_by_one_move() -> None:
    pair = Pair(Split(1, 7), lambda _: 0.1, RECORDS)
    pair.run()
    assert last(pair) == Split(6, 2)
    assert len([one for one in pair.course.moves if one.small[1]]) == 1


def test_where_no_record_escalates_nothing_is_known_and_nothing_moves() -> None:
    pair = steady(0.0)
    pair.run()
    assert pair.course.moves == []


def test_a_move_tells_what_it_was_decided_by_and_how_long_it_took() -> None:
    pair = Pair(Split(6, 2), jump, RECORDS)
    pair.run()
    move = pair.course.moves[0]
    assert move.small[0] == 6
    assert move.rate_low < 0.6
    assert move.freed_s is not None
    assert move.done_s is not None
    assert 0 < move.freed_s < move.done_s
    assert "6 -> " in move.told()


def test_gpus_that_are_not_theirs_stay_free() -> None:
    """However many there are on the same node, and however high the rate."""
    pair = Pair(Split(6, 2), lambda _: 0.6, RECORDS, spare=8)
    pair.run()
    assert last(pair) == Split(3, 5)
    assert pair.most_held <= 8


@settings(max_examples=10, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    st.integers(1, 7),
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=4),
    st.floats(0.02, 0.3),
    st.floats(0.02, 1.0),
    st.integers(1, 60),
    st.integers(0, 100),
    st.integers(0, 8),
)
def test_devices_are_never_shared_and_no_pool_is_ever_empty(
    large: int,
    rates: list[float],
    small_s: float,
    large_s: float,
    load_s: int,
    seed: int,
    spare: int,
) -> None:
    """However the rate goes; and everything is done in the end."""
    records = 2000
    pair = Pair(
        Split(8 - large, large),
        lambda record: rates[min(len(rates) - 1, record * len(rates) // records)],
        records,
        small_s,
        large_s,
        load_s,
        seed,
        spare,
    )
    assert pair.run() < 20_000
    assert pair.most_held <= 8
    assert not pair.shared
    for move in pair.course.moves:
        assert move.large[1] >= 1
        assert sum((move.small[1], move.large[1])) <= 8
        assert move.small[1] >= 1 or not move.records


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rate", [0.05, 0.2, 0.4, 0.5, 0.9])
@pytest.mark.parametrize("large", [1, 4, 7])
def test_at_a_constant_rate_the_pools_come_to_rest(large: int, rate: float, seed: int) -> None:
    """Until near the end, when what waits for the large model is all that is left."""
    pair = Pair(Split(8 - large, large), lambda _: rate, RECORDS, seed=seed)
    pair.run()
    moves = [one for one in pair.course.moves if one.records > RECORDS / 4]
    assert len(moves) <= 3  # the first by few records, the others by many
    assert len([one for one in moves if one.records < RECORDS / 2]) <= 1
