"""What a job of another machine writes, as a local run would look: progress in its place."""

from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from jobs.progress_line import parsed_progress, progress_table


class Followed:
    """Takes a log in pieces of any length, and shows its lines, for the block.

    On a terminal lines of progress become one table below the others, which goes with the block.

    Args:
        console: where to; None is standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._begun = ""
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> "Followed":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._begun:
            self._line(self._begun)
        if self._live:
            self._live.stop()

    def show(self, piece: str) -> None:
        """The next piece of the log."""
        *lines, self._begun = (self._begun + piece).split("\n")
        for line in lines:
            self._line(line)

    def _line(self, line: str) -> None:
        if self._live is None:
            # Whatever reads a pipe wants no line broken, and every line now.
            self._console.file.write(line + "\n")
            self._console.file.flush()
        elif progress := parsed_progress(line):
            self._live.update(progress_table(progress), refresh=True)
        else:
            self._console.print(Text(line), soft_wrap=True)
