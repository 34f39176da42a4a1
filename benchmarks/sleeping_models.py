"""Models that sleep as long as a GPU would work: pools of several replicas on a few cores.

Their seconds are a fixed part per forward pass, a part per row, and chance, the same for the same
records. They hold no core while they sleep, so that replicas do not slow each other down. A stream
can be made to measure: a record's question may say that it escalates.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp

from actors.batching import Watch, unwatched
from actors.large_vlm import GuidedQuestion
from benchmarks.arithmetic_models import ArithmeticLarge, ArithmeticSmall
from sgl.types import Answer, Failure, Guidance, ImageQuestion, Usage

HARD = "hard"
"""The question of a record that escalates, where `by_question` scores."""


@dataclass(frozen=True)
class Sleep:
    """How long a forward pass takes.

    Attributes:
        fixed_s: however full.
        row_s: per row.
        batch_rows: of a full one.
        spread: standard deviation of the logarithm of a pass's seconds.
    """

    fixed_s: float
    row_s: float
    batch_rows: int
    spread: float = 0.25

    def passes(self, ids: Sequence[str]) -> Iterator[tuple[slice, float]]:
        """Rows of each pass, and its seconds."""
        for start in range(0, len(ids), self.batch_rows):
            rows = slice(start, min(start + self.batch_rows, len(ids)))
            # A seed of its own: else seconds would go by the scores, and by who escalates.
            chance = random.Random(f"{ids[start]} takes").gauss(0, self.spread) - self.spread**2 / 2
            yield rows, (self.fixed_s + self.row_s * (rows.stop - rows.start)) * exp(chance)


SMALL = Sleep(fixed_s=0.4, row_s=0.03, batch_rows=32)
LARGE = Sleep(fixed_s=0.3, row_s=0.05, batch_rows=16)


def score_of(record_id: str) -> float:
    """Evenly spread over 0 to 1, as if drawn for each record."""
    return random.Random(record_id).random()


def by_chance(record: ImageQuestion) -> float:
    """An exit score that tells nothing of the record."""
    return score_of(record.id)


def by_question(record: ImageQuestion) -> float:
    """Sure of every record but the hard ones."""
    return float(record.question != HARD)


@dataclass(frozen=True)
class SleepingSmall:
    """Guidance by arithmetic, after a sleep per pass.

    Attributes:
        sleep: how long it works.
        load_s: how long it loads.
        score: the exit score of a record.
    """

    sleep: Sleep = SMALL
    load_s: float = 0.0
    score: Callable[[ImageQuestion], float] = by_chance

    def __post_init__(self) -> None:
        time.sleep(self.load_s)

    def run(
        self, records: Sequence[ImageQuestion], watch: Watch = unwatched
    ) -> list[Guidance | Failure]:
        """See actors.small_vlm.SmallVLM."""
        found: list[Guidance | Failure] = []
        ids = [record.id for record in records]
        for rows, seconds in self.sleep.passes(ids):
            with watch(ids[rows]):
                time.sleep(seconds)
            results = ArithmeticSmall().run(records[rows])
            for one, record in zip(results, records[rows], strict=True):
                assert isinstance(one, Guidance)
                usage = _took(one.usage, seconds, rows)
                found.append(replace(one, exit_score=self.score(record), usage=usage))
        return found


@dataclass(frozen=True)
class SleepingLarge:
    """Answers by arithmetic, after a sleep per batch; see SleepingSmall."""

    sleep: Sleep = LARGE
    load_s: float = 0.0

    def __post_init__(self) -> None:
        time.sleep(self.load_s)

    def run(
        self, requests: Sequence[GuidedQuestion], watch: Watch = unwatched
    ) -> list[Answer | Failure]:
        """See actors.large_vlm.LargeVLM."""
        found: list[Answer | Failure] = []
        ids = [request.id for request in requests]
        for rows, seconds in self.sleep.passes(ids):
            with watch(ids[rows]):
                time.sleep(seconds)
            for one in ArithmeticLarge().run(requests[rows]):
                assert isinstance(one, Answer)
                found.append(replace(one, usage=_took(one.usage, seconds, rows)))
        return found

    def prompt_tokens(self, record: ImageQuestion) -> int:
        """The same for all."""
        return ArithmeticLarge().prompt_tokens(record)


def _took(usage: Usage, seconds: float, rows: slice) -> Usage:
    count = rows.stop - rows.start
    return replace(usage, device_s=seconds / count, batch_records=count)
