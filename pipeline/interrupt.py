"""Ending a run: from one of its driver's own threads, and as a job that is told to stop."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Ended(KeyboardInterrupt):
    """The block was ended from within the process, not by its user."""


def hear_stops() -> None:
    """Let a job of Ray's Jobs API that is stopped by SIGINT hear it, as a terminal's Ctrl-C.

    What a cluster starts that was itself started in a shell's background ignores SIGINT from birth.
    """
    if os.environ.get("RAY_JOB_STOP_SIGNAL") == "SIGINT":
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def endable() -> Iterator[Callable[[], None] | None]:
    """Yield what raises Ended in this block from another thread, wherever the block waits.

    None outside the main thread, which alone hears signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield None
        return
    main = threading.get_ident()
    # A real signal, which unlike _thread.interrupt_main() also wakes a thread that waits; and not
    # SIGINT, which a shell's background jobs ignore.
    before = signal.signal(signal.SIGUSR1, _end)
    try:
        yield lambda: signal.pthread_kill(main, signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise Ended
