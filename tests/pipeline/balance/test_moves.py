"""How a move goes on, and ends, told look by look."""

from dataclasses import dataclass, field, replace

from pipeline.balance.course import Course, Grow, Leave, Sight
from pipeline.balance.evidence import Served
from pipeline.balance.flow import Flow
from pipeline.balance.splits import Limits, Share
from pipeline.balance.views import Actor, PoolView

EIGHT = Limits(Share(1, 1, 8), Share(1, 1, 8), 8)
PATIENCE_S = 100.0
START_S = 10.0
QUEUED = 400


def pool(role: str, count: int, size: int | None = None, fed: bool = False) -> PoolView:
    """Of replicas that are ready."""
    actors = tuple(Actor(f"{role}{n}", "node", 1, ready=True) for n in range(count))
    return PoolView(actors, count if size is None else size, QUEUED, fed)


@dataclass
class Story:
    """Looks of one course, a second apart, while records go on at a rate."""

    rate: float
    records: int = 100_000
    lost: int = 0
    ways: int = 0
    at_s: float = 0.0
    flow: Flow = field(default_factory=Flow)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.course = Course(EIGHT, self.records, 16, self.said.append, PATIENCE_S, self.ways)

    def look(
        self,
        small: PoolView,
        large: PoolView,
        after_s: float = 1.0,
        gpus: float = 8,
    ) -> list[Leave | Grow]:
        """The next moment; each replica is on a GPU of its own."""
        self.at_s += after_s
        for number in range(4):
            took_s = 6.4 + number / 10
            sent = round(64 * self.rate)
            self.flow = self.flow.plus("small", Served.call(64, took_s), sent, 0, typical=True)
            self.flow = self.flow.plus("large", Served.call(4, took_s / 6), 0, 0, typical=True)
        self.flow = replace(
            self.flow, rows=self.records - self.lost if small.fed else self.flow.small.records
        )
        actors = (*small.actors, *large.actors)
        return self.course.look(
            Sight(
                at_s=self.at_s,
                pools={"small": small, "large": large},
                flow=self.flow,
                start_s={"small": START_S, "large": START_S},
                lingering={"small": (), "large": ()},
                gpus_of={one.name: (one.name,) for one in actors},
                gpus={"node": gpus},
            )
        )


def test_a_move_to_the_small_pool_ends_with_the_input() -> None:
    """Else the large one would keep the size to which it was shrunken, until the run's end."""
    story = Story(0.1)
    [order] = story.look(pool("small", 2), pool("large", 6))
    assert isinstance(order, Leave)
    gone = len(order.names)
    story.rate = 1.0  # so that there is work for the large model
    fed = pool("small", 0, size=2, fed=True)
    assert story.look(fed, pool("large", 6 - gone)) == []
    assert "the input has ended" in story.said[-1]
    assert story.look(fed, pool("large", 6 - gone)) == [Grow("large", 2 + gone)]


def test_a_move_whose_room_was_lost_takes_the_size_that_there_is() -> None:
    story = Story(0.6)
    [order] = story.look(pool("small", 6), pool("large", 2))
    assert isinstance(order, Leave)
    left = 6 - len(order.names)
    orders = story.look(pool("small", left), pool("large", 2), gpus=left + 2)
    assert orders == []  # others are on the devices
    assert story.look(pool("small", left), pool("large", 2), PATIENCE_S, left + 2) == []
    assert len(story.said) == 1
    assert story.look(pool("small", left), pool("large", 2), 2.0, left + 2) == []
    assert "large pool stays at 2 of " in story.said[-1]
    assert story.course.moves[0].large == (2, 2)
    assert story.course.moves[0].done_s is None
    assert story.look(pool("small", left), pool("large", 2), 2 * PATIENCE_S)
    assert story.course.moves[1].large[1] > 2  # decided anew


def test_a_report_that_was_lost_does_not_hold_the_small_pools_devices_back() -> None:
    """Nobody is left to do the records that seem to be missing."""
    story = Story(1.0, lost=5)
    fed = pool("small", 0, size=2, fed=True)
    assert story.look(fed, pool("large", 2)) == [Grow("large", 6)]


def test_of_records_that_will_not_come_nothing_is_decided() -> None:
    story = Story(0.6)
    story.course.closed = True
    assert story.look(pool("small", 6), pool("large", 2)) == []


def test_what_waits_may_be_probed_too() -> None:
    """Blocks hold more requests than rows, as many as the probe asks besides."""
    story = Story(1.0, ways=3)
    story.flow = replace(story.flow, probes=100_000)
    story.look(pool("small", 6), pool("large", 2))
    assert story.course.moves[0].waiting == (QUEUED + 2) * 16 * 4


def test_a_replica_that_restarts_will_need_a_place_wherever_it_was() -> None:
    """Also where that was a node that is gone."""
    story = Story(0.6)
    [order] = story.look(pool("small", 6), pool("large", 2))
    assert isinstance(order, Leave)
    left = 6 - len(order.names)
    small = pool("small", left)
    first, *others = small.actors
    restarts = replace(first, node="gone", ready=False, restarting=True)
    gpus = left + 2 + 1  # two are free, as one replica holds none at the moment
    orders = story.look(replace(small, actors=(restarts, *others)), pool("large", 2), gpus=gpus)
    assert orders == [Grow("large", 1)]
