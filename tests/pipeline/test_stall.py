from collections.abc import Hashable

from pipeline.stall import Stall
from tests.pipeline.test_ledger import Clock


class Moving:
    """What moves when told to."""

    def __init__(self) -> None:
        self.state: Hashable = 0

    def __call__(self) -> Hashable:
        return self.state


def stall_of(moving: Moving, clock: Clock) -> tuple[Stall, list[str]]:
    said: list[str] = []
    return Stall(moving, 300.0, lambda: "small: 1 x 4 GPU; free: 0 GPU", said.append, clock), said


def test_a_standstill_is_told_every_minute_and_then_is_the_end() -> None:
    moving, clock = Moving(), Clock()
    stall, said = stall_of(moving, clock)
    reasons = []
    while clock.now < 300:
        reasons.append(stall())
        clock.now += 10
    assert set(reasons) == {None}
    assert len(said) == 4
    assert "waiting for 60 s already: small: 1 x 4 GPU; free: 0 GPU" in said[0]
    reason = stall()
    assert reason is not None
    assert "nothing has moved for 300 s" in reason
    assert "free: 0 GPU; free what they wait for" in reason


def test_whatever_moves_begins_it_anew_and_so_does_what_cannot_be_told() -> None:
    moving, clock = Moving(), Clock()
    stall, said = stall_of(moving, clock)
    for state in (1, 2, None, 2, 3):
        moving.state = state
        assert stall() is None
        clock.now += 299
    assert stall() is None
    clock.now += 2
    assert stall() is not None
    assert len(said) == 1
