import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import FaultsConfig
from pipeline.journal import Event, Journal
from pipeline.ledger import Ledger
from pipeline.replicas import Start
from tests.pipeline.fakes import NoJournal
from tests.pipeline.outputs import output_at

START = Start("small", "path/to/small", 100.0)
IDS = ["a", "b", "c"]


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def ledger_of(
    journal: Journal | None = None, clock: Clock | None = None, **settings: int
) -> Ledger:
    return Ledger(FaultsConfig(**settings), journal or NoJournal(), clock or Clock())


def die(ledger: Ledger, *ids: str, stage: str = "small", owner: str = "one") -> None:
    """A replica takes records along."""
    ledger.begin(owner, stage, ids, 60.0)
    ledger.starting(owner, START, "here")


def test_records_of_a_batch_that_died_run_alone_and_others_in_company() -> None:
    ledger = ledger_of()
    die(ledger, "a", "b")
    admission = ledger.admit("small", IDS)
    assert (admission.failed, admission.alone) == ({}, ("a", "b"))


def test_a_batch_that_ended_or_raised_is_nobodys_death() -> None:
    ledger = ledger_of()
    ledger.begin("one", "small", ["a", "b"], 60.0)
    ledger.begin("one", "small", ["c"], 60.0)  # the first has raised
    ledger.end("one")
    ledger.starting("one", START, "here")
    assert ledger.admit("small", IDS).alone == ()


def test_it_is_noticed_when_a_record_comes_again_wherever_it_was() -> None:
    # No replica that starts anew: a task, or an actor whose node is gone.
    ledger = ledger_of()
    ledger.begin("one", "fetch", ["a", "b"], 60.0)
    ledger.begin("two", "fetch", ["d"], 60.0)
    assert ledger.admit("small", IDS).alone == (), "another stage's batch"
    assert ledger.admit("fetch", ["b", "c"]).alone == ("b",)
    assert ledger.admit("fetch", ["a"]).alone == ("a",), "its neighbours are told, too"
    ledger.end("two")
    assert ledger.admit("fetch", ["d"]).alone == ()


def test_deaths_alone_add_up_to_a_failure_of_that_stage() -> None:
    ledger = ledger_of(max_deaths=3)
    die(ledger, "a", "b")
    for _ in range(2):
        die(ledger, "a")
        assert ledger.admit("small", IDS).failed == {}
    die(ledger, "a")
    admission = ledger.admit("small", IDS)
    failure = admission.failed["a"]
    assert (failure.id, failure.stage, failure.type) == ("a", "small", "CrashError")
    assert "died 3 times" in failure.message
    assert admission.alone == ("b",)
    assert ledger.admit("large", IDS).failed == {}


def test_two_hangs_alone_are_enough() -> None:
    clock = Clock()
    ledger = ledger_of(clock=clock)
    for deaths in range(3):
        assert ledger.admit("small", IDS).failed == {}, deaths
        ledger.begin("one", "small", ["a", "b"] if deaths == 0 else ["a"], 60.0)
        clock.now += 61
        ledger.starting("one", START, "here")
    failure = ledger.admit("small", IDS).failed["a"]
    assert failure.type == "DeadlineError"
    assert "within 60 s" in failure.message


def test_a_finish_alone_acquits() -> None:
    ledger = ledger_of(max_deaths=2)
    die(ledger, "a", "b")
    die(ledger, "a")
    ledger.begin("one", "small", ["a"], 60.0)
    ledger.end("one")
    die(ledger, "a")
    admission = ledger.admit("small", IDS)
    assert (admission.failed, admission.alone) == ({}, ("b", "a"))


def test_those_with_the_fewest_deaths_run_first() -> None:
    ledger = ledger_of()
    die(ledger, "a", "b", "c")
    die(ledger, "a")
    assert ledger.admit("small", IDS).alone == ("b", "c", "a")


