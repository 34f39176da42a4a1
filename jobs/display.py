"""Progress of a running job: a live table on a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.progress import StageCount

_LIVE_S = 0.5
_LINES_S = 5.0


class Display:
    """Shows the counts of a job until the block ends.

    Args:
        console: where to.
        counts: asks for the current counts by stage; None when they cannot be had.
        stages: those that the job has, in order.
        total: rows that this run has to do.
    """

    def __init__(
        self,
        console: Console,
        counts: Callable[[], Mapping[str, StageCount] | None],
        stages: tuple[str, ...],
        total: int,
    ) -> None:
        self._console = console
        self._counts = counts
        self._stages = stages
        self._total = total
        self._stop = threading.Event()
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._show, name="progress", daemon=True)

    def __enter__(self) -> "Display":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _show(self) -> None:
        if self._console.is_terminal:
            with Live(console=self._console, auto_refresh=False) as live:
                self._repeat(_LIVE_S, lambda counts: live.update(self._table(counts), refresh=True))
        else:
            self._repeat(_LINES_S, lambda counts: self._print(self._line(counts)))

    def _repeat(self, every_s: float, show: Callable[[Mapping[str, StageCount]], None]) -> None:
        while True:
            ended = self._stop.wait(every_s)
            if counts := self._counts():
                show(counts)
            if ended:
                return

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

    def _line(self, counts: Mapping[str, StageCount]) -> str:
        parts = []
        for stage in self._stages:
            count = counts[stage]
            text = f"{stage} {count.rows}/{self._total} ({count.rate():.1f} rows/s)"
            if stage == "small" and "large" in self._stages:
                text += f", {escalation(count):.0%} escalated"
            if count.failed:
                text += f", {count.failed} failed"
            parts.append(text)
        return f"{time.monotonic() - self._started:5.0f} s  " + "   ".join(parts)

    def _table(self, counts: Mapping[str, StageCount]) -> Table:
        table = Table("stage", box=None, header_style="bold")
        for header in ("rows", "of", "rows/s", "escalated", "failed"):
            table.add_column(header, justify="right")
        for stage in self._stages:
            count = counts[stage]
            cascade = stage == "small" and "large" in self._stages
            table.add_row(
                stage,
                f"{count.rows:,}",
                f"{self._total:,}",
                f"{count.rate():.1f}",
                f"{escalation(count):.0%}" if cascade else "",
                f"{count.failed:,}" if count.failed else "",
            )
        return table


def escalation(count: StageCount) -> float:
    """Share of a stage's rows that go on to the large model."""
    return count.escalated / count.rows if count.rows else 0.0


def say(console: Console, line: str) -> None:
    """One line, as it is."""
    console.print(line, highlight=False, soft_wrap=True, markup=False)
