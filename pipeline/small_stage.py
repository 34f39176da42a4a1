"""The small stage: answer, score and rank every record; decide which ones leave early.

Paper, sections 3.2 and 3.3: a record exits where its exit score reaches the threshold.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actors.batching import Watch, unwatched
from pipeline.balance.evidence import Served
from pipeline.budget_config import WhenSpent
from pipeline.fail_safe import Decision, FailSafe, MonitorClient
from pipeline.guard import Guard
from pipeline.handover import Rate, guided_cells, pack_guidance, questions
from pipeline.heard import Heard
from pipeline.probe import ProbeConfig
from pipeline.progress import Reporter
from pipeline.schema import GUIDANCE, IMPORTANCE, OUTPUT
from pipeline.stage import (
    check_columns,
    check_conserved,
    column,
    edit_rows,
    end_process,
    failed,
    instant,
    is_open,
    keep_only,
    replace_columns,
    to_output,
)
from pipeline.work import work_of
from sgl.early_exit import exits
from sgl.types import Failure, Guidance, ImageQuestion, Route

READS = ("id", "question", "images", "max_new_tokens", "conversation_json", "route")
WRITES = (
    *("answer", "route", "exit_score", "criterion", "confidence", "consistency", "entropy"),
    *("margin", "quantile", "small_answer"),
    *("visual_tokens", "small_prompt_tokens", "small_completion_tokens", "small_gpu_s"),
    "consistency_gpu_s",
    *("cost_usd", "small_flops", "flops", "error", "small_started_at", "small_finished_at"),
    *("small_batch_rows", "small_padded_tokens"),
    *("decision", "answer_ended", "images", "guidance"),
)
"""And `importance` on request. `images` and `guidance` are null unless the large one needs them."""


_STAYS = (Decision.EXITED, Decision.OVER_BUDGET)
"""Decisions for the small model's answer."""


class SmallModel(Protocol):
    """What the stage needs of actors.small_vlm.SmallVLM."""

    def run(
        self, records: Sequence[ImageQuestion], watch: Watch = unwatched, /
    ) -> list[Guidance | Failure]:
        """One result per record, in order."""
        ...


@dataclass(frozen=True)
class SmallSettings:
    """Of the stage.

    Attributes:
        threshold: exit score from which a record keeps this answer; None keeps them all, and
            makes this the last stage.
        batch_size: of a full batch.
        when_spent: what follows once the budget is spent; None where there is no budget.
        write_importance: add the `importance` column.
        rate: what a replica's second is.
        probe: records that the large model gets whatever their score.
    """

    threshold: float | None
    batch_size: int = 1
    when_spent: WhenSpent | None = None
    write_importance: bool = False
    probe: ProbeConfig | None = None
    rate: Rate = field(default_factory=Rate)


