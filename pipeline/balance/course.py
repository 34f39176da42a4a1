"""The course of a balanced run: what is seen, when a move is decided, and how it goes on.

One move at a time. The replicas that go finish what they have; as soon as one has gone, its devices
are the other pool's, which asks for as many replicas as find room. The move is over when they have
loaded, or when it is plain that it gets no further. Then nothing moves for as long again as it
took: so no more than half of a run is spent on moving, however its records come.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pipeline.balance.evidence import RecentPace, RecentRate
from pipeline.balance.flow import Flow
from pipeline.balance.places import Replica, Swap, swap
from pipeline.balance.record import Move
from pipeline.balance.rule import Forecast, Left, Seen, worthwhile
from pipeline.balance.splits import Limits, Split
from pipeline.balance.views import Actor, PoolView

_LOADS = 3
"""Times that a model takes to load, until a move is given up."""


@dataclass(frozen=True)
class Sight:
    """Everything at one moment.

    Attributes:
        at_s: since the run's start.
        pools: by role.
        flow: of the stages.
        start_s: that replicas took to load, by role; those that have.
        lingering: actors that have left their pool and still hold devices, by role.
        gpus_of: the GPUs that each replica is on.
        gpus: of each node; empty where the pools are on the CPU.
    """

    at_s: float
    pools: Mapping[str, PoolView]
    flow: Flow
    start_s: Mapping[str, float]
    lingering: Mapping[str, tuple[Actor, ...]]
    gpus_of: Mapping[str, tuple[str, ...]]
    gpus: Mapping[str, float]


@dataclass(frozen=True)
class Leave:
    """These replicas shall go."""

    role: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Grow:
    """So many more shall come."""

    role: str
    by: int


@dataclass(frozen=True)
class _Under:
    """A move on its way: the pool that grows, up to which size."""

    taker: str
    size: int


class Course:
    """Decides; changes nothing itself.

    Args:
        limits: of the pools.
        records: of the run.
        rows_per_block: that travel together.
        say: shows a line to the user.
        patience_s: from devices that are free to replicas that have loaded, where models load
            quickly; others get `_LOADS` times what they take.
        ways: in which the probe has the large model answer besides; 0 without one.

    Attributes:
        moves: so far.
        closed: nothing is decided any more, as what is left of the records will not come.
    """

    def __init__(
        self,
        limits: Limits,
        records: int,
        rows_per_block: int,
        say: Callable[[str], None],
        patience_s: float,
        ways: int = 0,
    ) -> None:
        self._limits = limits
        self._records = records
        self._rows_per_block = rows_per_block
        self._say = say
        self._patience_s = patience_s
        self._ways = ways
        self._rate = RecentRate(ways)
        self._small, self._large = RecentPace(), RecentPace()
        self._any_small, self._any_large = RecentPace(), RecentPace()
        self._under: _Under | None = None
        self._not_before = 0.0
        self.moves: list[Move] = []
        self.closed = False

    def look(self, sight: Sight) -> list[Leave | Grow]:
        """What is to be done now."""
        flow = sight.flow
        self._rate.add(flow.small.records, flow.sent, flow.probes)
        self._small.add(flow.small_typical)
        self._large.add(flow.large_typical)
        self._any_small.add(flow.small)
        self._any_large.add(flow.large)
        if self.closed or sight.pools["large"].fed:  # whoever came now would get nothing
            return []
        if self._under is None:
            return list(self._decide(sight))
        return list(self._go_on(sight, self._under))

    def _go_on(self, sight: Sight, under: _Under) -> Iterator[Grow]:
        move, pool = self.moves[-1], sight.pools[under.taker]
        took_s = sight.at_s - move.at_s
        giver = "small" if under.taker == "large" else "large"
        if move.freed_s is None and not _leaving(sight, giver):
            self.moves[-1] = move = move.model_copy(update={"freed_s": took_s})
        wanted = under.size - pool.size
        if under.taker == "small" and pool.fed:  # and the large pool may have its devices back
            self._under = None
            self._say(f"balance at {sight.at_s:.0f} s: the input has ended, and the move with it")
        elif wanted and (room := self._swap(sight, under.taker, wanted, 0).room):
            yield Grow(under.taker, room)
        elif move.freed_s is not None and pool.settled and pool.size == under.size:
            self.moves[-1] = move.model_copy(update={"done_s": took_s})
            self._rest(sight, took_s)
        elif move.freed_s is not None and self._too_long(sight, under, took_s - move.freed_s):
            self._stay(sight, under, took_s)

    def _too_long(self, sight: Sight, under: _Under, since_freed_s: float) -> bool:
        start_s = sight.start_s.get(under.taker, 0.0)
        return since_freed_s > max(self._patience_s, _LOADS * start_s)

    def _stay(self, sight: Sight, under: _Under, took_s: float) -> None:
        """What was freed was lost on the way, as to a neighbour that restarted on it."""
        size = sight.pools[under.taker].size
        before = getattr(self.moves[-1], under.taker)[0]
        self.moves[-1] = self.moves[-1].model_copy(update={under.taker: (before, size)})
        self._say(
            f"balance at {sight.at_s:.0f} s: the {under.taker} pool stays at {size} of "
            f"{under.size} replicas, as its move is not over after {took_s:.0f} s"
        )
        self._rest(sight, took_s)

    def _rest(self, sight: Sight, took_s: float) -> None:
        self._under = None
        self._not_before = sight.at_s + took_s

    def _decide(self, sight: Sight) -> Iterator[Leave | Grow]:
        small, large = sight.pools["small"], sight.pools["large"]
        over = small.fed and not small.actors and not sight.lingering["small"]
        ready = large.settled and (over or (small.settled and not small.fed))
        seen = self._seen(sight.start_s)
        if not ready or seen is None or sight.at_s < self._not_before:
            return
        now = Split(len(small.actors), len(large.actors))
        splits = self._limits.without_small(now.large) if over else self._limits.splits()
        left = self._left(sight)
        for forecast in worthwhile(now, splits, left, seen):
            if found := self._possible(sight, now, forecast.split, left, seen):
                taker, chosen, best = found
                move = _told(sight.at_s, now, best, left, seen)
                yield from self._begin(sight, taker, chosen, move)
                return

    def _possible(
        self, sight: Sight, now: Split, then: Split, left: Left, seen: Seen
    ) -> tuple[str, Swap, Forecast] | None:
        """A move as far as devices of the nodes make places for it, where that still pays."""
        taker = "large" if then.large > now.large else "small"
        wanted = then.of(taker) - now.of(taker)
        most = max(0, now.small - then.small if taker == "large" else now.large - then.large)
        chosen = self._swap(sight, taker, wanted, most)
        if not chosen.room:
            return None
        gone = len(chosen.leavers)
        real = (
            Split(now.small - gone, now.large + chosen.room)
            if taker == "large"
            else Split(now.small + chosen.room, now.large - gone)
        )
        fits = self._limits.fits if now.small else self._limits.fits_without_small
        best = worthwhile(now, [real] if fits(real) else [], left, seen)
        return (taker, chosen, best[0]) if best else None

    def _begin(self, sight: Sight, taker: str, chosen: Swap, move: Move) -> Iterator[Leave | Grow]:
        self.moves.append(move)
        self._say(f"balance at {sight.at_s:.0f} s: {move.told()}")
        size = move.large[1] if taker == "large" else move.small[1]
        self._under = _Under(taker, size)
        if chosen.leavers:
            yield Leave("small" if taker == "large" else "large", chosen.leavers)
        else:
            yield Grow(taker, chosen.room)

    def _swap(self, sight: Sight, taker: str, wanted: int, most: int) -> Swap:
        """Of what all replicas hold now."""
        held = [one for role in sight.pools for one in _held(sight, role)]
        return swap(held, self._limits, taker, wanted, most, sight.gpus)

    def _seen(self, start_s: Mapping[str, float]) -> Seen | None:
        rate = self._rate.latest()
        # First calls and partial batches are slow. They are all that there is of a large pool that
        # is much too large, and make it look no larger than it is.
        small = self._small.latest() or self._any_small.latest()
        large = self._large.latest() or self._any_large.latest()
        if rate is None or small is None or large is None or len(start_s) < len(("small", "large")):
            return None
        return Seen(rate, small, large, start_s["small"], start_s["large"])

    def _left(self, sight: Sight) -> Left:
        flow, pool = sight.flow, sight.pools["large"]
        in_hand = sum(one.in_hand for one in pool.actors)
        blocks = in_hand + pool.queued
        # Blocks that ran twice were counted twice; there are no more requests than blocks have.
        most = blocks * self._rows_per_block * (1 + self._ways)
        waiting = min(max(0, flow.sent + flow.probes - flow.large.records), most)
        held = waiting * in_hand / blocks if blocks else 0.0
        # A report that was lost leaves records to a small model that is not there any more.
        ended = sight.pools["small"].fed and not sight.pools["small"].actors
        return Left(0 if ended else max(0, self._records - flow.rows), waiting, held)


def _held(sight: Sight, role: str) -> Iterator[Replica]:
    """Replicas of a pool, and those to come, which have no place yet."""
    pool = sight.pools[role]
    for one in (*pool.actors, *sight.lingering[role]):
        gpus = () if one.restarting else sight.gpus_of.get(one.name, ())
        yield Replica(one.name, role, one.node, gpus, one.in_hand)
    yield from [Replica("", role, "")] * pool.missing


def _leaving(sight: Sight, role: str) -> bool:
    pool = sight.pools[role]
    return len(pool.actors) > pool.size or bool(sight.lingering[role])


def _told(at_s: float, now: Split, best: Forecast, left: Left, seen: Seen) -> Move:
    return Move(
        at_s=at_s,
        small=(now.small, best.split.small),
        large=(now.large, best.split.large),
        rate=seen.rate.mean,
        rate_low=seen.rate.low,
        rate_high=seen.rate.high,
        small_s=seen.small_s,
        large_s=seen.large_s,
        records=round(left.records),
        waiting=round(left.waiting),
        stay_s=best.stay_s,
        move_s=best.move_s,
    )
