"""Ending a run from one of its driver's own threads."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Ended(KeyboardInterrupt):
    """The block was ended from within the process, not by its user."""


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
