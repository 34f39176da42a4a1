"""An answer's text while its tokens come: nothing is said that would have to be taken back."""

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import DecodeStream


def cut_at(text: str, stops: Sequence[str]) -> str:
    """The text up to the first of some stop texts, and nothing of that."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)]


class TextStream:
    """Says new text as tokens come; all of it together is the answer, as `VLM.text` has it.

    Blanks at the answer's ends are never said, and what may be the beginning of a stop text is
    held back until it is none.

    Args:
        tokenizer: of transformers; one without a fast backend says nothing before the end.
        stops: texts that end the answer.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str] = ()) -> None:
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self._decoded = DecodeStream(skip_special_tokens=True)
        self._stops = stops
        self._read = 0
        self._text = ""
        self._said = 0

    def more(self, token_ids: Sequence[int]) -> str:
        """New text that is certain.

        Args:
            token_ids: of the answer so far, from its beginning.
        """
        if self._backend is None:
            return ""
        for token in token_ids[self._read :]:
            self._text += self._decoded.step(self._backend, token) or ""
        self._read = len(token_ids)
        return self._say(self._certain())

    def rest(self, text: str) -> str:
        """What is left to say.

        Args:
            text: of the whole answer.
        """
        return self._say(text)

    def _certain(self) -> str:
        text = cut_at(self._text, self._stops)
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        return text[: len(text) - held].strip()

    def _say(self, text: str) -> str:
        new = text[self._said :]
        self._said += len(new)
        return new


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text a stop text could begin with."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)
