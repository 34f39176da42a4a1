"""One bad record never costs its neighbours theirs."""

import random
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch

from actors.batching import (
    MOST_PADDING,
    BatchPlanner,
    _warn_of_little_memory,
    padding,
    run_planned,
)
from sgl.errors import DeviceError, EmptyQuestionError
from sgl.layout import PromptLayout
from sgl.types import Failure


@dataclass(frozen=True)
class Item:
    id: str
    error: Exception | None = None
    length: int = 10
    unreadable: Exception | None = None


def layout(length: int) -> PromptLayout:
    return PromptLayout([0] * length, (), 0, 0, 0.0, 1)


def lay_out(item: Item) -> PromptLayout:
    if item.unreadable:
        raise item.unreadable
    return layout(item.length)


def run_isolated(
    run: Callable[[Sequence[Item]], Sequence[str]],
    items: Sequence[Item],
    *,
    batch_size: int,
    stage: str,
) -> list[str | Failure]:
    planner = BatchPlanner(batch_size, lambda _: True)
    return run_planned(run, items, lay_out=lay_out, planner=planner, stage=stage)


def batches(lengths: list[int], most: int, tokens: int = 1000) -> list[list[int]]:
    """The planned batches' lengths, where so many padded tokens fit into memory."""

    def fits(layouts: Sequence[PromptLayout]) -> bool:
        return len(layouts) * max(one.length for one in layouts) <= tokens

    planned = BatchPlanner(most, fits).plan([layout(length) for length in lengths])
    assert sorted(index for batch in planned for index in batch) == list(range(len(lengths)))
    return [[lengths[index] for index in batch] for batch in planned]


def test_batches_hold_prompts_of_like_length_the_longest_first() -> None:
    assert batches([10, 100, 11, 95, 10, 99], most=3) == [[100, 99, 95], [11, 10, 10]]


def test_a_batch_ends_where_padding_or_memory_or_records_do() -> None:
    assert batches([100, 90, 80, 70], most=9) == [[100, 90, 80], [70]]
    assert batches([100] * 5, most=9, tokens=250) == [[100, 100], [100, 100], [100]]
    assert batches([100] * 5, most=4) == [[100] * 4, [100]]
    assert batches([], most=4) == []


def test_a_prompt_that_fits_nowhere_is_a_batch_of_its_own_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _warn_of_little_memory.cache_clear()
    assert batches([10, 10], most=9) == [[10, 10]]
    assert not caplog.records
    assert batches([2000, 10, 10, 3000], most=9) == [[3000], [2000], [10, 10]]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "num_gpus" in caplog.text


def test_no_batch_pads_more_than_it_may() -> None:
    draw = random.Random(0)
    for _ in range(50):
        lengths = [draw.randint(1, 400) for _ in range(draw.randint(1, 60))]
        for batch in batches(lengths, most=16, tokens=3000):
            assert padding(batch) <= MOST_PADDING


def test_records_that_cannot_be_laid_out_never_reach_the_model() -> None:
    model = Model()
    items = [Item("a"), Item("b", unreadable=EmptyQuestionError("no text")), Item("c", length=40)]
    results = run_isolated(model.run, items, batch_size=3, stage="small")
    assert results == ["A", Failure("b", "small", "EmptyQuestionError", "no text"), "C"]
    assert model.batches == [["c"], ["a"]]


