"""One bad record never costs its neighbours theirs."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch

from actors.batching import run_isolated
from sgl.errors import EmptyQuestionError
from sgl.types import Failure


@dataclass(frozen=True)
class Item:
    id: str
    error: Exception | None = None


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


def test_a_device_error_is_no_records_fault() -> None:
    items = [Item("a", torch.OutOfMemoryError("CUDA out of memory"))]
    with pytest.raises(torch.OutOfMemoryError):
        run_isolated(Model().run, items, batch_size=1, stage="large")
