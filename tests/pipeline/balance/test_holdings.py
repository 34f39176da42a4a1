import pytest

from pipeline.balance.holdings import Holdings, started_s
from pipeline.balance.splits import Split
from pipeline.balance.views import Actor, PoolView
from pipeline.timesheet import ReplicaTime
from tests.pipeline.test_ledger import Clock


class Books:
    """What a Holdings tells, and a cluster whose actors end when they are told to."""

    def __init__(self) -> None:
        self.came: list[tuple[str, str]] = []
        self.left: list[str] = []
        self.ended: set[str] = set()
        self.clock = Clock()
        self.holdings = Holdings(
            Split(2, 1),
            self.clock,
            lambda name, role: self.came.append((name, role)),
            self.left.append,
            lambda name: name in self.ended,
        )

    def see(self, small: str, large: str) -> None:
        pools = {
            role: PoolView(
                tuple(Actor(name, "node", 0, ready=True) for name in names),
                len(names),
                0,
                fed=False,
            )
            for role, names in (("small", small), ("large", large))
        }
        self.holdings.update(pools)


def test_before_anything_is_seen_the_pools_hold_what_they_began_with() -> None:
    books = Books()
    books.clock.now += 100
    assert books.holdings.held() == {"small": 2, "large": 1}
    assert books.holdings.beyond_s() == {"small": 0, "large": 0}


def test_devices_are_held_until_the_process_has_ended_and_from_when_one_is_asked_for() -> None:
    books = Books()
    books.see("ab", "c")
    books.clock.now += 10
    books.see("a", "c")  # b has left its pool
    books.clock.now += 5
    books.see("a", "c")
    assert books.left == []
    assert [one.name for one in books.holdings.lingering()["small"]] == ["b"]
    books.ended.add("b")
    books.see("a", "cd")
    assert books.left == ["b"]
    assert books.came == [("d", "large")]
    books.clock.now += 20
    assert books.holdings.held() == {"small": 1, "large": 2}
    assert books.holdings.beyond_s() == {"small": -20, "large": 20}


def test_replicas_of_the_start_do_not_come() -> None:
    books = Books()
    books.see("ab", "c")
    assert books.came == []


def replica(role: str, *, load_s: float, startup_s: float, late: bool) -> ReplicaTime:
    rest = dict.fromkeys(("waiting_s", "device_s", "handling_s", "lost_s", "open_s"), 0.0)
    return ReplicaTime(
        role=role, node="", startup_s=startup_s, starts=1, load_s=load_s, late=late, **rest
    )


def test_a_move_costs_what_those_took_that_came_late() -> None:
    first = replica("large", load_s=3.0, startup_s=60.0, late=False)
    late = replica("large", load_s=3.0, startup_s=7.0, late=True)
    loading = replica("small", load_s=0.0, startup_s=7.0, late=False)
    assert started_s([first, loading]) == {"large": pytest.approx(8.0)}
    assert started_s([first, late]) == {"large": pytest.approx(7.0)}
