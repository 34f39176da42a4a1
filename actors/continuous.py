"""Requests of many clients in one model: while some decode, the next ones are admitted.

The model's thread does this, for ever:

1. Where another cohort may be under way and requests wait, the oldest is admitted, with those of
   its kind and like length that fit beside it, in the order in which they came.
2. One forward pass of every cohort under way; the first one of a cohort is its prefill.

What has failed together runs again in parts, each with nothing beside it.

There is no timer. A request that comes alone runs alone and at once; while the model is busy others
gather, and the next cohort is as large as what has come.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic

from actors.batching import MOST_PADDING, judged, padding, release_memory
from actors.engine import Running
from actors.tickets import CohortModel, Item, Listener, Load, Result, Ticket
from sgl.errors import ExpiredError, OverloadedError, UnavailableError
from sgl.types import Failure

logger = logging.getLogger(__name__)

_LEAST_RETRY_S, _MOST_RETRY_S = 1.0, 30.0


class _Cohort(Generic[Item, Result]):
    """A cohort under way and whose it is."""

    def __init__(self, tickets: Sequence[Ticket[Item, Result]], running: Running[Result]) -> None:
        self.tickets = tickets
        self.running = running
        self.open = set(range(len(tickets)))

    def leave(self) -> None:
        """Cancel what nobody waits for any more."""
        for place in [place for place in self.open if self.tickets[place].gone]:
            self.open.discard(place)
            self.running.cancel(place)


class Continuous(Generic[Item, Result]):
    """Runs a model for requests that come at any time.

    Args:
        load: makes the model, in the only thread that ever runs it.
        max_waiting: requests that may wait; more are refused.
        max_cohorts: under way at the same time.
        on_death: called with what the model cannot go on after.

    Raises (on construction): what `load` raises.
    """

    def __init__(
        self,
        load: Callable[[], CohortModel[Item, Result]],
        *,
        max_waiting: int,
        max_cohorts: int,
        on_death: Callable[[BaseException], None],
    ) -> None:
        self._max_waiting, self._max_cohorts = max_waiting, max_cohorts
        self._on_death = on_death
        self._changed = threading.Condition()
        self._waiting: deque[Ticket[Item, Result]] = deque()
        self._again: deque[Sequence[Ticket[Item, Result]]] = deque()
        self._cohorts: list[_Cohort[Item, Result]] = []
        self._closed = False
        self._pass_since: float | None = None
        self._pace_s = 0.0
        loaded: list[CohortModel[Item, Result] | BaseException] = []
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._work, args=(load, loaded, ready), name="model", daemon=True
        )
        self._thread.start()
        ready.wait()
        if isinstance(loaded[0], BaseException):
            raise loaded[0]
        self._model = loaded[0]

    def submit(
        self, item: Item, listener: Listener[Result], *, timeout_s: float, heard: bool = False
    ) -> Ticket[Item, Result]:
        """Ask; the listener hears what comes of it, and nothing where this raises.

        Args:
            item: what is asked.
            listener: who asks.
            timeout_s: after which nobody wants the answer.
            heard: whether its text is wanted as it comes.

        Raises:
            RecordError: the item is bad.
            OverloadedError: as many wait as may.
            UnavailableError: the model is at its end.
        """
        if len(self._waiting) >= self._max_waiting:  # before work is done for it
            raise self._overloaded()
        layout, now = self._model.lay_out(item), time.monotonic()
        ticket = Ticket(item, self._model.kind(item), layout, heard, listener, now + timeout_s, now)
        with self._changed:
            if self._closed:
                raise UnavailableError("the model is being shut down")
            if len(self._waiting) >= self._max_waiting:
                raise self._overloaded()
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    def load(self) -> Load:
        """How busy the model is; from any thread."""
        since = self._pass_since
        return Load(
            waiting=len(self._waiting),
            running=sum(len(cohort.open) for cohort in list(self._cohorts)),
            cohorts=len(self._cohorts),
            busy_s=0.0 if since is None else time.monotonic() - since,
        )

    def close(self, timeout_s: float | None = None) -> None:
        """Take no more requests, and wait until those that were taken are done."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _overloaded(self) -> OverloadedError:
        needed = (len(self._waiting) + 1) * self._pace_s
        retry = min(max(needed, _LEAST_RETRY_S), _MOST_RETRY_S)
        return OverloadedError(
            f"the {self._model.stage} model has {len(self._waiting)} requests waiting", retry
        )

    def _work(
        self,
        load: Callable[[], CohortModel[Item, Result]],
        loaded: list[CohortModel[Item, Result] | BaseException],
        ready: threading.Event,
    ) -> None:
        try:
            loaded.append(load())
        except BaseException as error:
            loaded.append(error)
            return
        finally:
            ready.set()
        try:
            while self._has_work():
                self._expire()
                if tickets := self._admitted():
                    self._begin(tickets)
                for cohort in list(self._cohorts):
                    self._step(cohort)
        except BaseException as error:
            logger.exception("the model cannot go on")
            self._on_death(error)

    def _has_work(self) -> bool:
        """Wait for some; False at the end."""
        with self._changed:
            while not (self._waiting or self._again or self._cohorts):
                if self._closed:
                    return False
                self._changed.wait()
        return True

    def _expire(self) -> None:
        """Tell those whose time is over, and let them go."""
        now = time.monotonic()
        running = [cohort.tickets[place] for cohort in self._cohorts for place in cohort.open]
        again = [ticket for part in self._again for ticket in part]
        with self._changed:
            every = [*self._waiting, *again, *running]
            late = [one for one in every if not one.gone and one.deadline < now]
            for ticket in late:
                ticket.gone = True
            left = [ticket for ticket in self._waiting if not ticket.gone]
            self._waiting.clear()
            self._waiting.extend(left)
        for ticket in late:
            ticket.listener.failed(ExpiredError("there was no answer within the time"))

    def _admitted(self) -> Sequence[Ticket[Item, Result]]:
        """What begins now; nothing where nothing waits, or nothing more may be under way."""
        if len(self._cohorts) >= self._max_cohorts or (self._again and self._cohorts):
            # What has failed beside others runs by itself, so that it is known whose fault it was.
            return []
        while self._again:
            if part := [ticket for ticket in self._again.popleft() if not ticket.gone]:
                return part
        with self._changed:
            chosen = self._chosen(list(self._waiting))
            for ticket in chosen:
                self._waiting.remove(ticket)
        return chosen

    def _chosen(self, waiting: Sequence[Ticket[Item, Result]]) -> list[Ticket[Item, Result]]:
        """The oldest, and who can go with it."""
        chosen: list[Ticket[Item, Result]] = []
        running = [cohort.tickets[p].layout for cohort in self._cohorts for p in cohort.open]
        for ticket in waiting:
            together = [*(one.layout for one in chosen), ticket.layout]
            if chosen and ticket.kind != chosen[0].kind:
                continue
            if padding([layout.length for layout in together]) > MOST_PADDING:
                continue
            # One that fits nowhere runs alone.
            if (chosen or running) and not self._model.fits(ticket.kind, [*running, *together]):
                break
            chosen.append(ticket)
            if len(chosen) == self._model.most:
                break
        return chosen

    def _begin(self, tickets: Sequence[Ticket[Item, Result]]) -> None:
        for ticket in tickets:
            ticket.begun = ticket.begun or time.monotonic()
            ticket.retold.again()
        heard = [place for place, ticket in enumerate(tickets) if ticket.heard]
        try:
            running = self._model.cohort([ticket.item for ticket in tickets], heard)
        except Exception as error:
            self._divide(tickets, error)
        else:
            self._cohorts.append(_Cohort(tickets, running))

    def _step(self, cohort: _Cohort[Item, Result]) -> None:
        cohort.leave()
        if cohort.open:
            self._pass_since = time.monotonic()
            try:
                events = cohort.running.step()
            except Exception as error:
                self._cohorts.remove(cohort)
                self._divide([cohort.tickets[place] for place in sorted(cohort.open)], error)
                return
            finally:
                self._pass_since = None
            for event in events:
                self._tell(cohort, event)
        if not cohort.open:
            self._cohorts.remove(cohort)

    def _tell(self, cohort: _Cohort[Item, Result], event: object) -> None:
        from sgl.cohort import Done, Said

        assert isinstance(event, Said | Done)
        ticket = cohort.tickets[event.record]
        if isinstance(event, Said):
            self._say(ticket, event.text)
        else:
            cohort.open.discard(event.record)
            self._finish(ticket, event.result)

    def _say(self, ticket: Ticket[Item, Result], text: str) -> None:
        try:
            new = ticket.retold.more(text)
        except UnavailableError as error:
            ticket.gone = True
            ticket.listener.failed(error)
        else:
            if new and not ticket.gone:
                ticket.listener.said(new)

    def _finish(self, ticket: Ticket[Item, Result], result: Result | Failure) -> None:
        now = time.monotonic()
        begun = ticket.begun or now
        # A moving mean: how long the queue takes to lose one.
        taken = (now - begun) / max(1, self._running_now())
        self._pace_s = taken if self._pace_s == 0 else 0.9 * self._pace_s + 0.1 * taken
        if not ticket.gone:
            ticket.gone = True
            ticket.listener.done(result, begun - ticket.arrived, now - begun)

    def _running_now(self) -> int:
        return sum(len(cohort.open) + 1 for cohort in self._cohorts)

    def _divide(self, tickets: Sequence[Ticket[Item, Result]], error: Exception) -> None:
        """Run less at once; what fails alone has failed."""
        fault = judged(error, self._model.stage)
        tickets = [ticket for ticket in tickets if not ticket.gone]
        if len(tickets) == 1:
            (ticket,) = tickets
            failure = Failure(ticket.item.id, self._model.stage, fault.type, fault.message)
            self._finish(ticket, failure)
        elif tickets:
            release_memory()
            self._again.extend(fault.parts(tickets))
