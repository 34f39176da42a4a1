"""The cascade for one request: the small model, then perhaps the large one.

Nothing of the small model's answer is told before the decision, and there is no decision for the
large model before it has begun to answer: until then the request may still be refused, or degrade.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from actors.config import PruningConfig
from actors.large_vlm import GuidedQuestion
from pipeline.whose_fault import is_of_the_request
from serving.api_errors import ApiError
from serving.asks import Ask
from serving.backend import Backend, Delta, Timed
from serving.config import Degrade
from serving.models import Part
from serving.pieces import Decision, Guided, Outcome, Piece
from sgl.early_exit import exits
from sgl.errors import ExpiredError, OverloadedError, UnavailableError
from sgl.types import Answer, Failure, Guidance, Route

_WORDS = re.compile(r"\s*\S+\s*$|\s*\S+")
_RETRY_AFTER_S = 5.0
"""Where the pool does not know better: replicas that died are back after about as long."""
_LONG = 1e6
"""Thresholds from here on, which no score reaches, are not written out: one may have 309 digits."""
_FULL_S = 0.05
"""A pool that has refused a request is taken to refuse the next ones too."""


class Gateway:
    """Answers requests.

    Args:
        backend: both models.
        degrade: what happens where the large one cannot be had.
        pruning: the large model's own.
    """

    def __init__(self, backend: Backend, degrade: Degrade, pruning: PruningConfig) -> None:
        self._backend = backend
        self._degrade = degrade
        self._pruning = pruning
        self._full: dict[str, tuple[float, OverloadedError]] = {}

    def check(self, ask: Ask) -> None:
        """Refuse what the pool that is asked first would refuse, before work is done for it.

        Under overload most requests are refused, and decoding their pictures only to hear so would
        take the time of those that are not.

        Raises:
            ApiError: it has just refused another one.
        """
        pool = "large" if ask.choice.part is Part.LARGE else "small"
        if pool in self._full:
            until, error = self._full[pool]
            if time.monotonic() < until:
                raise _refusal(error, pool)

    def answer(self, ask: Ask) -> AsyncGenerator[Piece]:
        """One decision, the pieces of the text where they are wanted, and one outcome.

        Of the pair the small model's part comes ahead of them.

        Close it to stop: the models then stop too.

        Raises:
            ApiError: there is no answer; anything but a failure of the models on the way comes
                before the decision.
        """
        ways = {Part.PAIR: self._pair, Part.SMALL: self._small, Part.LARGE: self._large}
        return ways[ask.choice.part](ask)

    async def _pair(self, ask: Ask) -> AsyncGenerator[Piece]:
        small = await self._guide(ask)
        yield Guided(small)
        score, threshold = cast("Guidance", small.result).exit_score, ask.choice.threshold
        if exits(score, threshold):
            reason = _compared(score, "reaches", threshold)
            for piece in _settled(Decision(Route.SMALL, reason, small=small), ask):
                yield piece
            return
        reason = _compared(score, "is below", threshold)
        decision = Decision(Route.LARGE, reason, small=small)
        async with aclosing(self._escalated(ask, decision)) as pieces:
            async for piece in pieces:
                yield piece

    async def _escalated(self, ask: Ask, decision: Decision) -> AsyncGenerator[Piece]:
        own = ask.choice.pruning if ask.choice.pruning != self._pruning else None
        request = GuidedQuestion(ask.question, Outcome(decision).guidance, own)
        begun = False
        try:
            async with aclosing(self._answered(ask, request, decision)) as pieces:
                async for piece in pieces:
                    begun = True
                    yield piece
        except (OverloadedError, UnavailableError) as error:
            if begun or self._degrade is Degrade.ERROR:
                raise self._refused(error, "large") from error
            for piece in _settled(_degraded(decision, error), ask):
                yield piece

    async def _large(self, ask: Ask) -> AsyncGenerator[Piece]:
        decision = Decision(Route.LARGE, "the large model was asked for")
        try:
            async with aclosing(
                self._answered(ask, GuidedQuestion(ask.question), decision)
            ) as pieces:
                async for piece in pieces:
                    yield piece
        except (OverloadedError, UnavailableError) as error:
            raise self._refused(error, "large") from error

    async def _small(self, ask: Ask) -> AsyncGenerator[Piece]:
        decision = Decision(Route.SMALL, "the small model was asked for")
        call = self._backend.guide(ask.question, timeout_s=ask.remaining_s(), stream=ask.stream)
        try:
            async with aclosing(_told(call, ask, decision)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Timed):
                        yield Outcome(replace(decision, small=piece))
                    else:
                        yield piece
        except (OverloadedError, UnavailableError) as error:
            raise self._refused(error, "small") from error

    async def _guide(self, ask: Ask) -> Timed:
        """The small model's part of the pair; its text is for nobody yet."""
        call = self._backend.guide(ask.question, timeout_s=ask.remaining_s(), stream=False)
        try:
            async with aclosing(_before(call, ask.deadline)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Timed):
                        return _checked(piece)
        except (OverloadedError, UnavailableError) as error:
            raise self._refused(error, "small") from error
        raise AssertionError("a model's call ended without a result")

    async def _answered(
        self, ask: Ask, request: GuidedQuestion, decision: Decision
    ) -> AsyncGenerator[Piece]:
        """The large model's answer, and the decision once there is some of it."""
        call = self._backend.answer(request, timeout_s=ask.remaining_s(), stream=ask.stream)
        async with aclosing(_told(call, ask, decision)) as pieces:
            async for piece in pieces:
                yield Outcome(decision, piece) if isinstance(piece, Timed) else piece

    def _refused(self, error: OverloadedError | UnavailableError, pool: str) -> ApiError:
        if isinstance(error, OverloadedError):
            self._full[pool] = time.monotonic() + _FULL_S, error
        return _refusal(error, pool)