@given(st.lists(st.sampled_from(IDS), max_size=12), st.integers(1, 3))
def test_a_ledger_that_starts_anew_knows_all_deaths(deaths: list[str], max_deaths: int) -> None:
    journal = NoJournal()
    before = ledger_of(journal, max_deaths=max_deaths, max_restarts=99)
    die(before, *IDS)
    for name in deaths:
        die(before, name)
    after = ledger_of(journal, max_deaths=max_deaths)
    assert after.admit("small", IDS) == before.admit("small", IDS)


def test_an_open_batch_is_not_written_down() -> None:
    journal = NoJournal()
    ledger_of(journal).begin("one", "small", IDS, 60.0)
    assert ledger_of(journal).admit("small", IDS).alone == ()


def test_deaths_are_forgotten_on_request(tmp_path: Path) -> None:
    output = output_at(tmp_path)
    journal = Journal(output)
    ledger = ledger_of(journal, max_deaths=1)
    die(ledger, "a")
    die(ledger, "b")
    assert set(ledger_of(journal, max_deaths=1).admit("small", IDS).failed) == {"a", "b"}
    journal.forget(["a"])
    assert set(ledger_of(journal, max_deaths=1).admit("small", IDS).failed) == {"b"}
    assert journal.dead() == {"b"}
    assert ledger_of(Journal(replace(output, fingerprint="other"))).admit("small", IDS).alone == ()


def test_half_a_file_is_left_out(tmp_path: Path) -> None:
    journal = Journal(output_at(tmp_path))
    assert journal.read() == []
    journal.append(Event(kind="death", ids=("a",), stage="small"))
    (file,) = tmp_path.rglob("*.json")
    (file.parent / f"{0:020d}-{0:08x}.json").write_text(file.read_text()[:10])
    (file.parent / f".{file.name}.part").write_text(file.read_text())
    assert [event.ids for event in journal.read()] == [("a",)]


def test_it_is_busy_while_somebody_works_or_loads_within_a_deadline() -> None:
    clock = Clock()
    ledger = ledger_of(clock=clock)

    def busy() -> bool:
        return ledger.busy() != ledger.busy()

    assert not busy()
    ledger.starting("one", START, "here")
    assert busy()
    ledger.loaded("one")
    assert not busy()
    ledger.begin("one", "small", IDS, 60.0)
    assert busy()
    clock.now = 61.0
    assert not busy()
    ledger.begin("one", "small", IDS, 60.0)
    assert busy()
    ledger.end("one")
    assert not busy()
    ledger.starting("two", START, "here")
    clock.now += 101
    assert not busy()


def test_a_journal_that_cannot_be_written_costs_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = NoJournal()

    def fail(event: Event) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(journal, "append", fail)
    ledger = ledger_of(journal)
    die(ledger, "a", "b")
    assert ledger.admit("small", IDS).alone == ("a", "b")


def test_a_block_that_comes_for_ever_without_an_open_batch_ends_the_job() -> None:
    ledger = ledger_of(max_restarts=1)
    refusals = [ledger.admit("small", IDS).refusal for _ in range(20)]
    first = next(i for i, refusal in enumerate(refusals) if refusal)
    assert first > 2
    assert refusals[first] == ledger.fatal()
    assert "first record is a" in str(refusals[first])


def test_a_block_that_comes_for_ever_is_noticed_among_many_others() -> None:
    ledger = ledger_of(max_restarts=1)
    others = iter(range(10_000))
    for _ in range(20):
        for _ in range(100):
            assert ledger.admit("small", [f"r{next(others)}"]).refusal is None
        if ledger.admit("small", IDS).refusal:
            return
    pytest.fail("the job never ends")


def test_its_memory_does_not_grow_with_the_blocks() -> None:
    ledger = ledger_of()
    sizes = []
    tracemalloc.start()
    for block in range(30_000):
        ledger.admit("small", [f"r{block}"])
        if block in (9_999, 29_999):
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[1] < 1.1 * sizes[0]
