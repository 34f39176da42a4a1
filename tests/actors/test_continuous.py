"""Requests that come at any time share a model, and none waits for another's answer."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from actors.continuous import Continuous
from actors.retold import Retold
from sgl.cohort import Done, Said
from sgl.errors import (
    DeviceError,
    EmptyQuestionError,
    ExpiredError,
    NumericalError,
    OverloadedError,
    UnavailableError,
)
from sgl.layout import PromptLayout
from sgl.types import Failure


@dataclass(frozen=True)
class Item:
    id: str
    passes: int = 1
    length: int = 10
    kind: str = "a"
    error: Exception | None = None
    bad: bool = False


class Running:
    """Says a letter of the id's with each pass and is done after its passes."""

    def __init__(self, model: "Model", items: Sequence[Item], heard: Collection[int]) -> None:
        self.model, self.items, self.heard = model, items, heard
        self.open, self.passed = set(range(len(items))), 0

    @property
    def unfinished(self) -> bool:
        return bool(self.open)

    def cancel(self, record: int) -> None:
        self.model.cancelled.append(self.items[record].id)
        self.open.discard(record)

    def step(self) -> list[Any]:
        self.model.gate()
        self.passed += 1
        self.model.passes.append([self.items[place].id for place in sorted(self.open)])
        events: list[Any] = []
        for place in sorted(self.open):
            item = self.items[place]
            if item.error and self.passed == item.passes:
                raise item.error
            if place in self.heard:
                events.append(Said(place, str(self.passed)))
            if self.passed == item.passes:
                events.append(Done(place, f"answer {item.id}"))
                self.open.discard(place)
        return events


class Model:
    stage = "small"

    def __init__(self, most: int = 8, room: int = 1000) -> None:
        self.most, self.room_bytes = most, room
        self.passes: list[list[str]] = []
        self.cohorts: list[list[str]] = []
        self.cancelled: list[str] = []
        self._open = threading.Event()
        self._open.set()
        self._waits = threading.Semaphore(0)

    def gate(self) -> None:
        if not self._open.is_set():
            assert self._waits.acquire(timeout=20)

    @contextmanager
    def held(self) -> Iterator[Callable[[], None]]:
        """Passes happen when they are let; yields what lets one."""
        self._open.clear()
        try:
            yield self._waits.release
        finally:
            self._open.set()
            self._waits.release()

    def kind(self, item: Item) -> str:
        return item.kind

    def lay_out(self, item: Item) -> PromptLayout:
        if item.bad:
            raise EmptyQuestionError("the question is empty")
        return PromptLayout([0] * item.length, (), 0, 0, 0.0, 1)

    def peak_bytes(self, _kind: object, layouts: Sequence[PromptLayout]) -> int:
        return sum(layout.length for layout in layouts)

    def cohort(
        self,
        items: Sequence[Item],
        heard: Collection[int] = (),
        layouts: Sequence[PromptLayout] | None = None,
    ) -> Running:
        assert layouts is not None
        assert [one.length for one in layouts] == [item.length for item in items]
        self.cohorts.append([item.id for item in items])
        return Running(self, items, heard)


@dataclass
class Ear:
    texts: list[str] = field(default_factory=list)
    outcome: Any = None
    over: threading.Event = field(default_factory=threading.Event)

    def said(self, text: str) -> None:
        assert not self.over.is_set()
        self.texts.append(text)

    def done(self, result: Any, queued_s: float, served_s: float) -> None:
        assert not self.over.is_set()
        assert min(queued_s, served_s) >= 0
        self.outcome = result
        self.over.set()

    def failed(self, error: Exception) -> None:
        assert not self.over.is_set()
        self.outcome = error
        self.over.set()

    def wait(self) -> Any:
        assert self.over.wait(20)
        return self.outcome


@pytest.fixture
def deaths() -> list[BaseException]:
    return []


def running(
    model: Model, deaths: list[BaseException], *, waiting: int = 100, batches: int = 4
) -> Continuous[Item, str]:
    return Continuous(lambda: model, max_waiting=waiting, batches=batches, on_death=deaths.append)


def ask(
    model: Continuous[Item, str], item: Item, timeout_s: float = 60.0, *, heard: bool = False
) -> tuple[Any, Ear]:
    ear = Ear()
    return model.submit(item, ear, timeout_s=timeout_s, heard=heard), ear


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_one_alone_runs_at_once_and_what_comes_meanwhile_runs_together(
    deaths: list[BaseException],
) -> None:
    model = Model()
    serving = running(model, deaths)
    with model.held() as let:
        first = ask(serving, Item("1", passes=3))[1]
        until(lambda: serving.load().running == 1)
        others = [ask(serving, Item(str(n)))[1] for n in (2, 3, 4)]
        let()
        assert [ear.wait() for ear in others] if let() else True
        let()
    assert [ear.wait() for ear in [first, *others]] == [f"answer {n}" for n in (1, 2, 3, 4)]
    assert model.cohorts == [["1"], ["2", "3", "4"]]
    # The short ones did not wait for the long one's end.
    assert model.passes.index(["2", "3", "4"]) < 3
    serving.close()
    assert not deaths


