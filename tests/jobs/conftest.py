import signal
from collections.abc import Iterator

import pytest


@pytest.fixture
def on_a_terminal() -> Iterator[None]:
    """A shell's background jobs, and so tests in one, ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
