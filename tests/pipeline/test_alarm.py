"""What is refused before a run, and what is said of an alarm in it and after it."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.alarm import (
    Bell,
    check_alarm,
    describe,
    final_alarm,
    least_records,
    refuse_stopped,
    watched,
)
from pipeline.config import JobConfig
from pipeline.measured import Measured, Part, measure
from pipeline.output import Alarm
from pipeline.probe import OnAlarm, Promise
from sgl.errors import AlarmError, ConfigurationError
from sgl.statistics import Estimate
from tests.pipeline.inputs import job_of
from tests.pipeline.outputs import output_at
from tests.pipeline.test_monitor import PROMISE, monitor_of, put_rows

ALARM = Alarm(
    fingerprint="f",
    run_id="run",
    raised_at="2026-01-01T00:00:00+00:00",
    promise=PROMISE,
    records=120,
    latest=40,
    agreement=0.7,
    p=0.04,
)


def job(on_alarm: str = "warn", share: float = 0.5, **settings: Any) -> JobConfig:
    probe = {"share": share, "on_alarm": on_alarm, **settings.pop("probe", {})}
    return job_of("in", "out", probe=probe, **{"promise": PROMISE.model_dump()} | settings)


@pytest.mark.parametrize("on_alarm", ["large", "stop"])
def test_a_reaction_to_what_cannot_come_is_refused(on_alarm: str) -> None:
    assert check_alarm(job(on_alarm), 1000) == []
    with pytest.raises(ConfigurationError, match=r"probe.on_alarm: .*promise.agreement"):
        check_alarm(job(on_alarm, promise=None), 1000)
    pruned = {"prunings": [{"prune_layer": 0.4, "keep_ratio": 0.5}]}
    with pytest.raises(ConfigurationError, match=r"probe.on_alarm: .*probe.prunings"):
        check_alarm(job(on_alarm, probe=pruned), 1000)
    with pytest.raises(ConfigurationError, match="no metric 'other'"):
        check_alarm(job(on_alarm, promise={"agreement": 0.9, "metric": "other"}), 1000)


def test_a_warning_needs_no_promise_and_other_modes_no_probe() -> None:
    assert check_alarm(job(promise=None), 1000) == []
    assert check_alarm(job("stop", mode="small", promise=None), 1000) == []
    assert watched(job(mode="small")) is None
    assert watched(job(promise=None)) is None
    assert watched(job("large")) is not None


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"probe": None}, "no probe; write probe.share"),
        ({"probe": {"share": 0.5, "prunings": [{"keep_ratio": 0.5}]}}, "add a keep ratio of 1"),
        ({"probe": {"share": 0.5}, "mode": "small"}, "mode 'small'"),
        ({"mode": "large"}, "mode 'large'"),
    ],
)
def test_a_promise_that_nobody_watches_is_said(settings: dict[str, Any], says: str) -> None:
    promised = job_of("in", "out", promise=PROMISE.model_dump(), **settings)
    (line,) = check_alarm(promised, 1000)
    assert line.startswith("nothing watches the promise: ")
    assert says in line
    assert check_alarm(job_of("in", "out", **settings), 1000) == []


def test_a_share_that_can_never_raise_it_is_told_with_one_that_can() -> None:
    needed = least_records(PROMISE, most=1000)
    assert 3 < needed < 20
    (line,) = check_alarm(job(share=(needed - 1) / 1000), 1000)
    assert "probe.share" in line
    assert f"before {needed} of them" in line
    assert f"write {needed / 1000:.2g}" in line
    assert check_alarm(job(share=(needed + 0.5) / 1000), 1000) == []


def test_so_many_records_raise_it_and_no_fewer(tmp_path: Path) -> None:
    needed = least_records(PROMISE, most=1000)
    for number, broken in ((needed, True), (needed - 1, False)):
        output = output_at(tmp_path / str(number))
        put_rows(output, [False] * number)
        assert (monitor_of(output).alarm() is not None) == broken


def test_a_bell_rings_once() -> None:
    said: list[str] = []
    alarms = iter([None, None, ALARM, ALARM])
    bell = Bell(lambda: next(alarms), OnAlarm.LARGE, said.append)
    assert [bell() for _ in range(4)] == [None] * 4
    (line,) = said
    assert (
        "agreement 0.9 was promised, and of the latest 40 of 120 probed records 70.0% agreed"
        in line
    )
    assert "from now on the unpruned large model" in line


def test_a_bell_stops_the_run_and_says_how_to_go_on() -> None:
    bell = Bell(lambda: ALARM, OnAlarm.STOP, lambda _: pytest.fail("said twice"))
    error = bell()
    assert isinstance(error, AlarmError)
    assert "--set probe.on_alarm=large" in str(error)
    assert bell() is None


def measured(records: int, agreement: float, p: float) -> Measured:
    estimate = Estimate(agreement, agreement - 0.01, agreement + 0.01)
    return Measured(records, estimate, estimate, Part(records, estimate), None, p)


def test_the_end_says_whether_all_rows_break_the_promise_or_some_stretch_did() -> None:
    broken = describe(ALARM, OnAlarm.WARN, measured(500, 0.7, 0.001))
    assert "calibrate again" in broken
    stretch = describe(ALARM, OnAlarm.WARN, measured(5000, 0.95, 1.0))
    assert "of all 5,000 probed records that the cascade answered, 0.950" in stretch
    assert "some stretch of the input differs" in stretch


def test_what_only_all_rows_together_show_is_an_alarm_at_the_end(tmp_path: Path) -> None:
    output = output_at(tmp_path)
    put_rows(output, [True] * 30)
    calm = job()
    assert final_alarm(calm, output, "run", measure(output, PROMISE)) is None
    put_rows(output, [False] * 60, task=1)
    alarm = final_alarm(calm, output, "run", measure(output, PROMISE))
    assert alarm is not None
    assert (alarm.records, alarm.latest) == (90, 90)
    assert alarm.agreement == pytest.approx(1 / 3, abs=1e-3)
    assert output.alarm() == alarm
    assert final_alarm(calm, output, "later", measure(output, PROMISE)) == alarm
    unpromised = job(promise=None)
    assert final_alarm(unpromised, output, "run", measure(output, None)) is None


def test_what_was_stopped_begins_again_only_when_told_how(tmp_path: Path) -> None:
    output = output_at(tmp_path)
    refuse_stopped(job("stop"), output)
    output.tell(ALARM.model_copy(update={"fingerprint": output.fingerprint}))
    with pytest.raises(AlarmError, match=r"probe\.on_alarm=large"):
        refuse_stopped(job("stop"), output)
    for other in ("warn", "large"):
        refuse_stopped(job(other), output)
    refuse_stopped(job("stop", promise=Promise(agreement=0.3).model_dump()), output)
