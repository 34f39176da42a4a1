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
    """

    name: str
    node: str
    in_hand: int
    ready: bool


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
    def settled(self) -> bool:
        """Whether it has what it should have, all ready."""
        return len(self.actors) == self.size and all(one.ready for one in self.actors)
