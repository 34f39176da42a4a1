"""Ctrl-C where it is, also within what blocks an event loop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread


@contextmanager
def interruptible() -> Iterator[None]:
    """For the block an interrupt raises KeyboardInterrupt at once.

    asyncio.run takes the first one as a wish to cancel, which waits until the loop goes on: a
    request that nobody answers would hold it up for its whole time limit. A handler that is not
    Python's, or that ignores, stays.
    """
    before = signal.getsignal(signal.SIGINT)
    if current_thread() is not main_thread() or not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
