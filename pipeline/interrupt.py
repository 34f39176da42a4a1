"""Ending a run from one of its driver's own threads."""

import os
import signal
import threading


def end_main_thread() -> None:
    """Raise KeyboardInterrupt in the main thread, wherever it waits."""
    # A real signal, which unlike _thread.interrupt_main() also wakes a thread that waits.
    if callable(signal.getsignal(signal.SIGINT)):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:  # Ignored, as in a shell's background jobs. A death at any moment is safe.
        os._exit(3)
