"""Requests of many clients in one model: while some decode, the next ones are admitted.

The model's thread does this, for ever:

1. Where there is room and requests wait, the oldest is admitted, with those of its kind and like
   length that fit beside it, in the order in which they came: a cohort.
2. One forward pass of every cohort under way; the first one of a cohort is its prefill.

What has failed together, or for want of memory beside others, is tried again in parts, each with
nothing beside it.

There is no timer. A request that comes alone runs alone and at once; while the model is busy others
gather, and the next cohort is as large as what has come.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from actors.admission import Cohort, Room
from actors.batching import Fault, judged, release_memory
from actors.retold import diverged
from actors.tickets import CohortModel, Item, Listener, Load, Result, Ticket
from sgl.errors import ExpiredError, OverloadedError, UnavailableError
from sgl.types import Failure

logger = logging.getLogger(__name__)

_LEAST_RETRY_S, _MOST_RETRY_S = 1.0, 30.0


@dataclass(frozen=True)
class _Admission(Generic[Item, Result]):
    """What is to begin."""

    tickets: Sequence[Ticket[Item, Result]]
    trial: bool = False


class Continuous(Generic[Item, Result]):
    """Runs a model for requests that come at any time.

    Args:
        load: makes the model, in the only thread that ever runs it.
        max_waiting: requests that may wait; more are refused.
        batches: whole ones, as many records as which may be under way at the same time.
        on_death: called with what the model cannot go on after.

    Raises (on construction): what `load` raises.
    """

    def __init__(
        self,
        load: Callable[[], CohortModel[Item, Result]],
        *,
        max_waiting: int,
        batches: int,
        on_death: Callable[[BaseException], None],
    ) -> None:
        self._max_waiting = max_waiting
        self._on_death = on_death
        self._changed = threading.Condition()
        self._waiting: deque[Ticket[Item, Result]] = deque()
        self._again: deque[Sequence[Ticket[Item, Result]]] = deque()
        self._cohorts: list[Cohort[Item, Result]] = []
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
        self._room = Room(self._model, batches)

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
                self._go_on()
        except BaseException as error:
            logger.exception("the model cannot go on")
            self._on_death(error)

    def _go_on(self) -> None:
        """One pass of everything; keeps nothing of a cohort that has ended."""
        self._expire()
        if admission := self._admitted():
            self._begin(admission)
        for cohort in list(self._cohorts):
            self._step(cohort)

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

    def _admitted(self) -> _Admission[Item, Result] | None:
        """What begins now, if anything waits and there is room."""
        cohorts = self._cohorts
        if any(cohort.trial for cohort in cohorts) or (self._again and cohorts):
            return None
        while self._again:
            if part := [ticket for ticket in self._again.popleft() if not ticket.gone]:
                return _Admission(part, trial=True)
        with self._changed:
            chosen = self._room.chosen(list(self._waiting), cohorts)
            for ticket in chosen:
                self._waiting.remove(ticket)
        return _Admission(chosen) if chosen else None

    def _begin(self, admission: _Admission[Item, Result]) -> None:
        tickets = admission.tickets
        for ticket in tickets:
            ticket.begun = ticket.begun or time.monotonic()
            ticket.retold.again()
        heard = [place for place, ticket in enumerate(tickets) if ticket.heard]
        items, layouts = zip(*((ticket.item, ticket.layout) for ticket in tickets), strict=True)
        try:
            running = self._model.cohort(items, heard, layouts)
        except Exception as error:
            fault = judged(error, self._model.stage)
        else:
            size = self._room.bytes_of(tickets)
            self._cohorts.append(Cohort(tickets, running, size, trial=admission.trial))
            return
        # Outside the except block, whose traceback would keep the failed batch's tensors alive.
        self._divide(tickets, fault, trial=admission.trial)

    def _step(self, cohort: Cohort[Item, Result]) -> None:
        cohort.leave()
        fault: Fault | None = None
        if cohort.open:
            self._pass_since = time.monotonic()
            try:
                for event in cohort.running.step():
                    self._tell(cohort, event)
            except Exception as error:
                fault = judged(error, self._model.stage)
            finally:
                self._pass_since = None
        if fault or not cohort.open:
            self._cohorts.remove(cohort)
        if fault:
            left = [cohort.tickets[place] for place in sorted(cohort.open)]
            del cohort.running
            self._divide(left, fault, trial=cohort.trial)

    def _tell(self, cohort: Cohort[Item, Result], event: object) -> None:
        from sgl.cohort import Done, Said

        assert isinstance(event, Said | Done)
        ticket = cohort.tickets[event.record]
        if isinstance(event, Said):
            self._say(ticket, event.text)
        else:
            cohort.open.discard(event.record)
            if ticket.heard and not ticket.retold.complete:
                self._refuse(ticket, diverged())
            self._finish(ticket, event.result)

    def _say(self, ticket: Ticket[Item, Result], text: str) -> None:
        try:
            new = ticket.retold.more(text)
        except UnavailableError as error:
            self._refuse(ticket, error)
        else:
            if new and not ticket.gone:
                ticket.listener.said(new)

    def _refuse(self, ticket: Ticket[Item, Result], error: UnavailableError) -> None:
        if not ticket.gone:
            ticket.gone = True
            ticket.listener.failed(error)

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

    def _divide(
        self, tickets: Sequence[Ticket[Item, Result]], fault: Fault, *, trial: bool
    ) -> None:
        """Run less at once; what fails alone has failed."""
        tickets = [ticket for ticket in tickets if not ticket.gone]
        if fault.halve:
            release_memory()
        if len(tickets) == 1 and (trial or not fault.halve):
            (ticket,) = tickets
            failure = Failure(ticket.item.id, self._model.stage, fault.type, fault.message)
            self._finish(ticket, failure)
        elif tickets:
            self._again.extend(fault.parts(tickets))
