"""Who has to go so that replicas of the other pool find a place.

A replica on several GPUs needs them on one node, and one on a share of a GPU shares it with others.
So it matters which replicas go: those whose devices, with what is free beside them, make whole
places, and of these the ones with the least work in hand.

Nodes may have more devices than the pools share, of other jobs or of nobody: these are not theirs.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pipeline.balance.splits import Limits, Share

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Replica:
    """One replica and where it is.

    Attributes:
        name: of its actor.
        role: "small" or "large".
        node: that it is on.
        gpus: of the node that it is on, or has shares of; none on the CPU, and of one that waits
            for a place.
        in_hand: blocks that it has.
    """

    name: str
    role: str
    node: str
    gpus: tuple[str, ...] = ()
    in_hand: int = 0


@dataclass(frozen=True)
class Swap:
    """What changes hands.

    Attributes:
        leavers: names of the replicas that go.
        room: replicas of the other pool that then find a place.
    """

    leavers: tuple[str, ...]
    room: int


def swap(
    replicas: Sequence[Replica],
    limits: Limits,
    taker: str,
    wanted: int,
    most: int,
    gpus: Mapping[str, float],
) -> Swap:
    """Choose the replicas that make room for the other pool's, as few as will do.

    Args:
        replicas: of both pools. Those without a place will take one of the free ones.
        limits: what a replica of each takes, and what both may have together.
        taker: the pool that grows.
        wanted: by so many replicas.
        most: replicas of the other pool that may go.
        gpus: of each node; empty where the pools are on the CPU, whose cores are all alike.
    """
    places = _Gpus(limits, taker, gpus) if gpus else _Cores(limits, taker)
    stay, gone = list(replicas), list[Replica]()
    while places.room(stay) < wanted:
        ways = [way for way in places.ways(stay) if len(gone) + len(way) <= most]
        if not ways:
            break
        best = min(ways, key=lambda way: (len(way), sum(one.in_hand for one in way)))
        gone += best
        stay = [one for one in stay if one not in best]
    return Swap(tuple(one.name for one in gone), min(wanted, places.room(stay)))


class _Cores:
    """Any replica's devices are as good as another's."""

    def __init__(self, limits: Limits, taker: str) -> None:
        self._limits = limits
        self._taker = taker

    def room(self, replicas: Sequence[Replica]) -> int:
        """For so many more replicas of the taker."""
        return _within(self._limits, self._taker, _used(self._limits, replicas))

    def ways(self, replicas: Sequence[Replica]) -> Iterator[list[Replica]]:
        """To make room for one more."""
        yield from _until_room(self.room, replicas, _each(replicas, self._taker))


class _Gpus:
    """A replica's GPUs are of one node, and a share is of one GPU."""

    def __init__(self, limits: Limits, taker: str, gpus: Mapping[str, float]) -> None:
        self._limits = limits
        self._taker = taker
        self._gpus = gpus

    def room(self, replicas: Sequence[Replica]) -> int:
        """For so many more replicas of the taker."""
        by_node = self._by_node(replicas)
        places = sum(self._on(here, node) for node, here in by_node.items())
        coming = self._coming(replicas)
        within = _within(self._limits, self._taker, _used(self._limits, replicas))
        return max(0, min(places - coming, within))

    def ways(self, replicas: Sequence[Replica]) -> Iterator[list[Replica]]:
        """To make room for one more, on each node or GPU."""
        by_node = self._by_node(replicas)
        used = _used(self._limits, replicas)
        places = {node: self._on(here, node) for node, here in by_node.items()}
        free = sum(places.values()) - self._coming(replicas)
        for node, here in by_node.items():
            used_elsewhere = used - _used(self._limits, here)
            room = partial(self._room_with, node, free - places[node], used_elsewhere)
            for groups in self._groups(here):
                yield from _until_room(room, here, groups)

    def _room_with(
        self, node: str, free_elsewhere: int, used_elsewhere: float, here: Sequence[Replica]
    ) -> int:
        within = _within(self._limits, self._taker, used_elsewhere + _used(self._limits, here))
        return max(0, min(free_elsewhere + self._on(here, node), within))

    def _by_node(self, replicas: Iterable[Replica]) -> dict[str, list[Replica]]:
        found: dict[str, list[Replica]] = {node: [] for node in self._gpus}
        for one in filter(self._placed, replicas):
            found[one.node].append(one)
        return found

    def _placed(self, one: Replica) -> bool:
        return bool(one.gpus) and one.node in self._gpus

    def _coming(self, replicas: Iterable[Replica]) -> int:
        """Places that those will take that have none yet."""
        each = self._share.devices
        waiting = (one for one in replicas if not self._placed(one))
        return sum(math.ceil(self._limits.of(one.role).devices / each) for one in waiting)

    def _groups(self, here: Sequence[Replica]) -> Iterator[list[list[Replica]]]:
        """Replicas of one node in the order in which they would go."""
        giver = self._limits.of("small" if self._taker == "large" else "large")
        if giver.devices >= 1:
            yield _each(here, self._taker)
            return
        on_gpu: dict[str, list[Replica]] = defaultdict(list)
        for one in here:
            for gpu in one.gpus:
                on_gpu[gpu].append(one)
        if self._share.devices < 1:
            for sharing in on_gpu.values():
                yield _each(sharing, self._taker)
            return
        whole = [some for some in on_gpu.values() if all(one.role != self._taker for one in some)]
        yield sorted(whole, key=lambda some: (len(some), sum(one.in_hand for one in some)))

    @property
    def _share(self) -> Share:
        return self._limits.of(self._taker)

    def _on(self, here: Iterable[Replica], node: str) -> int:
        """Places on a node."""
        load: dict[str, float] = defaultdict(float)
        for one in here:
            for gpu in one.gpus:
                load[gpu] += min(1.0, self._limits.of(one.role).devices)
        free, each = max(0, int(self._gpus[node]) - len(load)), self._share.devices
        if each >= 1:
            return int(free // each)
        beside = sum(int((1 - used + _ROUNDING) // each) for used in load.values())
        return beside + free * int((1 + _ROUNDING) // each)


def _used(limits: Limits, replicas: Iterable[Replica]) -> float:
    return sum(limits.of(one.role).devices for one in replicas)


def _within(limits: Limits, taker: str, used: float) -> int:
    """Replicas of the taker that the devices of both pools allow beside those in use."""
    return max(0, int((limits.devices - used + _ROUNDING) // limits.of(taker).devices))


def _each(replicas: Iterable[Replica], taker: str) -> list[list[Replica]]:
    """Those that could go, one by one."""
    could = [one for one in replicas if one.role != taker]
    return [[one] for one in sorted(could, key=lambda one: one.in_hand)]


def _until_room(
    room: Callable[[Sequence[Replica]], int],
    replicas: Sequence[Replica],
    groups: Iterable[list[Replica]],
) -> Iterator[list[Replica]]:
    """The first groups that together make room for one more, if they do."""
    before, gone = room(replicas), list[Replica]()
    for group in groups:
        gone += group
        if room([one for one in replicas if one not in gone]) > before:
            yield gone
            return
