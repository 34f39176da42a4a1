"""An end to what hangs, whatever it hangs in."""

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager

_STDERR = 2


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """End the process, its threads' tracebacks in its log, if the block takes longer.

    A thread of C code watches, which needs no lock of the interpreter. There is one per process.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=_STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