async def _told(
    call: AsyncIterator[Delta | Timed], ask: Ask, decision: Decision
) -> AsyncGenerator[Decision | Delta | Timed]:
    """A call's pieces after the decision for it; a text that came whole is cut where it matters."""
    decided = texts = False
    async with aclosing(_before(call, ask.deadline)) as pieces:
        async for piece in pieces:
            text = _text_of(_checked(piece)) if isinstance(piece, Timed) else ""
            if not decided:
                decided = True
                yield decision
            if ask.stream and not texts:
                for delta in _words(text):
                    yield delta
            texts = True
            yield piece


async def _before(
    call: AsyncIterator[Delta | Timed], deadline: float
) -> AsyncGenerator[Delta | Timed]:
    """A call's pieces until its result or the deadline; the call is closed in any case.

    Raises:
        ApiError: of the deadline.
    """
    async with aclosing(cast("AsyncGenerator[Delta | Timed]", call)) as pieces:
        while True:
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                raise AssertionError("a model's call ended without a result") from None
            except (ExpiredError, TimeoutError) as error:
                raise expired() from error
            yield piece
            if isinstance(piece, Timed):
                return


def expired() -> ApiError:
    """There was no answer in time."""
    told = "there was no answer in time; allow more (sgl.timeout_s), or ask for less"
    return ApiError(504, told, kind="timeout_error", code="deadline_exceeded")


def _checked(piece: Timed) -> Timed:
    if not isinstance(piece.result, Failure):
        return piece
    kind, message = piece.result.type, piece.result.message
    if is_of_the_request(kind):
        raise ApiError(400, message, code=kind, param="messages")
    raise ApiError(500, message, kind="server_error", code=kind)


def _text_of(piece: Timed) -> str:
    result = piece.result
    assert not isinstance(result, Failure), "a failure is no answer"
    return result.text if isinstance(result, Answer) else result.answer


def _words(text: str) -> list[Delta]:
    """A text in pieces of a word each, which together are the text."""
    return [Delta(found.group()) for found in _WORDS.finditer(text)]


def _settled(decision: Decision, ask: Ask) -> list[Piece]:
    """All pieces of an answer that the small model has given already."""
    outcome = Outcome(decision)
    return [decision, *(_words(outcome.text) if ask.stream else ()), outcome]


def _degraded(decision: Decision, error: OverloadedError | UnavailableError) -> Decision:
    busy = isinstance(error, OverloadedError)
    why = "has too many requests" if busy else "is not available"
    return replace(
        decision,
        route=Route.SMALL,
        reason=f"{decision.reason}, but the large model {why}",
        degraded="large_overloaded" if busy else "large_unavailable",
    )


def _refusal(error: OverloadedError | UnavailableError, pool: str) -> ApiError:
    if isinstance(error, OverloadedError):
        told = f"the {pool} model has as many requests waiting as may; try again"
        kind, code, after = "overloaded_error", f"{pool}_overloaded", error.retry_after_s
    else:
        told = f"the {pool} model is not available now; try again"
        kind, code, after = "server_error", f"{pool}_unavailable", _RETRY_AFTER_S
    return ApiError(503, told, kind=kind, code=code, retry_after_s=after)


def _compared(score: float, how: str, threshold: float) -> str:
    """The decision in words, with as many digits as tell the two numbers apart."""
    digits = next((d for d in range(2, 17) if f"{score:.{d}f}" != f"{threshold:.{d}f}"), 2)
    if threshold < _LONG:
        return f"exit score {score:.{digits}f} {how} the threshold {threshold:.{digits}f}"
    return f"exit score {score:.{digits}f} {how} the threshold {threshold:.6g}"
