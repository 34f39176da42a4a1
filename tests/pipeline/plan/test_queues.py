"""Which replica of a simulated pool gets a block."""

import simpy
from hypothesis import given
from hypothesis import strategies as st

from pipeline.plan.queues import Block, Pool


def held(pool: Pool) -> list[int]:
    """Blocks that have come to each replica."""
    return [len(inbox.items) for inbox in pool.inboxes]


@given(replicas=st.integers(1, 5), most=st.integers(1, 4), blocks=st.integers(0, 30))
def test_blocks_are_spread_evenly_and_none_holds_too_many(
    replicas: int, most: int, blocks: int
) -> None:
    pool = Pool(simpy.Environment(), replicas, most)
    for _ in range(blocks):
        pool.add(Block(64))
    assert sum(held(pool)) == min(blocks, replicas * most)
    assert max(held(pool)) - min(held(pool)) <= 1


def test_the_block_that_waits_longest_goes_to_whoever_has_room() -> None:
    pool = Pool(simpy.Environment(), 2, 1)
    blocks = [Block(rows) for rows in (1, 2, 3, 4)]
    for block in blocks:
        pool.add(block)
    pool.finished(1)
    assert [inbox.items for inbox in pool.inboxes] == [[blocks[0]], [blocks[1], blocks[2]]]


def test_a_block_that_was_given_stays_where_it_is() -> None:
    """As in Ray Data: the other replica may run dry beside it."""
    pool = Pool(simpy.Environment(), 2, 2)
    for rows in (1, 2, 3):
        pool.add(Block(rows))
    pool.finished(1)
    assert held(pool) == [2, 1]
