"""How many requests are under way in this process, and how many bytes they hold.

What is above the limit is refused at once: an endpoint that takes everything in is slow for all,
and then runs out of memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from serving.api_errors import ApiError

_RETRY_AFTER_S = 1.0


class FullError(ApiError):
    """There is no room, or none any more."""

    def __init__(self, message: str) -> None:
        kind = "overloaded_error"
        super().__init__(503, message, kind=kind, code="overloaded", retry_after_s=_RETRY_AFTER_S)


class Stay:
    """One request's part; `hold` is what it calls."""

    def __init__(self, whole: "InFlight") -> None:
        self._whole = whole
        self.bytes = 0
        self.ended = False

    def hold(self, more: int) -> None:
        """Count bytes until the request's end; in any thread.

        Raises:
            FullError: there is no room for them, or the request has ended meanwhile, so that
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
            FullError: there are as many as may be.
        """
        with self._lock:
            if counted and self.requests >= self._max_requests:
                raise FullError("too many requests are under way")
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
                raise FullError("the request has ended")
            if self.bytes + more > self._max_bytes:
                raise FullError("the requests under way hold too much")
            self.bytes += more
            stay.bytes += more
