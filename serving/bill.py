"""What a request takes off its client's tokens, as it becomes known and not only at the end."""

from collections.abc import Callable

from serving.backend import Delta
from serving.pieces import Decision, Guided, Outcome, Piece
from serving.replies import tokens_of
from sgl.types import Failure, Route


class Bill:
    """Of one request, however it ends.

    An answer that nobody waits for is charged by its pieces: what the model has read for it is
    known with its end alone.

    Args:
        charge: of the client.
    """

    def __init__(self, charge: Callable[[int], None]) -> None:
        self._charge = charge
        self._paid = self._pieces = 0
        self._is_paid = False

    def saw(self, piece: Piece) -> None:
        """Count a piece of the answer."""
        if isinstance(piece, Guided):
            assert not isinstance(piece.small.result, Failure), "a failure is no answer"
            usage = piece.small.result.usage
            self._pay(usage.prompt_tokens + usage.completion_tokens)
        elif isinstance(piece, Decision):
            # The small model's answer, which the pair has paid for whole.
            self._is_paid = piece.route is Route.SMALL and piece.small is not None
        elif isinstance(piece, Delta):
            self._pieces += not self._is_paid
        elif isinstance(piece, Outcome):
            self._pieces = 0
            self._pay(tokens_of(piece) - self._paid)

    def end(self) -> None:
        """There is no more to come; to be called once."""
        if self._pieces:
            self._pay(self._pieces)

    def _pay(self, tokens: int) -> None:
        self._paid += tokens
        self._charge(tokens)
