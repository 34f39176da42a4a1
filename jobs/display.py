"""Progress of a running job: a live table on a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live

from jobs.progress_line import Progress, StageProgress, progress_line, progress_table
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
                self._repeat(_LIVE_S, lambda now: live.update(progress_table(now), refresh=True))
        else:
            self._repeat(_LINES_S, lambda now: say(self._console, progress_line(now)))

    def _repeat(self, every_s: float, show: Callable[[Progress], None]) -> None:
        while True:
            ended = self._stop.wait(every_s)
            if counts := self._counts():
                show(self._progress(counts))
            if ended:
                return

    def _progress(self, counts: Mapping[str, StageCount]) -> Progress:
        seconds = time.monotonic() - self._started
        stages = tuple(self._stage(stage, counts[stage]) for stage in self._stages)
        return Progress(seconds, self._total, stages)

    def _stage(self, name: str, count: StageCount) -> StageProgress:
        cascade = name == "small" and "large" in self._stages
        escalated = escalation(count) if cascade else None
        return StageProgress(name, count.rows, count.rate(), escalated, count.failed)


def escalation(count: StageCount) -> float:
    """Share of a stage's rows that go on to the large model."""
    return count.escalated / count.rows if count.rows else 0.0


def say(console: Console, line: str) -> None:
    """One line, as it is."""
    console.print(line, highlight=False, soft_wrap=True, markup=False)
