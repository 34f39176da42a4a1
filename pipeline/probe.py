"""The probe: a random slice of the records that the large model also answers in other ways.

Unpruned, as a rule: then the run can say how often its answers are those of the large model alone,
and notice when that changes. With a share of 1 and several prunings it is what calibration needs.
Which records are probed depends on their ids alone, so that a run that is resumed probes the same;
those that a calibration drew are no likelier than others.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from pydantic import Field

from actors.config import PruningConfig, Seed, StrictModel
from pipeline.handover import Rate
from sgl.chance import MOST, Purpose, hash_of
from sgl.metrics import DEFAULT as DEFAULT_METRIC
from sgl.types import Answer, Failure

UNPRUNED = PruningConfig(prune_layer=0.0, keep_ratio=1.0)


class OnAlarm(StrEnum):
    """What a run does once its probe says that the promise is broken."""

    WARN = "warn"
    LARGE = "large"
    STOP = "stop"


class ProbeConfig(StrictModel):
    """Which records, and in which ways.

    Attributes:
        share: of the records, chosen at random.
        seed: another one chooses others.
        prunings: how the large model answers them besides; its answer in the run itself is not
            repeated. A keep ratio of 1 is unpruned.
        on_alarm: warn says so and goes on; large answers all records that are still to come by the
            unpruned large model; stop ends the run, so that it can be resumed. What is answered
            before does not depend on it.
    """

    share: float = Field(gt=0, le=1)
    seed: Seed = 0
    prunings: tuple[PruningConfig, ...] = Field(default=(UNPRUNED,), min_length=1)
    on_alarm: OnAlarm = OnAlarm.WARN

    def chooses(self, record_id: str) -> bool:
        """Whether a record is in the slice."""
        return hash_of(record_id, Purpose.PROBE, self.seed) < self.share * MOST

    @property
    def compares(self) -> bool:
        """Whether one of the ways is unpruned, so that the run's answers can be held against it."""
        return any(is_unpruned(way.model_dump()) for way in self.prunings)


class Promise(StrictModel):
    """Of a policy, or of one's own.

    Attributes:
        agreement: mean agreement with the unpruned large model, at least.
        delta: the chance of a false alarm, over the whole run and however often one looks.
        metric: by which answers are compared.
    """

    agreement: float = Field(gt=0, lt=1)
    delta: float = Field(default=0.05, gt=0, lt=1)
    metric: str = DEFAULT_METRIC

    @property
    def delta_of_each(self) -> float:
        """Of the two tests: while the run goes on, and over all of it at the end."""
        return self.delta / 2


def is_unpruned(cell: Mapping[str, Any]) -> bool:
    """Whether an entry of a `probe` cell is the large model's answer from all there is to see.

    Cells from before there was a choice of pruners do not name any.
    """
    guided = cell.get("pruner") in (None, UNPRUNED.pruner)
    return guided and cell["keep_ratio"] == UNPRUNED.keep_ratio


def probe_cells(
    prunings: Sequence[PruningConfig], results: Sequence[Answer | Failure], rate: Rate
) -> list[dict[str, Any]]:
    """The `probe` cell of one record: one entry per way, in order."""
    return [
        {"pruner": way.pruner, "prune_layer": way.prune_layer, "keep_ratio": way.keep_ratio}
        | _result(result, rate)
        for way, result in zip(prunings, results, strict=True)
    ]


def _result(result: Answer | Failure, rate: Rate) -> dict[str, Any]:
    if isinstance(result, Failure):
        error = {"stage": result.stage, "type": result.type, "message": result.message}
        return {"error": error}
    usage, pruning = result.usage, result.pruning
    return {
        "answer": result.text,
        "average_retention": 1.0 if pruning is None else pruning.average_retention,
        "completion_tokens": usage.completion_tokens,
        "gpu_s": rate.device_seconds(usage),
        "flops": usage.flops,
        "cost_usd": rate.usd(usage),
    }
