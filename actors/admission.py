"""Which requests begin together, and when there is room for them.

Room is memory, and places of so many whole batches. As cohorts may be small, there may be more of
them: a few long answers must not hold up everybody else.
"""

from collections.abc import Sequence
from typing import Any, Generic

from actors.batching import MOST_PADDING, padding
from actors.engine import Running
from actors.tickets import CohortModel, Item, Result, Ticket

_SMALL_COHORTS = 4
"""So many times as many cohorts as there may be whole ones: each costs a pass of its own."""


class Cohort(Generic[Item, Result]):
    """A cohort under way and whose it is.

    Attributes:
        bytes: that it may take, until it ends: who leaves it early leaves its memory behind.
        trial: what has failed before, with nothing beside it.
    """

    def __init__(
        self,
        tickets: Sequence[Ticket[Item, Result]],
        running: Running[Result],
        size: int,
        *,
        trial: bool,
    ) -> None:
        self.tickets = tickets
        self.running = running
        self.bytes = size
        self.trial = trial
        self.open = set(range(len(tickets)))

    def leave(self) -> None:
        """Cancel what nobody waits for any more."""
        for place in [place for place in self.open if self.tickets[place].gone]:
            self.open.discard(place)
            self.running.cancel(place)


class Room(Generic[Item, Result]):
    """What a model can have under way.

    Args:
        model: whose.
        batches: whole ones, as many records as which may be under way.
    """

    def __init__(self, model: CohortModel[Item, Result], batches: int) -> None:
        self._model = model
        self._batches = batches

    def chosen(
        self, waiting: Sequence[Ticket[Item, Result]], cohorts: Sequence[Cohort[Any, Any]]
    ) -> list[Ticket[Item, Result]]:
        """The oldest and who can go with it, in the order in which they came; perhaps none.

        Args:
            waiting: the oldest first.
            cohorts: under way.
        """
        places = self._batches * self._model.most - sum(len(one.open) for one in cohorts)
        if places <= 0 or len(cohorts) >= _SMALL_COHORTS * self._batches:
            return []
        chosen: list[Ticket[Item, Result]] = []
        left = self._model.room_bytes - sum(cohort.bytes for cohort in cohorts)
        for ticket in waiting:
            together = [*chosen, ticket]
            if ticket.kind != together[0].kind:
                continue
            if padding([one.layout.length for one in together]) > MOST_PADDING:
                continue
            # One that fits nowhere runs alone.
            if (chosen or cohorts) and self.bytes_of(together) > left:
                break
            chosen = together
            if len(chosen) == min(places, self._model.most):
                break
        return chosen

    def bytes_of(self, tickets: Sequence[Ticket[Item, Result]]) -> int:
        """What a cohort of these takes."""
        return self._model.peak_bytes(tickets[0].kind, [ticket.layout for ticket in tickets])