def test_only_like_requests_share_a_cohort(deaths: list[BaseException]) -> None:
    model = Model(most=2)
    serving = running(model, deaths)
    items = [
        Item("1"),
        *(Item("short"), Item("long", length=20), Item("other", kind="b")),
        *(Item("like"), Item("more")),
    ]
    with model.held():
        ears = [ask(serving, item)[1] for item in items[:1]]
        until(lambda: serving.load().running == 1)
        ears += [ask(serving, item)[1] for item in items[1:]]
    assert [ear.wait() for ear in ears] == [f"answer {item.id}" for item in items]
    assert model.cohorts == [["1"], ["short", "like"], ["long"], ["other"], ["more"]]
    serving.close()


def test_memory_bounds_what_is_under_way_and_one_that_never_fits_runs_alone(
    deaths: list[BaseException],
) -> None:
    model = Model(room=25)
    serving = running(model, deaths)
    with model.held() as let:
        ears = [ask(serving, Item("1", passes=2))[1]]
        until(lambda: serving.load().running == 1)
        ears += [ask(serving, item)[1] for item in (Item("2"), Item("3"), Item("4", length=90))]
        let()
        until(lambda: serving.load().running == 2)
        assert model.cohorts == [["1"], ["2"]]
    assert [ear.wait() for ear in ears] == [f"answer {n}" for n in (1, 2, 3, 4)]
    assert model.cohorts[2:] == [["3"], ["4"]]
    serving.close()


def test_long_answers_of_a_few_do_not_hold_up_the_others(deaths: list[BaseException]) -> None:
    model = Model()
    serving = running(model, deaths)
    long: list[Any] = []
    for number in range(4):
        long.append(ask(serving, Item(f"long {number}", passes=10**9)))
        until(lambda: serving.load().cohorts == len(long))
    assert ask(serving, Item("short"))[1].wait() == "answer short"
    assert serving.load().running == 4
    for ticket, _ in long:
        ticket.cancel()
    serving.close()


def test_places_are_of_whole_batches(deaths: list[BaseException]) -> None:
    model = Model(most=2)
    serving = running(model, deaths, batches=2)
    asked = [ask(serving, Item(str(n), passes=10**9)) for n in range(7)]
    until(lambda: serving.load().running == 4)
    passed = len(model.passes)
    until(lambda: len(model.passes) > passed + 10)
    assert serving.load().waiting == 3
    for ticket, _ in asked:
        ticket.cancel()
    serving.close()


def test_who_is_done_leaves_its_memory_until_its_cohort_ends(deaths: list[BaseException]) -> None:
    model = Model(room=25)
    serving = running(model, deaths)
    with model.held() as let:
        first = ask(serving, Item("0"))[1]
        until(lambda: serving.load().running == 1)
        ears = [ask(serving, item)[1] for item in (Item("1"), Item("2", passes=3), Item("3"))]
        let()
        first.wait()
        let()
        assert ears[0].wait() == "answer 1"
        assert model.cohorts == [["0"], ["1", "2"]]
    assert [ear.wait() for ear in ears] == ["answer 1", "answer 2", "answer 3"]
    serving.close()


def test_too_many_waiting_are_refused_at_once(deaths: list[BaseException]) -> None:
    model = Model()
    serving = running(model, deaths, waiting=2)
    with model.held():
        ears = [ask(serving, Item("1"))[1]]
        until(lambda: serving.load().running == 1)
        ears += [ask(serving, Item(str(n)))[1] for n in (2, 3)]
        with pytest.raises(OverloadedError, match="2 requests waiting") as caught:
            ask(serving, Item("4"))
        assert 1 <= caught.value.retry_after_s <= 30
    assert [ear.wait() for ear in ears] == [f"answer {n}" for n in (1, 2, 3)]
    serving.close()


def test_a_time_that_is_over_is_told_and_the_slot_is_free(deaths: list[BaseException]) -> None:
    model = Model()
    serving = running(model, deaths, batches=1)
    with model.held() as let:
        begun = ask(serving, Item("1", passes=9), timeout_s=0.05)[1]
        until(lambda: serving.load().running == 1)
        waiting = ask(serving, Item("2"), timeout_s=0.05)[1]
        patient = ask(serving, Item("3"))[1]
        time.sleep(0.06)
        let()
        assert isinstance(begun.wait(), ExpiredError)
        assert isinstance(waiting.wait(), ExpiredError)
    assert patient.wait() == "answer 3"
    assert ["2"] not in model.cohorts
    assert model.cancelled == ["1"]
    serving.close()


def test_who_leaves_is_not_answered_and_frees_the_slot(deaths: list[BaseException]) -> None:
    model = Model()
    serving = running(model, deaths, batches=1)
    with model.held():
        ticket, gone = ask(serving, Item("1", passes=1000))
        until(lambda: serving.load().running == 1)
        waiting_ticket, waiting = ask(serving, Item("2"))
        other = ask(serving, Item("3"))[1]
        ticket.cancel()
        waiting_ticket.cancel()
    assert other.wait() == "answer 3"
    assert model.cancelled == ["1"]
    assert not gone.over.is_set()
    assert not waiting.over.is_set()
    assert len(model.passes) < 10
    serving.close()


