import faulthandler
import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest

from actors.batching import Watch
from pipeline.config import FaultsConfig
from pipeline.guard import Guard, RemoteLedger
from pipeline.ledger import Ledger
from sgl.errors import ReplicaError
from sgl.types import Failure
from tests.pipeline.fakes import LocalLedger, NoJournal, guard_of

IDS = ["a", "b", "c", "d"]


class Model:
    """Doubles numbers, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, items: Sequence[int], watch: Watch) -> list[int | Failure]:
        with watch([IDS[item] for item in items]):
            self.batches.append(list(items))
            return [2 * item for item in items]


def ledger_of(**settings: int) -> Ledger:
    return Ledger(FaultsConfig(**settings), NoJournal())


def test_items_run_together_suspects_alone_and_the_given_up_not_at_all() -> None:
    ledger, model = ledger_of(max_deaths=1), Model()
    guard = guard_of("small", ledger)
    for batch in (["a", "c"], ["c"]):
        ledger.begin("other", "small", batch, 60.0)
        ledger.admit("small", batch)
    results = guard.run(model, range(4), IDS)
    assert model.batches == [[1, 3], [0]]
    assert [results[i] for i in (0, 1, 3)] == [0, 2, 6]
    assert isinstance(results[2], Failure)
    assert guard.run(model, range(4), IDS)[0] == 0
    assert model.batches[2:] == [[0, 1, 3]], "what has finished alone is acquitted"


def test_nothing_asks_nobody() -> None:
    model = Model()
    assert guard_of("small").run(model, [], []) == []
    assert model.batches == []


def test_a_batch_that_raises_stays_open_until_the_process_goes_on() -> None:
    ledger = ledger_of()
    guard = guard_of("small", ledger)

    def fails(items: Sequence[int], watch: Watch) -> list[int | Failure]:
        with watch(IDS):
            raise RuntimeError("device lost")

    with pytest.raises(RuntimeError):
        guard.run(fails, range(4), IDS)
    assert ledger.admit("small", IDS).alone == tuple(IDS)

    def recovers(items: Sequence[int], watch: Watch) -> list[int | Failure]:
        with pytest.raises(RuntimeError), watch(IDS):
            raise RuntimeError("a bad record")
        return list(items)

    ledger = ledger_of()
    guard_of("small", ledger).run(recovers, range(4), IDS)
    assert ledger.admit("small", IDS).alone == ()


def test_the_deadline_is_over_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(
        faulthandler, "dump_traceback_later", lambda *_, **options: calls.append("armed")
    )
    monkeypatch.setattr(
        faulthandler, "cancel_dump_traceback_later", lambda: calls.append("disarmed")
    )
    guard = guard_of("small")
    guard.load(Model)
    assert calls == ["armed", "disarmed"]
    guard.run(Model(), range(4), IDS)
    assert calls == ["armed", "disarmed"] * 2


def test_it_ends_a_process_that_holds_the_interpreter() -> None:
    code = (
        "import ctypes\nfrom pipeline.deadline import deadline\n"
        "with deadline(0.2):\n    ctypes.PyDLL(None).sleep(3600)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr


def test_a_model_that_cannot_be_loaded_is_told_with_its_cause() -> None:
    ledger = ledger_of()

    def load() -> Guard:
        raise OSError("no such file")

    with pytest.raises(ReplicaError, match="no such file"):
        guard_of("small", ledger).load(load)
    assert ledger.fatal() == (
        "the small model path/to/small could not be loaded: OSError: no such file"
    )


def test_a_run_is_ended_from_within_when_the_ledger_gives_up() -> None:
    class Reasons(RemoteLedger):
        def _ask(self, question: str) -> str:
            return "no such model"

    # The wait is for Ray, whose replicas tell nobody else.
    with pytest.raises(ReplicaError, match="no such model"), Reasons(None).explained():
        threading.Event().wait(60)


def test_a_replica_that_gives_up_leaves_the_end_to_the_driver() -> None:
    waited: list[bool] = []

    class Patient(LocalLedger):
        def wait_for_the_end(self) -> None:
            waited.append(True)

    def load() -> Guard:
        raise OSError("no such file")

    guard = Guard("small", Patient(ledger_of()), 600.0, guard_of("small").start)
    with pytest.raises(ReplicaError, match="no such file"):
        guard.load(load)
    assert waited == [True]


def test_a_load_that_was_not_the_first_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = guard_of("small")
    guard.load(Model)
    ended: list[BaseException] = []
    monkeypatch.setattr("pipeline.guard.end_process", ended.append)

    def load() -> Guard:
        raise RuntimeError("out of memory")

    with pytest.raises(ReplicaError):  # unless, as here, the process does not end
        guard.load(load)
    assert [str(error) for error in ended] == ["out of memory"]


def test_a_replica_that_got_nowhere_too_often_loads_nothing() -> None:
    guard = guard_of("small", ledger_of(max_restarts=0))
    guard.ledger.starting(guard.start)  # type: ignore[arg-type]
    with pytest.raises(ReplicaError, match="died 1 times"):
        guard.load(lambda: pytest.fail("was loaded"))