class Model:
    """Answers in capitals; notes its batches; any bad record spoils the whole call."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def run(self, items: Sequence[Item]) -> list[str]:
        self.batches.append([item.id for item in items])
        for item in items:
            if item.error:
                raise item.error
        return [item.id.upper() for item in items]


def test_batches_are_full_but_the_last_and_order_is_kept() -> None:
    model, items = Model(), [Item(name) for name in "abcde"]
    assert run_isolated(model.run, items, batch_size=2, stage="small") == list("ABCDE")
    assert model.batches == [["a", "b"], ["c", "d"], ["e"]]


def test_a_bad_record_becomes_a_failure_and_its_neighbours_are_answered() -> None:
    model = Model()
    items = [Item("a"), Item("b", EmptyQuestionError("no text")), Item("c"), Item("d")]
    results = run_isolated(model.run, items, batch_size=3, stage="small")
    assert results == ["A", Failure("b", "small", "EmptyQuestionError", "no text"), "C", "D"]
    assert model.batches == [["a", "b", "c"], ["a"], ["b"], ["c"], ["d"]]


def test_an_unexpected_error_is_typed_and_tells_no_internals() -> None:
    items = [Item("a", RuntimeError("/secret/path")), Item("b")]
    failure, answer = run_isolated(Model().run, items, batch_size=2, stage="large")
    assert answer == "B"
    assert isinstance(failure, Failure)
    assert (failure.stage, failure.type) == ("large", "RuntimeError")
    assert "secret" not in failure.message


class SmallDevice(Model):
    """Has memory for so many records at once."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def run(self, items: Sequence[Item]) -> list[str]:
        if len(items) > self.room or any(item.id == "huge" for item in items):
            self.batches.append([item.id for item in items])
            raise torch.OutOfMemoryError("out of memory")
        return super().run(items)


def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    device, items = SmallDevice(room=2), [Item(name) for name in "abcdefg"]
    assert run_isolated(device.run, items, batch_size=7, stage="small") == list("ABCDEFG")
    assert device.batches == [
        list("abcdefg"),
        list("abcd"),
        list("ab"),
        list("cd"),
        list("efg"),
        list("ef"),
        list("g"),
    ]


def test_a_record_that_never_fits_becomes_a_failure() -> None:
    items = [Item("a"), Item("huge"), Item("b", EmptyQuestionError("no text")), Item("c")]
    results = run_isolated(SmallDevice(room=4).run, items, batch_size=4, stage="large")
    assert [one if isinstance(one, str) else one.type for one in results] == [
        "A",
        "OutOfMemoryError",
        "EmptyQuestionError",
        "C",
    ]
    failure = results[1]
    assert isinstance(failure, Failure)
    assert "too little memory" in failure.message


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm"),
        DeviceError("rank 1 of 2 died"),
    ],
)
def test_a_lost_device_is_no_records_fault(error: Exception) -> None:
    with pytest.raises(type(error)):
        run_isolated(Model().run, [Item("a", error)], batch_size=1, stage="large")


def test_a_failed_batch_is_released_before_it_runs_again() -> None:
    """Its tensors would otherwise take the memory that the second try needs."""
    alive: list[weakref.ref[torch.Tensor]] = []

    def run(items: Sequence[Item]) -> list[str]:
        assert not any(reference() is not None for reference in alive)
        tensor = torch.ones(3)
        alive.append(weakref.ref(tensor))
        if len(items) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return [item.id for item in items]

    assert run_isolated(run, [Item("a"), Item("b")], batch_size=2, stage="small") == ["a", "b"]


def test_a_watch_stands_around_every_forward_pass_and_sees_what_it_raises() -> None:
    seen: list[tuple[Sequence[str], str]] = []

    @contextmanager
    def watch(ids: Sequence[str]) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            seen.append((ids, type(error).__name__))
            raise
        seen.append((ids, "well"))

    def run(items: Sequence[Item]) -> list[str]:
        for item in items:
            if item.error:
                raise item.error
        return [item.id for item in items]

    items = [
        Item("a", length=30),
        Item("b", length=29, error=EmptyQuestionError("empty")),
        Item("c", length=5),
        Item("never", unreadable=EmptyQuestionError("empty")),
    ]
    planner = BatchPlanner(2, lambda _: True)
    run_planned(run, items, lay_out=lay_out, planner=planner, stage="small", watch=watch)
    assert seen == [
        (["a", "b"], "EmptyQuestionError"),
        (["a"], "well"),
        (["b"], "EmptyQuestionError"),
        (["c"], "well"),
    ]