def test_a_bad_request_is_refused_and_one_that_breaks_its_cohort_fails_alone(
    deaths: list[BaseException],
) -> None:
    model = Model()
    serving = running(model, deaths)
    with pytest.raises(EmptyQuestionError):
        ask(serving, Item("0", bad=True))
    with model.held():
        first = ask(serving, Item("1"))[1]
        until(lambda: serving.load().running == 1)
        broken = Item("3", passes=2, error=NumericalError("not finite"))
        ears = [ask(serving, item, heard=True)[1] for item in (Item("2", passes=3), broken)]
    assert first.wait() == "answer 1"
    assert ears[0].wait() == "answer 2"
    failure = ears[1].wait()
    assert isinstance(failure, Failure)
    assert (failure.id, failure.type, failure.stage) == ("3", "NumericalError", "small")
    # It was answered anew, and its beginning was not said twice.
    assert "".join(ears[0].texts) == "123"
    serving.close()


def test_what_does_not_fit_beside_others_is_tried_alone_before_it_fails(
    deaths: list[BaseException],
) -> None:
    model = Model(most=4)
    alone = set[str]()

    class Tight(Running):
        def step(self) -> list[Any]:
            if len(serving._cohorts) > 1 or len(self.open) > 2:
                raise torch.OutOfMemoryError
            alone.update(self.items[place].id for place in self.open)
            return super().step()

    def cohort(items: Sequence[Item], heard: Collection[int] = (), *_: Any) -> Running:
        return Tight(model, items, heard)

    model.cohort = cohort  # type: ignore[method-assign]
    serving = running(model, deaths)
    with model.held():
        ears = [ask(serving, Item(str(n), passes=2))[1] for n in range(9)]
    assert [ear.wait() for ear in ears] == [f"answer {n}" for n in range(9)]
    assert len(alone) == 9
    serving.close()


def test_one_that_fails_for_want_of_memory_beside_others_is_not_to_blame(
    deaths: list[BaseException],
) -> None:
    model = Model()

    class Tight(Running):
        def step(self) -> list[Any]:
            if self.items[0].id == "1" and len(serving._cohorts) > 1:
                raise torch.OutOfMemoryError
            return super().step()

    def cohort(items: Sequence[Item], heard: Collection[int] = (), *_: Any) -> Running:
        return Tight(model, items, heard)

    model.cohort = cohort  # type: ignore[method-assign]
    serving = running(model, deaths)
    with model.held() as let:
        other = ask(serving, Item("0", passes=4))[1]
        until(lambda: serving.load().running == 1)
        tight = ask(serving, Item("1"))[1]
        let()
    assert (other.wait(), tight.wait()) == ("answer 0", "answer 1")
    serving.close()


def test_a_lost_device_ends_the_replica(deaths: list[BaseException]) -> None:
    model = Model()
    serving = running(model, deaths)
    ask(serving, Item("1", error=DeviceError("lost")))
    until(lambda: bool(deaths))
    assert isinstance(deaths[0], DeviceError)


def test_the_end_waits_for_what_was_taken_and_takes_no_more(deaths: list[BaseException]) -> None:
    model = Model()
    serving = running(model, deaths)
    ears = [ask(serving, Item(str(n), passes=3))[1] for n in range(20)]
    serving.close()
    assert all(ear.over.is_set() for ear in ears)
    with pytest.raises(UnavailableError, match="shut down"):
        ask(serving, Item("late"))


def test_a_model_that_cannot_load_raises_where_it_is_made(deaths: list[BaseException]) -> None:
    def load() -> Model:
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        Continuous(load, max_waiting=1, batches=1, on_death=deaths.append)


def test_many_clients_at_once_are_all_answered(deaths: list[BaseException]) -> None:
    model = Model(most=4)
    serving = running(model, deaths, waiting=1000)
    ears: dict[str, Ear] = {}

    def client(name: int) -> None:
        for n in range(50):
            item = Item(f"{name}-{n}", passes=1 + n % 4, length=10 + n % 3)
            ticket, ear = ask(serving, item, heard=True)
            if n % 5 == 0:
                ticket.cancel()
            else:
                ears[item.id] = ear

    threads = [threading.Thread(target=client, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: ear.wait() for name, ear in ears.items()} == {n: f"answer {n}" for n in ears}
    serving.close()
    load = serving.load()
    assert (load.waiting, load.running, load.cohorts) == (0, 0, 0)
    assert not deaths


def test_only_what_is_new_is_told() -> None:
    told = Retold()
    assert [told.more("a b"), told.more(" c")] == ["a b", " c"]
    told.again()
    assert [told.more("a"), told.more(" b c"), told.more(" d")] == ["", "", " d"]
    told.again()
    with pytest.raises(UnavailableError, match="otherwise"):
        told.more("another")
    told.again()
    told.more("a b")
    assert not told.complete
    told.more(" c d")
    assert told.complete
