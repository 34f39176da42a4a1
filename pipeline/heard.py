"""What a stage has heard from elsewhere, without ever waiting for it."""

import time
from collections.abc import Callable
from concurrent.futures import Future

_ASKED_EVERY_S = 1.0


class Heard:
    """Something that becomes true once and stays so; known a second or so late.

    Args:
        question: starts to ask; None where nobody would answer.
        known: it is true already.
        clock: seconds.
    """

    def __init__(
        self,
        question: Callable[[], "Future[bool]"] | None,
        *,
        known: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._question = question
        self._clock = clock
        self._asked_at = float("-inf")
        self._answer: Future[bool] | None = None
        self._active = known

    def ask(self) -> None:
        """Ask again, if that is due: before work that takes long enough for an answer."""
        if self._question is None or self.active() or self._answer is not None:
            return
        if self._clock() - self._asked_at >= _ASKED_EVERY_S:
            self._asked_at, self._answer = self._clock(), self._question()

    def active(self) -> bool:
        """As far as this stage has heard; once true, always true."""
        if not self._active and self._answer is not None and self._answer.done():
            # Whoever cannot be reached says nothing, and is asked again.
            self._active = self._answer.exception() is None and self._answer.result()
            self._answer = None
        return self._active
