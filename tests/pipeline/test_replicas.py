from pipeline.config import FaultsConfig
from pipeline.replicas import Replicas, Start
from tests.pipeline.test_ledger import Clock

START = Start("large", "path/to/large", 100.0)


def replicas_of(clock: Clock | None = None, max_restarts: int = 2) -> Replicas:
    return Replicas(FaultsConfig(max_restarts=max_restarts), clock or Clock())


def test_deaths_in_a_row_at_work_or_while_loading_end_the_job() -> None:
    replicas = replicas_of()
    replicas.starting("one", START)
    assert replicas.starting("one", START) is None  # died while loading
    replicas.loaded("one")
    replicas.working("one")
    assert replicas.starting("one", START) is None  # died at work
    replicas.loaded("one")
    replicas.working("one")
    reason = replicas.starting("one", START)
    assert reason == replicas.fatal
    assert "large model path/to/large died 3 times" in str(reason)


def test_a_finished_batch_begins_the_count_anew() -> None:
    replicas = replicas_of(max_restarts=0)
    for _ in range(5):
        assert replicas.starting("one", START) is None
        replicas.loaded("one")
        replicas.working("one")
        replicas.finished("one")
    assert replicas.fatal is None


def test_a_replica_that_is_killed_while_it_waits_has_done_nothing_wrong() -> None:
    replicas = replicas_of(max_restarts=0)
    for _ in range(5):
        assert replicas.starting("one", START) is None
        replicas.loaded("one")


def test_replicas_are_counted_apart() -> None:
    replicas = replicas_of(max_restarts=0)
    assert [replicas.starting(name, START) for name in ("one", "two")] == [None, None]
    assert replicas.starting("two", START) is not None


def test_once_the_job_cannot_go_on_no_replica_starts() -> None:
    replicas = replicas_of()
    replicas.give_up("a block never came through")
    assert replicas.starting("new", START) == "a block never came through"


def test_a_load_that_hung_once_is_not_tried_again() -> None:
    clock = Clock()
    replicas = replicas_of(clock, max_restarts=99)
    replicas.starting("one", START)
    clock.now = 100.0
    assert "not loaded within 100 s (pools.large.start_deadline_s)" in str(
        replicas.starting("one", START)
    )


def test_a_load_that_raises_is_tried_again_only_where_it_had_succeeded() -> None:
    replicas = replicas_of(max_restarts=1)
    replicas.starting("one", START)
    replicas.loaded("one")
    replicas.starting("one", START)
    assert replicas.load_failed("one", "out of memory")
    assert replicas.fatal is None
    assert replicas.starting("one", START) is None
    assert replicas.load_failed("one", "out of memory")
    assert "while loading: out of memory" in str(replicas.starting("one", START))

    replicas = replicas_of()
    replicas.starting("one", START)
    assert not replicas.load_failed("one", "no such file")
    assert "path/to/large could not be loaded: no such file" in str(replicas.fatal)


def test_a_new_replica_may_try_again_where_another_one_has_loaded_the_same_model() -> None:
    """Its device may still have the memory of a process that has just left."""
    replicas = replicas_of(max_restarts=1)
    replicas.starting("one", START)
    replicas.loaded("one")
    replicas.starting("new", START)
    assert replicas.load_failed("new", "out of memory")
    assert replicas.fatal is None
    assert replicas.starting("new", START) is None
    replicas.loaded("new")
    replicas.finished("new")

    assert replicas.starting("broken", START) is None
    for _ in range(2):
        assert replicas.load_failed("broken", "out of memory")
        told = replicas.starting("broken", START)
    assert "died 2 times in a row" in str(told)
    assert "while loading: out of memory" in str(replicas.fatal)


def test_a_model_of_the_other_role_tells_nothing_of_this_one() -> None:
    replicas = replicas_of()
    replicas.starting("one", Start("small", "path/to/small", 100.0))
    replicas.loaded("one")
    replicas.starting("new", START)
    assert not replicas.load_failed("new", "no such file")


def test_a_replica_that_came_later_may_try_again_whatever_else_is_known() -> None:
    """A ledger that was restarted has forgotten which models were loaded."""
    replicas = replicas_of()
    replicas.came("new")
    replicas.starting("new", START)
    assert replicas.load_failed("new", "out of memory")
    assert replicas.fatal is None
