"""How many requests are under way in this process, and how many bytes they hold.

What is above the limit is refused at once: an endpoint that takes everything in is slow for all,
and then runs out of memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from sgl.errors import OverloadedError

_RETRY_AFTER_S = 1.0


class Stay:
    """One request's part; `hold` is what it calls."""

    def __init__(self, whole: "InFlight") -> None:
        self._whole = whole
        self.bytes = 0
        self.ended = False

    def hold(self, more: int) -> None:
        """Count bytes until the request's end; in any thread.

        Raises:
            OverloadedError: there is no room for them, or the request has ended meanwhile, so that
                what they are for is no longer wanted.
        """
        self._whole.hold(self, more)


class InFlight:
    """The counts.

    Args:
        max_requests: at the same time.
        max_bytes: of all of them.
    """

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._lock = Lock()
        self.requests = 0
        self.bytes = 0

    @contextmanager
    def stay(self, *, counted: bool) -> Iterator[Stay]:
        """One request, from its admission to its end, however it ends.

        Args:
            counted: False for what is always let in, such as a look at the metrics.

        Raises:
            OverloadedError: there are as many as may be.
        """
        with self._lock:
            if counted and self.requests >= self._max_requests:
                raise OverloadedError("too many requests are under way", _RETRY_AFTER_S)
            self.requests += counted
        stay = Stay(self)
        try:
            yield stay
        finally:
            with self._lock:
                stay.ended = True
                self.requests -= counted
                self.bytes -= stay.bytes

    def hold(self, stay: Stay, more: int) -> None:
        """See Stay.hold."""
        with self._lock:
            if stay.ended:
                raise OverloadedError("the request has ended", _RETRY_AFTER_S)
            if self.bytes + more > self._max_bytes:
                raise OverloadedError("the requests under way hold too much", _RETRY_AFTER_S)
            self.bytes += more
            stay.bytes += more
