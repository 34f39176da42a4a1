"""A pool of replicas as it is at one moment."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Actor:
    """One actor of a pool.

    Attributes:
        name: its id.
        node: the id of the node that it is on; empty while it has none.
        in_hand: tasks that it has.
        ready: it has loaded, and neither restarts nor leaves.
        restarting: its process has ended and another one has not begun to work: where its devices
            will be is not known.
    """

    name: str
    node: str
    in_hand: int
    ready: bool
    restarting: bool = False


@dataclass(frozen=True)
class PoolView:
    """A pool at one moment.

    Attributes:
        actors: that Ray holds, leaving ones among them.
        size: that it should have.
        queued: blocks that wait in front of it.
        fed: no block will reach it any more and none waits, so that it only ends what it has.
    """

    actors: tuple[Actor, ...]
    size: int
    queued: int
    fed: bool

    @property
    def missing(self) -> int:
        """Actors that are asked for and that Ray does not hold yet."""
        return 0 if self.fed else max(0, self.size - len(self.actors))

    @property
    def settled(self) -> bool:
        """Whether it has what it should have, all ready."""
        return len(self.actors) == self.size and all(one.ready for one in self.actors)
