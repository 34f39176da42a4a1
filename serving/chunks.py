"""An answer as OpenAI streams it: server-sent events, one JSON object each."""

import json
import time
from typing import Any

from serving.api_errors import ApiError
from serving.asks import Ask
from serving.completions import Chunk, ChunkChoice, CompletionUsage, Delta, FinishReason, SglReport

DONE = b"data: [DONE]\n\n"


class Chunks:
    """Writes the events of one answer.

    Args:
        ask: what is answered.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._created = int(time.time())

    def first(self) -> bytes:
        """Who speaks."""
        return self._piece(Delta(role="assistant", content=""))

    def text(self, text: str) -> bytes:
        """More of the answer."""
        return self._piece(Delta(content=text))

    def last(self, finish: FinishReason, report: SglReport) -> bytes:
        """That it has ended, and how it came about."""
        return self._piece(Delta(), finish, sgl=report)

    def usage(self, usage: CompletionUsage) -> bytes:
        """What it took."""
        return self._event([], usage=usage)

    def _piece(self, delta: Delta, finish: FinishReason | None = None, **parts: SglReport) -> bytes:
        choice = ChunkChoice(delta=delta, finish_reason=finish)
        return self._event([choice], **parts)

    def _event(self, choices: list[ChunkChoice], **parts: Any) -> bytes:
        chunk = Chunk(
            id=self._ask.question.id,
            created=self._created,
            model=self._ask.choice.name,
            choices=choices,
            **parts,
        )
        return f"data: {chunk.model_dump_json()}\n\n".encode()


def error_event(error: ApiError) -> bytes:
    """An answer that breaks off; clients of OpenAI's raise it."""
    return f"event: error\ndata: {json.dumps(error.body())}\n\n".encode()
