"""Models that take a set time and no processor: for what is measured of many devices on few cores.

A record's question says whether it escalates, so that a stream can be made to measure.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from actors.batching import Watch, unwatched
from actors.large_vlm import GuidedQuestion
from benchmarks.arithmetic_models import ArithmeticLarge, ArithmeticSmall
from sgl.types import Answer, Failure, Guidance, ImageQuestion

HARD = "hard"
"""The question of a record that escalates."""


@dataclass(frozen=True)
class SleepingSmall:
    """Sure of every record but the hard ones.

    Attributes:
        record_s: seconds per record.
        load_s: of loading.
    """

    record_s: float
    load_s: float = 0.0

    def __post_init__(self) -> None:
        time.sleep(self.load_s)

    def run(
        self, records: Sequence[ImageQuestion], watch: Watch = unwatched
    ) -> list[Guidance | Failure]:
        """See actors.small_vlm.SmallVLM."""
        with watch([record.id for record in records]):
            time.sleep(self.record_s * len(records))
        results = ArithmeticSmall().run(records)
        return [
            replace(
                one,
                exit_score=float(record.question != HARD),
                usage=replace(one.usage, device_s=self.record_s),
            )
            for one, record in zip(results, records, strict=True)
            if isinstance(one, Guidance)
        ]


@dataclass(frozen=True)
class SleepingLarge:
    """See SleepingSmall."""

    record_s: float
    load_s: float = 0.0

    def __post_init__(self) -> None:
        time.sleep(self.load_s)

    def run(
        self, requests: Sequence[GuidedQuestion], watch: Watch = unwatched
    ) -> list[Answer | Failure]:
        """See actors.large_vlm.LargeVLM."""
        with watch([request.id for request in requests]):
            time.sleep(self.record_s * len(requests))
        return [
            replace(one, usage=replace(one.usage, device_s=self.record_s))
            for one in ArithmeticLarge().run(requests)
            if isinstance(one, Answer)
        ]

    def prompt_tokens(self, record: ImageQuestion) -> int:
        """The same for all."""
        return ArithmeticLarge().prompt_tokens(record)
