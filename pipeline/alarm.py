"""What the user is told of a promise and its breach, and what a run refuses to begin with."""

from collections.abc import Callable

import numpy as np

from pipeline.config import JobConfig, Mode
from pipeline.measured import Measured
from pipeline.monitor import Evidence, alarm_of, standing_alarm
from pipeline.output import Alarm, Output
from pipeline.probe import OnAlarm, ProbeConfig, Promise
from sgl.bounds import DriftTest
from sgl.errors import AlarmError, ConfigurationError
from sgl.metrics import metric_named

_FOLLOWS = {
    OnAlarm.WARN: "the run goes on as before; calibrate again, or answer what is left by the "
    "unpruned large model: the same command with --set probe.on_alarm=large",
    OnAlarm.LARGE: "from now on the unpruned large model answers every record",
    OnAlarm.STOP: "the run ends here, and its rows stand; calibrate again for what is left, or go "
    "on with --set probe.on_alarm=large (by the unpruned large model) or =warn (as before)",
}


def watched(job: JobConfig) -> tuple[ProbeConfig, Promise] | None:
    """The probe and the promise of a job that can raise an alarm; None of any other."""
    if job.mode is not Mode.CASCADE or job.probe is None or job.promise is None:
        return None
    return (job.probe, job.promise) if job.probe.compares else None


def check_alarm(job: JobConfig, records: int) -> list[str]:
    """Refuse a reaction to an alarm that cannot come; say where nobody watches a promise.

    Args:
        job: any.
        records: of its input.

    Returns:
        What the user should know, one line each.

    Raises:
        ConfigurationError: names the setting and the remedy.
    """
    if job.promise is not None:
        metric_named(job.promise.metric)
    if job.mode is Mode.CASCADE and job.probe is not None:
        _check_reaction(job, job.probe)
    if job.promise is None:
        return []
    if (given := watched(job)) is None:
        return [f"nothing watches the promise: {_unwatched(job)}"]
    return _too_small(*given, records)


def _check_reaction(job: JobConfig, probe: ProbeConfig) -> None:
    reacts = probe.on_alarm is not OnAlarm.WARN
    if reacts and job.promise is None:
        raise ConfigurationError(
            f"probe.on_alarm: '{probe.on_alarm}' needs a promise that can be broken; write "
            "promise.agreement, or give a --policy that promises agreement"
        )
    if reacts and not probe.compares:
        raise ConfigurationError(
            f"probe.on_alarm: '{probe.on_alarm}' needs the unpruned large model's answers to "
            "compare with; add a keep ratio of 1 to probe.prunings"
        )


def _unwatched(job: JobConfig) -> str:
    """Why, and what to write."""
    if job.mode is not Mode.CASCADE:
        return f"mode '{job.mode}' runs one model, and has no other answers to compare with"
    if job.probe is None:
        return "there is no probe; write probe.share, as in --set probe.share=0.005"
    return (
        "the probe has no unpruned answers to compare with; add a keep ratio of 1 to probe.prunings"
    )


def _too_small(probe: ProbeConfig, promise: Promise, records: int) -> list[str]:
    probed = probe.share * records
    needed = least_records(promise, most=records)
    if probed >= needed:
        return []
    return [
        f"probe.share: of {records:,} records about {probed:.0f} are probed, and no alarm comes "
        f"before {needed:,} of them, even if none agrees; write {min(1.0, needed / records):.2g} "
        "or more"
    ]


def least_records(promise: Promise, most: int) -> int:
    """How many probed records it takes until an alarm, if none of them agrees; `most` or fewer."""
    test = DriftTest(promise.agreement)
    while test.p > promise.delta_of_each and test.records < most:
        test = test.after(np.zeros(1))
    return test.records


def describe(alarm: Alarm, on_alarm: OnAlarm, measured: Measured | None = None) -> str:
    """One line: what was promised, what was seen, and what follows.

    Args:
        alarm: that was raised.
        on_alarm: what follows.
        measured: of the whole output, at its end.
    """
    promise = alarm.promise
    seen = (
        f"ALARM: agreement {promise.agreement:g} was promised, and of the latest "
        f"{alarm.latest:,} of {alarm.records:,} probed records {alarm.agreement:.1%} agreed "
        f"(p = {alarm.p:.2g}); they are not like those of the calibration"
    )
    if measured is None:
        return f"{seen}: {_FOLLOWS[on_alarm]}"
    if measured.cascade is None or measured.breaks(promise):
        return f"{seen}; calibrate again, or run with a threshold above 1"
    whole = measured.cascade
    return (
        f"{seen}, when it was raised ({alarm.raised_at}); of all {whole.records:,} probed records "
        f"that the cascade answered, {whole.agreement} agree, which alone would not show it: some "
        "stretch of the input differs"
    )


def refuse_stopped(job: JobConfig, output: Output) -> None:
    """Do not begin what an alarm has stopped.

    Raises:
        AlarmError: it has, and stop is still asked for.
    """
    if (given := watched(job)) and given[0].on_alarm is OnAlarm.STOP:
        alarm = standing_alarm(output, given[1])
        if alarm is not None:
            raise AlarmError(describe(alarm, OnAlarm.STOP))


def final_alarm(
    job: JobConfig, output: Output, run_id: str, measured: Measured | None
) -> Alarm | None:
    """The alarm that stands at the end: raised on the way, or by all rows together."""
    given = watched(job)
    if given is None:
        return None
    alarm = standing_alarm(output, given[1])
    if alarm is None and measured and measured.cascade and measured.breaks(given[1]):
        part, p = measured.cascade, measured.broken_p or 0.0
        evidence = Evidence(part.records, part.records, part.agreement.value, p)
        alarm = alarm_of(output, run_id, given[1], evidence)
        output.tell(alarm)
    return alarm


class Bell:
    """Asked again and again while a run goes on; says an alarm once.

    Args:
        ask: for the alarm; None while there is none.
        on_alarm: what follows.
        say: shows a line to the user.
    """

    def __init__(
        self, ask: Callable[[], Alarm | None], on_alarm: OnAlarm, say: Callable[[str], None]
    ) -> None:
        self._ask = ask
        self._on_alarm = on_alarm
        self._say = say
        self._rung = False

    def __call__(self) -> AlarmError | None:
        """Why the run is to end; None while it is not."""
        if self._rung or (alarm := self._ask()) is None:
            return None
        self._rung = True
        line = describe(alarm, self._on_alarm)
        if self._on_alarm is OnAlarm.STOP:
            return AlarmError(line)
        self._say(line)
        return None
