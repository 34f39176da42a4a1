"""All rounds of a plan, on one cluster and one S3 server."""

import itertools
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testbed.generate import write_parquet
from tests.chaos.cluster import ChaosCluster
from tests.chaos.job import THRESHOLD
from tests.chaos.judge import LEAST_MARGIN, Row, margin, rows_in
from tests.chaos.outcome import Death, Round
from tests.chaos.place import Place, on_disk
from tests.chaos.plan import Life, Plan
from tests.chaos.rounds import Arena


@dataclass(frozen=True)
class Suite:
    """What all rounds share.

    Attributes:
        arena: the cluster and the job.
        undisturbed: rows by id of a run that nobody disturbed.
        calm_s: how long that took.
    """

    arena: Arena
    undisturbed: dict[str, Row]
    calm_s: float

    def play(self, plan: Plan, on_s3: Callable[[int], Place], folder: Path) -> Iterator[Round]:
        """Rounds on the local disk and on S3 in turn, until every kill has found its victim.

        Args:
            plan: what to kill.
            on_s3: the place of a round on S3, by its number.
            folder: for those on the local disk.
        """
        left = {"local": deque(plan.local), "s3": deque(plan.s3)}
        idle = 0
        for number in itertools.count(1):
            storage = "local" if number % 2 else "s3"
            if not _has_kills(left[storage]):
                if not any(map(_has_kills, left.values())):
                    return
                continue
            place = on_disk(folder / f"round-{number}") if storage == "local" else on_s3(number)
            played = self.arena.play(number, place, left[storage], self.undisturbed)
            yield played
            idle = 0 if played.deaths else idle + 1
            if idle == len(left):
                raise RuntimeError(f"rounds that nobody dies in; left is {left}")


@contextmanager
def prepared(
    records: int, folder: Path, seed: int, tell: Callable[[Death], None]
) -> Iterator[Suite]:
    """A cluster, and the rows of an undisturbed run on it.

    Args:
        records: of the held-out split.
        folder: for everything.
        seed: of the choice of victims.
        tell: called with every death.
    """
    source = folder / "records.parquet"
    write_parquet("heldout", records, source)
    with ChaosCluster() as cluster:
        arena = Arena(cluster, source, folder, random.Random(seed), tell)
        place, began = on_disk(folder / "undisturbed"), time.monotonic()
        arena.run_calm(place)
        rows = rows_in(place.output())
        undisturbed = {row["id"]: row for row in rows}
        assert len(undisturbed) == len(rows) == records
        assert margin(rows, THRESHOLD) >= LEAST_MARGIN
        assert Counter(row["route"] for row in rows).keys() == {"small", "large"}
        yield Suite(arena, undisturbed, time.monotonic() - began)


def _has_kills(lives: Iterable[Life]) -> bool:
    return any(life.kills for life in lives)
