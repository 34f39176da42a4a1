"""The promise against the probe while the run goes on."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.monitor import Monitor, RemoteMonitor, standing_alarm
from pipeline.output import Output
from pipeline.probe import OnAlarm, Promise
from pipeline.schema import OUTPUT, PROBE
from tests.chaos.cluster import wait_until
from tests.pipeline.outputs import base_of, output_at, put

PROMISE = Promise(agreement=0.9, delta=0.1)


def monitor_of(output: Output, on_alarm: OnAlarm = OnAlarm.LARGE, **promise: Any) -> Monitor:
    return Monitor(output, "run", PROMISE.model_copy(update=promise), on_alarm)


def tell(monitor: Monitor, agreed: list[float], start: int = 0) -> None:
    for number, one in enumerate(agreed, start):
        monitor.announce([f"r{number}"])
        monitor.observe([(f"r{number}", one)])


def put_rows(
    output: Output,
    agreed: list[bool],
    decision: str = "exited",
    task: int = 0,
    first: int | None = None,
) -> None:
    rows = [
        {
            "id": f"r{task}-{number}" if first is None else f"r{first + number}",
            "answer": "yes" if one else "no",
            "flops": 1.0,
            "decision": decision,
            "probe": [{"prune_layer": 0.0, "keep_ratio": 1.0, "answer": "Yes.", "flops": 10.0}],
        }
        for number, one in enumerate(agreed)
    ]
    table = pa.Table.from_pylist(rows, OUTPUT.append(PROBE))
    put(output, output.rows, f"{base_of(task)}-0.parquet", table)


def test_drift_is_an_alarm_that_the_output_keeps(tmp_path: Path) -> None:
    output = output_at(tmp_path)
    monitor = monitor_of(output)
    tell(monitor, [1.0] * 200)
    assert monitor.alarm() is None
    assert not monitor.failing_safe()
    tell(monitor, [0.0] * 200, start=200)
    alarm = monitor.alarm()
    assert alarm is not None
    assert monitor.failing_safe()
    assert 200 < alarm.records < 230
    # The bet that was begun when the records changed.
    assert alarm.latest == alarm.records - 200
    assert alarm.agreement == pytest.approx(0)
    assert alarm.p <= PROMISE.delta
    assert output.alarm() == alarm
    assert (alarm.promise, alarm.run_id) == (PROMISE, "run")
    # Later outcomes, and later runs, do not take it back.
    tell(monitor, [1.0] * 1000, start=400)
    assert monitor.alarm() == alarm
    assert monitor_of(output).alarm() == alarm


@pytest.mark.parametrize("on_alarm", [OnAlarm.WARN, OnAlarm.STOP])
def test_only_one_reaction_is_the_stages(tmp_path: Path, on_alarm: OnAlarm) -> None:
    monitor = monitor_of(output_at(tmp_path), on_alarm)
    tell(monitor, [0.0] * 50)
    assert monitor.alarm() is not None
    assert not monitor.failing_safe()


def test_an_alarm_is_of_one_promise_and_of_one_set_of_settings(tmp_path: Path) -> None:
    output = output_at(tmp_path)
    tell(monitor_of(output), [0.0] * 50)
    assert standing_alarm(output, PROMISE) is not None
    assert standing_alarm(output, Promise(agreement=0.2)) is None
    assert monitor_of(output, agreement=0.2).alarm() is None
    assert Output(output.path, "another", output.storage).alarm() is None


def test_a_monitor_begins_with_what_the_rows_say(tmp_path: Path) -> None:
    """The next driver, or the actor's next life, of which no alarm was written."""
    output = output_at(tmp_path)
    put_rows(output, [True] * 30)
    put_rows(output, [False] * 8, task=1)
    monitor = monitor_of(output)
    assert monitor.alarm() is None
    # The same records again, as from a block that is done again, are nothing new.
    monitor.observe([(f"r1-{number}", 0.0) for number in range(8)])
    assert monitor.alarm() is None
    tell(monitor, [0.0] * 30)
    alarm = monitor.alarm()
    assert alarm is not None
    assert alarm.records > 38
    put_rows(output_at(tmp_path / "b"), [False] * 60)
    assert monitor_of(output_at(tmp_path / "b")).failing_safe()


def test_every_life_bets_on_the_rows_in_the_same_order(tmp_path: Path) -> None:
    """However they lie in files: else each start would be another chance of a false alarm."""
    agreed = [True] * 40 + [False] * 12
    alarms = set()
    for name, order in (("a", range(52)), ("b", range(51, -1, -1))):
        output = output_at(tmp_path / name)
        for task, number in enumerate(order):
            put_rows(output, [agreed[number]], task=task, first=number)
        alarm = monitor_of(output).alarm()
        alarms.add(alarm and (alarm.records, alarm.latest, alarm.p))
    assert len(alarms) == 1


def test_rows_of_after_an_alarm_prove_nothing(tmp_path: Path) -> None:
    output = output_at(tmp_path)
    put_rows(output, [False] * 60, decision="fail_safe")
    assert monitor_of(output).alarm() is None


