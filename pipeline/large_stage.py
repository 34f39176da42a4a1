"""The large stage: escalated rows of all blocks in flight, collected into full batches.

Paper, section 3.2: the large model prunes its visual tokens by the small model's ranking.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pyarrow as pa

from actors.batching import MOST_PADDING, Watch, unwatched
from actors.large_vlm import GuidedQuestion
from pipeline.balance.evidence import Served
from pipeline.coalescer import Batched, Coalescer
from pipeline.fail_safe import Decision, FailSafe, MonitorClient, Outcome
from pipeline.guard import Guard
from pipeline.handover import Rate, answered_cells, questions, unpack_guidance
from pipeline.multiple_choice import OPTIONS, carried_options
from pipeline.outcomes import unpruned_of
from pipeline.probe import UNPRUNED, ProbeConfig, probe_cells
from pipeline.progress import Reporter
from pipeline.schema import PROBE
from pipeline.stage import (
    check_columns,
    check_conserved,
    edit_rows,
    end_process,
    failed,
    instant,
    is_open,
    replace_columns,
    to_output,
)
from pipeline.work import work_of
from sgl.metrics import metric_named
from sgl.types import Answer, Failure, ImageQuestion

READS = ("id", "question", "images", "max_new_tokens", "conversation_json", "route")
"""And, where there is a small stage, `guidance` and the columns that it wrote."""
WRITES = (
    *("answer", "route", "visual_tokens", "kept_tokens", "pruner", "prune_layer", "keep_ratio"),
    *("average_retention", "large_prompt_tokens", "large_completion_tokens", "large_gpu_s"),
    *("cost_usd", "large_flops", "flops", "error"),
    *("large_started_at", "large_finished_at", "large_batch_rows", "large_padded_tokens"),
    *("decision", "answer_ended"),
)


class LargeModel(Protocol):
    """What the stage needs of actors.large_vlm.LargeVLM."""

    def run(
        self, requests: Sequence[GuidedQuestion], watch: Watch = unwatched, /
    ) -> list[Answer | Failure]:
        """One result per request, in order."""
        ...

    def prompt_tokens(self, record: ImageQuestion, /) -> int:
        """How long its prompt will be; called from other threads than `run`."""
        ...


@dataclass(frozen=True)
class LargeSettings:
    """Of the stage.

    Attributes:
        batch_size: of a full batch.
        concurrent_blocks: calls that Ray runs in one replica at the same time.
        linger_s: see pipeline.coalescer.
        rate: what a replica's second is.
        probe: records that are answered in other ways besides.
    """

    batch_size: int
    concurrent_blocks: int
    linger_s: float
    rate: Rate = field(default_factory=Rate)
    probe: ProbeConfig | None = None


class LargeStage:
    """One replica, asynchronous: each call brings one block, all share the batches.

    Args:
        load: makes the model; called once, in the only thread that ever touches it.
        settings: of the stage.
        reporter: told of the rows done, and asked whether more can come.
        guard: stands around loading and running.
        monitor: told what the probe came to, and asked whether to prune; None where nothing is
            promised.
    """

    def __init__(
        self,
        load: Callable[[], LargeModel],
        settings: LargeSettings,
        reporter: Reporter,
        guard: Guard,
        monitor: MonitorClient | None = None,
    ) -> None:
        self._thread = ThreadPoolExecutor(1, "large-model")
        self._model = self._thread.submit(guard.load, load).result()
        self._guard = guard
        self._settings = settings
        self._reporter = reporter
        self._monitor = monitor
        self._fail_safe = FailSafe(monitor)
        self._coalescer: Coalescer[GuidedQuestion, Answer | Failure] | None = None
        self._warm = False

    async def __call__(self, table: pa.Table) -> pa.Table:
        """Put the open rows of one block through the model; the others only pass."""
        check_columns("large", table, READS)
        self._reporter.arrived(len(table))
        rows = [i for i, route in enumerate(table["route"].to_pylist()) if is_open(route)]
        probed, safe = self._probed(table), self._safe(table, rows)
        self._announce(table, probed)
        main = [
            replace(request, pruning=UNPRUNED) if row in safe else request
            for row, request in zip(rows, _requests(table, rows), strict=True)
        ]
        requests = [*main, *self._probes(table, probed)]
        # Not on the loop: it shall go on taking blocks.
        sizes = await asyncio.to_thread(self._sizes, requests)
        results = await self._coalesced().submit(requests, sizes, list(map(_kind, requests)))
        out = self._finished(table, dict(zip(rows, results[: len(rows)], strict=True)), safe)
        if self._settings.probe:
            cells = self._probe_cells(probed, results[len(rows) :])
            self._observe(out, cells)
            self._pass_over(table, probed)
            column = pa.array([cells.get(row) for row in range(len(table))], PROBE.type)
            out = to_output(replace_columns(out, {PROBE.name: column}))
        check_conserved("large", table, out)
        return out

    def _safe(self, table: pa.Table, rows: Sequence[int]) -> set[int]:
        """The rows that are answered fail-safe: by the small stage's word, or by now."""
        self._fail_safe.ask()
        if self._fail_safe.active():
            return set(rows)
        decisions = table["decision"]
        return {row for row in rows if decisions[row].as_py() == Decision.FAIL_SAFE.value}

    def _probed(self, table: pa.Table) -> list[int]:
        probe = self._settings.probe
        if probe is None:
            return []
        ids, has_images = table["id"].to_pylist(), table["images"].is_valid().to_pylist()
        return [row for row, name in enumerate(ids) if has_images[row] and probe.chooses(name)]

    def _announce(self, table: pa.Table, rows: Sequence[int]) -> None:
        if self._monitor is not None and rows:
            self._monitor.announce([table["id"][row].as_py() for row in rows])

    def _probes(self, table: pa.Table, rows: Sequence[int]) -> list[GuidedQuestion]:
        ways = self._settings.probe.prunings if self._settings.probe else ()
        return [
            replace(request, pruning=way, probe=number)
            for request in _requests(table, rows)
            for number, way in enumerate(ways)
        ]

    def _probe_cells(
        self, rows: Sequence[int], results: Sequence[Batched[Answer | Failure]]
    ) -> dict[int, list[dict[str, Any]]]:
        ways = self._settings.probe.prunings if self._settings.probe else ()
        answers = [item.result for item in results]
        return {
            row: probe_cells(ways, answers[start : start + len(ways)], self._settings.rate)
            for row, start in zip(rows, range(0, len(answers), len(ways)), strict=True)
        }

    def _observe(self, out: pa.Table, cells: Mapping[int, list[dict[str, Any]]]) -> None:
        """Tell the monitor how the cascade's own answers do; fail-safe ones are none of them."""
        if self._monitor is None or not cells:
            return
        score, outcomes = metric_named(self._monitor.metric), list[Outcome]()
        given = [name for name in ("id", "answer", "decision", OPTIONS) if name in out.column_names]
        for row, entries in cells.items():
            told = {name: out[name][row].as_py() for name in given}
            whole, options = unpruned_of(entries), carried_options(told.get(OPTIONS))
            own = told["answer"] is not None and told["decision"] != Decision.FAIL_SAFE.value
            agreed = score(told["answer"], [whole["answer"]], options) if whole and own else None
            outcomes.append((told["id"], agreed))
        self._monitor.observe(outcomes)

    def _pass_over(self, table: pa.Table, probed: Sequence[int]) -> None:
        """Tell the monitor not to wait for rows that have failed on the way.

        They may have been announced: in an earlier life of this block, in which they did not fail.
        """
        probe = self._settings.probe
        if self._monitor is None or probe is None:
            return
        others = set(range(len(table))) - set(probed)
        names = [table["id"][row].as_py() for row in sorted(others)]
        if lost := [name for name in names if probe.chooses(name)]:
            self._monitor.observe([(name, None) for name in lost])

    def _sizes(self, requests: Sequence[GuidedQuestion]) -> list[int]:
        return [self._model.prompt_tokens(request.record) for request in requests]

    def _coalesced(self) -> Coalescer[GuidedQuestion, Answer | Failure]:
        # Made on first use, because its queue belongs to the loop that Ray runs the calls on.
        if self._coalescer is None:
            self._coalescer = Coalescer(
                self._run,
                batch_size=self._settings.batch_size,
                most_padding=MOST_PADDING,
                max_calls=self._settings.concurrent_blocks,
                linger_s=self._settings.linger_s,
                drained=self._reporter.drained,
                on_death=end_process,
            )
        return self._coalescer

    async def _run(self, batch: Sequence[GuidedQuestion]) -> list[Answer | Failure]:
        began = time.monotonic()
        results = await asyncio.get_running_loop().run_in_executor(
            self._thread, self._guard.run, self._model.run, batch, [item.id for item in batch]
        )
        served = Served.call(len(batch), time.monotonic() - began)
        typical = self._warm and len(batch) >= self._settings.batch_size
        self._reporter.served("large", served, typical=typical)
        self._warm = True
        return results

    def _finished(
        self, table: pa.Table, results: dict[int, Batched[Answer | Failure]], safe: Collection[int]
    ) -> pa.Table:
        edits = {
            row: self._cells(table, row, _without_pruning(item)) | _FAIL_SAFE
            if row in safe
            else self._cells(table, row, item)
            for row, item in results.items()
        }
        failures = sum(isinstance(item.result, Failure) for item in results.values())
        self._reporter.done("large", rows=len(table), failed=failures, escalated=len(results))
        out = to_output(edit_rows(table, edits, WRITES))
        self._reporter.worked("large", work_of("large", out, results, self._settings.batch_size))
        return out

    def _cells(self, table: pa.Table, row: int, item: Batched[Answer | Failure]) -> dict[str, Any]:
        batch = {
            "large_started_at": instant(item.started_at),
            "large_finished_at": instant(item.finished_at),
        }
        if isinstance(item.result, Failure):
            return failed(item.result) | batch
        spent = {name: table[name][row].as_py() for name in ("cost_usd", "flops")}
        return answered_cells(item.result, spent, self._settings.rate) | batch


_FAIL_SAFE = {"decision": Decision.FAIL_SAFE.value}


def _without_pruning(item: Batched[Answer | Failure]) -> Batched[Answer | Failure]:
    """As of a model that had nothing to prune: the guidance was there for its draft alone."""
    if isinstance(item.result, Failure):
        return item
    return replace(item, result=replace(item.result, pruning=None))


def _kind(request: GuidedQuestion) -> int:
    """Requests of different kinds share no batch, since a batch is pruned in one way."""
    if request.probe is not None:
        return 1 + request.probe
    return 0 if request.pruning is None else -1


def _requests(table: pa.Table, rows: Sequence[int]) -> list[GuidedQuestion]:
    guided = "guidance" in table.column_names
    return [
        GuidedQuestion(record, unpack_guidance(table, row) if guided else None)
        for row, record in zip(rows, questions(table, rows), strict=True)
    ]
