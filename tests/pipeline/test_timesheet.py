import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.timesheet import ReplicaTime, Timesheet
from tests.pipeline.test_ledger import Clock


def sheet_of(clock: Clock, slots: int = 1) -> Timesheet:
    return Timesheet({"small": slots}, clock)


def told(sheet: Timesheet) -> dict[str, float]:
    (one,) = sheet.times().replicas
    seconds = one.model_dump(exclude={"role", "node", "starts", "load_s", "late"})
    return {name: value for name, value in seconds.items() if value}


def loaded(clock: Clock) -> Timesheet:
    sheet = sheet_of(clock)
    sheet.starting("one", "small", "here")
    sheet.loaded("one")
    return sheet


def test_a_first_replica_starts_up_from_the_runs_start() -> None:
    clock = Clock()
    sheet = sheet_of(clock)
    clock.now += 5
    sheet.starting("one", "small", "here")
    clock.now += 2
    sheet.loaded("one")
    clock.now += 1
    assert told(sheet) == {"startup_s": 7, "waiting_s": 1}


def test_a_replica_beyond_the_reserved_ones_starts_when_it_starts() -> None:
    clock = Clock()
    sheet = sheet_of(clock, slots=0)
    clock.now += 5
    sheet.starting("one", "small", "here")
    clock.now += 2
    assert told(sheet) == {"startup_s": 2}


def test_a_batch_is_open_until_its_results_tell_what_they_took() -> None:
    clock = Clock()
    sheet = loaded(clock)
    sheet.begin("one")
    clock.now += 4
    assert told(sheet) == {"open_s": 4}
    sheet.end("one")
    clock.now += 1
    assert told(sheet) == {"open_s": 4, "waiting_s": 1}
    sheet.spent("one", 3.0)
    assert told(sheet) == {"device_s": 3, "handling_s": 1, "waiting_s": 1}


def test_a_batch_that_raised_is_lost_and_the_next_one_is_not() -> None:
    clock = Clock()
    sheet = loaded(clock)
    sheet.begin("one")
    clock.now += 4
    sheet.begin("one")  # the first one's halves run again
    clock.now += 2
    sheet.end("one")
    sheet.begin("one")
    clock.now += 1  # this one raises, and is the last
    sheet.spent("one", 2.0)
    assert told(sheet) == {"lost_s": 5, "device_s": 2}


def test_a_death_loses_the_open_batch_and_results_that_nobody_got() -> None:
    clock = Clock()
    sheet = loaded(clock)
    sheet.begin("one")
    clock.now += 4
    sheet.end("one")
    sheet.begin("one")
    clock.now += 2
    sheet.starting("one", "small", "there")
    clock.now += 3
    sheet.loaded("one")
    assert told(sheet) == {"lost_s": 6, "startup_s": 3}
    (one,) = sheet.times().replicas
    assert (one.node, one.starts) == ("there", 2)


def test_nothing_is_booked_for_a_replica_that_was_never_heard_of() -> None:
    sheet = sheet_of(Clock())
    sheet.loaded("one")
    sheet.begin("one")
    sheet.end("one")
    sheet.spent("one", 1.0)
    assert sheet.times().replicas == ()


EVENTS = st.lists(
    st.tuples(st.sampled_from(["starting", "loaded", "begin", "end", "spent"]), st.floats(0, 9)),
    max_size=30,
)


@given(EVENTS)
def test_every_second_is_booked_once_whatever_happens(events: list[tuple[str, float]]) -> None:
    clock = Clock()
    sheet = sheet_of(clock)
    sheet.starting("one", "small", "here")
    for name, passed in events:
        clock.now += passed
        if name == "starting":
            sheet.starting("one", "small", "here")
        elif name == "spent":
            sheet.spent("one", 0.5)
        else:
            getattr(sheet, name)("one")
    times = sheet.times()
    (one,) = times.replicas
    assert isinstance(one, ReplicaTime)
    assert one.total_s == pytest.approx(times.elapsed_s)


def test_one_that_comes_late_starts_up_from_when_it_is_asked_for() -> None:
    clock = Clock()
    sheet = sheet_of(clock)
    sheet.came("late", "small")
    clock.now += 4
    assert told(sheet) == {"startup_s": 4}
    sheet.starting("late", "small", "here")
    clock.now += 2
    sheet.loaded("late")
    (one,) = sheet.times().replicas
    assert (one.startup_s, one.load_s, one.starts, one.late) == (6, 2, 1, True)


def test_one_that_starts_before_it_is_said_to_have_come_is_late_as_well() -> None:
    clock = Clock()
    sheet = sheet_of(clock)
    sheet.starting("first", "small", "here")
    clock.now += 4
    sheet.starting("late", "small", "here")
    assert [one.late for one in sheet.times().replicas] == [False, True]
    sheet.came("late", "small")
    sheet.came("first", "small")
    assert [one.late for one in sheet.times().replicas] == [True, True]


def test_one_that_has_gone_costs_no_more() -> None:
    clock = Clock()
    sheet = loaded(clock)
    clock.now += 3
    sheet.left("one")
    clock.now += 100
    assert told(sheet) == {"waiting_s": 3}


def test_one_that_had_gone_and_comes_back_costs_again_from_then_on() -> None:
    """As where blocks that it made were lost with their node."""
    clock = Clock()
    sheet = loaded(clock)
    sheet.left("one")
    clock.now += 100
    sheet.starting("one", "small", "there")
    clock.now += 5
    assert told(sheet) == {"startup_s": 5}
