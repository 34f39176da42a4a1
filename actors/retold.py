"""An answer that is told again, to somebody who has heard its beginning."""

from sgl.errors import UnavailableError


class Retold:
    """Says of an answer's text only what is new, however often it is begun anew.

    Answers are greedy, or drawn with a seed, so that a second one is the first one again; only its
    batch is another, which in rare cases changes a token.
    """

    def __init__(self) -> None:
        self._heard = ""
        self._told = ""

    def again(self) -> None:
        """The answer is begun anew."""
        self._told = ""

    def more(self, text: str) -> str:
        """What of the next text is new.

        Raises:
            UnavailableError: this answer begins otherwise than what was heard.
        """
        self._told += text
        known = len(self._heard)
        if self._told[:known] != self._heard[: len(self._told)]:
            raise diverged()
        new = self._told[known:]
        self._heard += new
        return new

    @property
    def complete(self) -> bool:
        """Whether all that was heard was told again; if not at its end, the answer is another."""
        return len(self._told) >= len(self._heard)


def diverged() -> UnavailableError:
    """The answer begins otherwise than what was heard."""
    return UnavailableError(
        "the answer was begun by a batch that has failed, and goes on otherwise in another one; "
        "ask again"
    )
