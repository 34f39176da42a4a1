from hypothesis import given
from hypothesis import strategies as st

from serving.token_bucket import TokenBucket
from tests.serving.asgi import Clock

RATES = st.floats(0.1, 1e6)


@given(RATES, st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1e4)), max_size=30))
def test_what_is_taken_never_exceeds_the_size_and_what_flowed_in(
    per_minute: float, moves: list[tuple[float, float]]
) -> None:
    clock = Clock()
    bucket = TokenBucket(per_minute, clock)
    taken, begun = 0.0, clock.now
    for pause, amount in moves:
        clock.now += pause
        if bucket.wait_s(amount) == 0:
            bucket.take(amount)
            taken += amount
    most = bucket.size + (clock.now - begun) * per_minute / 60
    assert taken <= most * (1 + 1e-9)


@given(RATES, st.floats(0, 1e6))
def test_after_the_wait_it_is_there_and_not_before(per_minute: float, debt: float) -> None:
    clock = Clock()
    bucket = TokenBucket(per_minute, clock)
    bucket.take(bucket.size + debt)
    wait_s = bucket.wait_s(1.0)
    clock.now += wait_s * 0.99
    assert bucket.level < 1
    clock.now += wait_s * 0.02
    assert bucket.wait_s(1.0) == 0


def test_it_is_never_more_than_full() -> None:
    clock = Clock()
    bucket = TokenBucket(60, clock)
    clock.now += 1e9
    assert bucket.level == 60
    bucket.take(100)
    assert bucket.level == -40
    assert bucket.wait_s(0) == 40
