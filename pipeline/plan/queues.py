"""Blocks on their way, and which replica of a simulated pool gets the next one."""

from collections import deque
from dataclasses import dataclass

import simpy


@dataclass
class Block:
    """Rows that travel together.

    Attributes:
        rows: of it.
        waiting: of them, those that the large model has still to answer.
    """

    rows: int
    waiting: int = 0


class Pool:
    """Replicas, and which of them gets the next block.

    Args:
        env: of the simulation.
        replicas: of it.
        most: blocks that one of them holds at a time, those that it works on included.

    Attributes:
        inboxes: of each replica: the blocks that it holds and has not taken up.
        most: see above.
    """

    def __init__(self, env: simpy.Environment, replicas: int, most: int) -> None:
        self.inboxes = [simpy.Store(env) for _ in range(replicas)]
        self.most = most
        self._held = [0] * replicas
        self._waiting: deque[Block] = deque()

    def add(self, block: Block) -> None:
        """A block for whoever holds the fewest, now or once one of them has room."""
        self._waiting.append(block)
        self._give()

    def finished(self, place: int) -> None:
        """A replica has no more to do with a block."""
        self._held[place] -= 1
        self._give()

    def _give(self) -> None:
        while self._waiting and min(self._held) < self.most:
            place = self._held.index(min(self._held))
            self._held[place] += 1
            self.inboxes[place].put(self._waiting.popleft())