class SmallStage:
    """One replica: Arrow table in, Arrow table out; never raises for a row.

    Args:
        load: makes the model; called once, in the replica's process.
        settings: of the stage.
        reporter: told of the rows done.
        guard: stands around loading and running.
        monitor: says when no record may exit any more; None: never.
    """

    def __init__(
        self,
        load: Callable[[], SmallModel],
        settings: SmallSettings,
        reporter: Reporter,
        guard: Guard,
        monitor: MonitorClient | None = None,
    ) -> None:
        self._model = guard.load(load)
        self._fail_safe = FailSafe(monitor)
        self._spent = Heard(reporter.closed if settings.when_spent else None)
        self._guard = guard
        self._settings = settings
        self._reporter = reporter
        self._warm = False

    def __call__(self, table: pa.Table) -> pa.Table:
        """Run the open rows of one block."""
        check_columns("small", table, READS)
        began = time.monotonic()
        self._fail_safe.ask()
        self._spent.ask()
        if self._settings.when_spent is WhenSpent.STOP and self._spent.active():
            table = table.slice(0, 0)
        rows = [i for i, route in enumerate(table["route"].to_pylist()) if is_open(route)]
        started = time.time()
        results = dict(zip(rows, self._run(questions(table, rows)), strict=True))
        spent = {"small_started_at": instant(started), "small_finished_at": instant(time.time())}
        decisions = self._decisions(results)
        edits = {
            row: self._cells(result, decisions.get(row)) | spent for row, result in results.items()
        }
        out = self._finished(table, edits, results, decisions)
        check_conserved("small", table, out)
        if results:
            served = Served.call(len(results), time.monotonic() - began)
            sent = sum(decision not in _STAYS for decision in decisions.values())
            probes = self._probes(results)
            self._reporter.served("small", served, sent=sent, probes=probes, typical=self._warm)
            self._warm = True
        return out

    def _probes(self, results: Mapping[int, Guidance | Failure]) -> int:
        """Requests of the large model that the probe adds."""
        guided = {row: item for row, item in results.items() if isinstance(item, Guidance)}
        ways = len(self._settings.probe.prunings) if self._settings.probe else 0
        return ways * len(self._probed(guided))

    def _run(self, records: Sequence[ImageQuestion]) -> list[Guidance | Failure]:
        try:
            return self._guard.run(self._model.run, records, [record.id for record in records])
        except Exception as error:  # a device's, not a record's: see end_process
            end_process(error)

    def _decisions(self, results: Mapping[int, Guidance | Failure]) -> dict[int, Decision]:
        """Of the rows that were scored."""
        safe = self._fail_safe.active()
        guided = {row: item for row, item in results.items() if isinstance(item, Guidance)}
        return {row: self._decided(item, safe) for row, item in guided.items()}

    def _decided(self, guidance: Guidance, safe: bool) -> Decision:
        if safe:
            return Decision.FAIL_SAFE
        threshold = self._settings.threshold
        if threshold is None or exits(guidance.exit_score, threshold):
            return Decision.EXITED
        return Decision.OVER_BUDGET if self._spent.active() else Decision.ESCALATED

    def _probed(self, guided: Mapping[int, Guidance]) -> dict[int, Guidance]:
        probe = self._settings.probe
        return {row: item for row, item in guided.items() if probe and probe.chooses(item.id)}

    def _cells(self, result: Guidance | Failure, decision: Decision | None) -> dict[str, Any]:
        if isinstance(result, Failure):
            return failed(result)
        cells = guided_cells(result, self._settings.rate)
        if self._settings.threshold is not None and decision:
            cells["decision"] = decision.value
        if decision in _STAYS:
            settled = {"answer": result.answer, "route": Route.SMALL.value}
            return cells | settled | {"answer_ended": result.ended}
        return cells

    def _finished(
        self,
        table: pa.Table,
        edits: dict[int, dict[str, Any]],
        results: dict[int, Guidance | Failure],
        decisions: Mapping[int, Decision],
    ) -> pa.Table:
        out = edit_rows(table, edits, [name for name in WRITES if name in OUTPUT.names])
        guided = {row: item for row, item in results.items() if isinstance(item, Guidance)}
        escalated = {row: item for row, item in guided.items() if decisions[row] not in _STAYS}
        going_on = escalated | self._probed(guided)
        packed = {row: pack_guidance(item) for row, item in going_on.items()}
        columns = {
            "images": keep_only(column(table, "images"), going_on),
            "guidance": pa.array([packed.get(i) for i in range(len(table))], GUIDANCE.type),
        }
        if self._settings.write_importance:
            maps = {row: _relative(item.importance) for row, item in guided.items()}
            columns["importance"] = pa.array(
                [maps.get(i) for i in range(len(table))], IMPORTANCE.type
            )
        failures = len(results) - len(guided)
        self._reporter.done("small", rows=len(table), failed=failures, escalated=len(escalated))
        self._reporter.worked("small", work_of("small", out, results, self._settings.batch_size))
        out = replace_columns(out, columns)
        return to_output(out) if self._settings.threshold is None else out


def _relative(importance: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """To the record's most important token: sums over layers and heads overflow 16 bits."""
    return (importance / importance.max(initial=np.finfo(np.float32).tiny)).astype(np.float16)
