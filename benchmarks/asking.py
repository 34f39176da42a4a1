"""One client of an endpoint, by a connection that it keeps."""

import http.client
import json
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from benchmarks.load_plan import CHAT, NO_ANSWER

_HEADERS = {"content-type": "application/json"}
_TIMEOUT_S = 60.0
_PAUSE_S = 0.02


class Client:
    """Asks.

    Args:
        url: of the endpoint, http://host:port.
    """

    def __init__(self, url: str) -> None:
        host = url.removeprefix("http://")
        self._connection = http.client.HTTPConnection(host, timeout=_TIMEOUT_S)

    def ask(self, body: bytes) -> tuple[dict[str, Any], float]:
        """The answer, or the error, and the seconds until all of it was here."""
        begun = time.perf_counter()
        self._connection.request("POST", CHAT, body, _HEADERS)
        data = self._connection.getresponse().read()
        taken = time.perf_counter() - begun
        told: dict[str, Any] = json.loads(data)
        return told, taken

    def status(self, body: bytes) -> tuple[int, float]:
        """The status alone; NO_ANSWER where the connection breaks."""
        begun = time.perf_counter()
        try:
            self._connection.request("POST", CHAT, body, _HEADERS)
            response = self._connection.getresponse()
            response.read()
            return response.status, time.perf_counter() - begun
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return NO_ANSWER, time.perf_counter() - begun


class Prober:
    """Asks one request after the other in a thread, until the block ends.

    Args:
        url: of the endpoint.
        bodies: that are asked in turn.

    Attributes:
        seen: time.time() when each was begun, its status, and its seconds.
    """

    def __init__(self, url: str, bodies: Sequence[bytes]) -> None:
        self.seen: list[tuple[float, int, float]] = []
        self._client, self._bodies = Client(url), bodies
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="prober", daemon=True)

    def __enter__(self) -> "Prober":
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

    def _ask(self) -> None:
        while not self._stop.wait(_PAUSE_S):
            at = time.time()
            body = self._bodies[len(self.seen) % len(self._bodies)]
            self.seen.append((at, *self._client.status(body)))


def recovered_s(
    seen: Sequence[tuple[float, int, float]], since: float, most_s: float, in_a_row: int = 5
) -> float | None:
    """Seconds from a moment until answers come within `most_s`, some of them in a row.

    Args:
        seen: of a Prober.
        since: time.time().
        most_s: of one answer.
        in_a_row: how many.

    Returns:
        None if that never came.
    """
    good: list[float] = []
    for at, status, seconds in seen:
        if at < since:
            continue
        good = [*good, at] if status == 200 and seconds <= most_s else []
        if len(good) == in_a_row:
            return good[0] - since
    return None