def test_outcomes_are_taken_as_announced_and_not_as_they_finish(tmp_path: Path) -> None:
    """Disagreements that finish first, each time among 50 in flight: their mean is as promised."""
    random = np.random.default_rng(0)
    agreed = random.random(1000) < 0.9
    announced, hasty = (monitor_of(output_at(tmp_path / name)) for name in ("a", "b"))
    for start in range(0, 1000, 50):
        some = [(f"r{i}", float(agreed[i])) for i in range(start, start + 50)]
        announced.announce([name for name, _ in some])
        for one in sorted(some, key=lambda outcome: outcome[1] or 0.0):
            announced.observe([one])
            hasty.observe([one])
    assert announced.alarm() is None
    assert hasty.alarm() is not None


def test_a_record_without_outcome_holds_nothing_up(tmp_path: Path) -> None:
    monitor = monitor_of(output_at(tmp_path))
    monitor.announce(["slow", *(f"r{i}" for i in range(60))])
    monitor.observe([(f"r{i}", 0.0) for i in range(60)])
    assert monitor.alarm() is None, "the first one is still under way"
    monitor.announce(["slow"])
    monitor.observe([("slow", None)])
    alarm = monitor.alarm()
    assert alarm is not None
    assert alarm.records < 30


def test_a_record_that_is_lost_does_not_make_it_deaf(tmp_path: Path) -> None:
    now = [0.0]
    monitor = Monitor(output_at(tmp_path), "run", PROMISE, OnAlarm.LARGE, lambda: now[0])
    monitor.announce(["lost"])
    tell(monitor, [0.0] * 99)
    now[0] = 600.0
    monitor.observe([])
    assert monitor.alarm() is None, "only 99 later ones have reported"
    tell(monitor, [0.0], start=99)
    alarm = monitor.alarm()
    assert alarm is not None
    # It counts no more, whatever it says in the end.
    before = alarm.records
    monitor.observe([("lost", 0.0)])
    assert monitor.alarm() == alarm
    assert before < 30


def test_slow_records_are_waited_for(tmp_path: Path) -> None:
    """Ten minutes from when they were last announced; as they are, when a block is done again."""
    now = [0.0]
    monitor = Monitor(output_at(tmp_path), "run", PROMISE, OnAlarm.LARGE, lambda: now[0])
    monitor.announce(["slow", "r0"])
    tell(monitor, [0.0] * 500)
    now[0] = 590.0
    monitor.announce(["slow"])
    now[0] = 1000.0
    monitor.observe([])
    assert monitor.alarm() is None
    now[0] = 1190.0
    monitor.observe([])
    assert monitor.alarm() is not None


def test_an_alarm_is_false_as_seldom_as_is_said(tmp_path: Path) -> None:
    """However often one looks, and in the worst case that the promise allows."""
    random = np.random.default_rng(4)
    alarms, trials = 0, 100
    for trial in range(trials):
        monitor = monitor_of(output_at(tmp_path / str(trial)))
        agreed = (random.random(400) < PROMISE.agreement).astype(float)
        names = [f"r{i}" for i in range(400)]
        monitor.announce(names)
        monitor.observe(list(zip(names, agreed.tolist(), strict=True)))
        alarms += monitor.alarm() is not None
    margin = 3 * np.sqrt(PROMISE.delta_of_each * (1 - PROMISE.delta_of_each) / trials)
    assert alarms / trials <= PROMISE.delta_of_each + margin


def test_an_alarm_that_cannot_be_written_is_raised_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Output, "tell", full)
    monitor = monitor_of(output_at(tmp_path))
    tell(monitor, [0.0] * 50)
    assert monitor.failing_safe()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_monitor_that_dies_begins_again_with_the_rows(tmp_path: Path) -> None:
    import ray

    output = output_at(tmp_path)
    put_rows(output, [True] * 30)
    remote = RemoteMonitor.start(output, "run", PROMISE, OnAlarm.LARGE)
    assert not remote.safe_from_start
    assert not remote.failing_safe().result(60)
    put_rows(output, [False] * 60, task=1)
    ray.kill(remote.actor, no_restart=False)
    remote.observe([("r9", 1.0)])

    def new_life_fails_safe() -> bool:
        # A kill is not waited for: the life before may still answer.
        return bool(remote.failing_safe().result(60))

    wait_until(new_life_fails_safe, 60, "a monitor that begins again")
    again = RemoteMonitor.start(output, "run", PROMISE, OnAlarm.LARGE)
    assert again.safe_from_start
    assert again.alarm() == output.alarm() is not None


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_monitor_that_is_gone_for_good_is_no_alarm_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import ray

    remote = RemoteMonitor.start(output_at(tmp_path), "run", PROMISE, OnAlarm.LARGE)
    ray.kill(remote.actor)
    remote.announce(["r1"])
    remote.observe([("r1", 0.0)])
    assert remote.failing_safe().exception(60) is not None
    assert remote.alarm() is None
    assert remote.alarm() is None
    told = [one.getMessage() for one in caplog.records if one.name == "pipeline.monitor"]
    assert len(told) == 1
    assert "nothing watches the promise" in told[0]
