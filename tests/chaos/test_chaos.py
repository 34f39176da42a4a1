"""The short chaos suite: one death of each kind, with the real pair; the long one: `make chaos`."""

from collections import deque
from pathlib import Path

import pytest

from pipeline.bill import bill_of
from tests.chaos.cluster import wait_until
from tests.chaos.outcome import Death
from tests.chaos.phases import Phase
from tests.chaos.place import on_s3
from tests.chaos.plan import Kill, Kind, Life
from tests.chaos.suite import prepared
from tests.chaos.victims import workers
from tests.s3 import Faults, Server

pytestmark = [pytest.mark.chaos, pytest.mark.ray]

RECORDS = 160
LIVES = (
    Life(
        (
            Kill(Kind.SMALL, commits=2),
            Kill(Kind.LARGE, commits=1),
            Kill(Kind.RAYLET, commits=1),
            Kill(Kind.PHASE, phase=Phase.DATA_WRITTEN, skip=1),
        )
    ),
    Life((Kill(Kind.PHASE, phase=Phase.COPIED, skip=2),)),
)


def test_whoever_dies_the_output_is_the_undisturbed_one(
    bucket: str, s3_server: Server, faulty_s3: tuple[Server, Faults], tmp_path: Path
) -> None:
    proxy, faults = faulty_s3
    place = on_s3(bucket, "out", s3_server, proxy, faults)
    lives, deaths, titles = deque(LIVES), list[Death](), set[str]()

    def tell(death: Death) -> None:
        deaths.append(death)
        titles.update(worker.title for worker in workers(suite.arena.cluster.raylets))

    with prepared(RECORDS, tmp_path, 0, tell) as suite:
        played = suite.arena.play(1, place, lives, suite.undisturbed)
        cluster = suite.arena.cluster
        here = [cluster.head, *cluster.raylets]
        here += [worker.pid for worker in workers(here)]
    assert played.problems == ()
    assert [death.kind for death in deaths] == [kill.kind for life in LIVES for kill in life.kills]
    assert not lives
    assert played.drivers == 3
    bill = bill_of(place.output())
    assert len(bill.runs) == 3
    for pool in bill.pools.values():
        assert abs(pool.unexplained_s) <= 0.01 * pool.pool_s, bill
    # What must outlive every node but the driver's lives nowhere else.
    assert not any(title.startswith(("ray::Ledger", "ray::Board")) for title in titles)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in here), 30, "processes left")
