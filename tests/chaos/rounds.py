"""One round: a fresh output, drivers that live and die by the plan, until the job is done."""

import os
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.chaos.cluster import ChaosCluster, wait_until
from tests.chaos.driver import Driver
from tests.chaos.job import job_of, write_config
from tests.chaos.judge import Row, judge
from tests.chaos.outcome import Death, Round
from tests.chaos.place import Place
from tests.chaos.plan import Kill, Kind, Life
from tests.chaos.victims import Worker, replicas, workers

_STALL_S = 300.0
_POLL_S = 0.1
_TAIL = 3000


class RoundError(Exception):
    """A driver that ended, or stood still, for another reason than our kills."""


class Arena:
    """What all rounds of one run of the suite share.

    Args:
        cluster: up.
        records: the job's input.
        folder: for configurations and logs.
        rng: chooses the victims.
        tell: called with every death.
    """

    def __init__(
        self,
        cluster: ChaosCluster,
        records: Path,
        folder: Path,
        rng: random.Random,
        tell: Callable[[Death], None],
    ) -> None:
        self.cluster = cluster
        self.records = records
        self.folder = folder
        self.rng = rng
        self.tell = tell

    def play(
        self, number: int, place: Place, lives: deque[Life], undisturbed: Mapping[str, Row]
    ) -> Round:
        """Play lives off the plan until the job is done; what it was too short for stays there."""
        played = Round()
        play = _Play(self, number, place, played)
        try:
            while not play.live(lives.popleft() if lives else Life(), lives):
                pass
            played.verdict = judge(place.output(), undisturbed, time.time())
        except (RoundError, TimeoutError) as error:
            played.error = str(error)
        finally:
            play.end()
        return played

    def run_calm(self, place: Place) -> None:
        """Run the job undisturbed.

        Raises:
            RoundError: it failed.
        """
        _Play(self, 0, place, Round(), calm=True).live(Life(), deque())


class _Play:
    """Plays the lives of one round."""

    def __init__(
        self, arena: Arena, number: int, place: Place, played: Round, *, calm: bool = False
    ) -> None:
        self._arena = arena
        self._number = number
        self._place = place
        self._played = played
        self._began = time.monotonic()
        job = job_of(arena.records, place.path, arena.cluster.address, place.seen_by_job, calm=calm)
        self._log = arena.folder / f"round-{number}.log"
        self._config = write_config(job, arena.folder / f"round-{number}.yaml")
        self._driver: Driver | None = None
        # Files committed: when this driver began, at the latest death, and when last looked at.
        self._before = self._commits = 0
        self._moved = (0, self._began)
        self._orphans = set[int]()

    def live(self, life: Life, lives: deque[Life]) -> bool:
        """One driver from its start to its death or its end; whether the job is done.

        Raises:
            RoundError: it failed, or stands still.
        """
        if self._place.faults:
            self._place.faults.forget()
        driver = self._driver = Driver(self._config, self._log, self._arena.cluster.environment)
        self._played.drivers += 1
        self._before = self._commits = self._place.commits()
        self._moved = (self._commits, time.monotonic())
        here = workers(self._arena.cluster.raylets)
        self._orphans = {worker.pid for worker in here if worker.role}
        for place, kill in enumerate(life.kills):
            if not self._brought_about(kill, driver):
                lives.appendleft(Life(life.kills[place:]))
                return self._ended_well(driver)
            if kill.kind in (Kind.PHASE, Kind.DRIVER):
                return False
        self._wait(lambda: not driver.running, driver)
        return self._ended_well(driver)

    def end(self) -> None:
        """Whatever happened, no driver stays."""
        if self._driver and self._driver.running:
            self._driver.kill()
        self._played.seconds = round(time.monotonic() - self._began, 1)

    def _ended_well(self, driver: Driver) -> bool:
        code = driver.wait(_STALL_S)
        if code:
            raise RoundError(f"the driver ended with exit code {code}: {self._said()}")
        return True

    def _brought_about(self, kill: Kill, driver: Driver) -> bool:
        """Wait for a kill's time and bring it about; False where the job ended before."""
        match kill.kind:
            case Kind.PHASE:
                return self._kill_at_phase(kill, driver)
            case Kind.DRIVER:
                return self._kill_driver(kill, driver)
            case Kind.RAYLET:
                return self._kill_raylet(kill, driver)
            case _:
                return self._kill_replica(kill, driver)

    def _kill_at_phase(self, kill: Kill, driver: Driver) -> bool:
        faults, phase = self._place.faults, kill.phase
        assert faults is not None
        assert phase is not None
        if phase.looks_like_reconciling and not self._wait(
            lambda: self._place.commits() > self._before, driver
        ):
            return False
        faults.stop = phase.stop(kill.skip)
        if not self._wait(faults.over.is_set, driver):
            return False
        death = self._death(kill, phase.value)
        if not driver.kill():
            return False
        # What is torn stays torn until the dead driver's workers are gone too.
        wait_until(self._orphans_are_gone, _STALL_S, "workers of a dead driver live on")
        tasks = self._place.tasks()
        if not phase.left_behind(tasks):
            raise RoundError(f"no write task is as a death at '{phase.value}' leaves it: {tasks}")
        return self._count(death)

    def _kill_driver(self, kill: Kill, driver: Driver) -> bool:
        if not kill.loading and not self._wait_for_commits(kill, driver):
            return False
        due = time.monotonic() + kill.delay_s
        if not self._wait(lambda: time.monotonic() >= due, driver):
            return False
        worked = self._place.commits() > self._before
        death = self._death(kill, "at work" if worked else "starting")
        return driver.kill() and self._count(death)

    def _kill_replica(self, kill: Kill, driver: Driver) -> bool:
        def victims() -> list[Worker]:
            found = replicas(self._arena.cluster.raylets, kill.kind.value, loading=kill.loading)
            # Those of a driver that has just died are about to end by themselves.
            return [one for one in found if one.pid not in self._orphans]

        if not self._wait_for_commits(kill, driver):
            return False
        while True:
            if not self._wait(lambda: bool(victims()), driver):
                return False
            self._pause(kill, driver)
            for victim in self._arena.rng.sample(found := victims(), len(found)):
                death = self._death(kill, "loading" if victim.loading else "at work")
                if driver.running and _killed(victim.pid):
                    return self._count(death)

    def _kill_raylet(self, kill: Kill, driver: Driver) -> bool:
        cluster = self._arena.cluster

        def loading() -> bool:
            return any(one.loading and one.role for one in workers(cluster.raylets))

        if not self._wait_for_commits(kill, driver):
            return False
        if kill.loading and not self._wait(loading, driver):
            return False
        self._pause(kill, driver)
        if not driver.running:
            return False
        victim = self._arena.rng.choice(cluster.raylets)
        roles = {one.role for one in workers([victim]) if one.role}
        moment = f"{'loading' if loading() else 'at work'}, with {' and '.join(sorted(roles))}"
        death = self._death(kill, moment if roles else "without replicas")
        cluster.replace(victim)
        return self._count(death)

    def _wait_for_commits(self, kill: Kill, driver: Driver) -> bool:
        wanted = self._commits + kill.commits
        return self._wait(lambda: self._place.commits() >= wanted, driver)

    def _pause(self, kill: Kill, driver: Driver) -> None:
        due = time.monotonic() + kill.delay_s
        self._wait(lambda: time.monotonic() >= due, driver)

    def _wait(self, holds: Callable[[], bool], driver: Driver) -> bool:
        """Whether it came to hold while the driver lived.

        Raises:
            RoundError: nothing has been committed for too long.
        """
        while not holds():
            if not driver.running:
                return holds()
            commits, since = self._place.commits(), time.monotonic()
            if commits != self._moved[0]:
                self._moved = (commits, since)
            elif since - self._moved[1] > _STALL_S:
                raise RoundError(f"no commit for {_STALL_S:g} s: {self._said()}")
            time.sleep(_POLL_S)
        return True

    def _death(self, kill: Kill, moment: str) -> Death:
        return Death(
            round=self._number,
            storage=self._place.name,
            kind=kill.kind.value,
            moment=moment,
            seconds=round(time.monotonic() - self._began, 1),
            committed=self._place.committed_rows(),
        )

    def _count(self, death: Death) -> bool:
        self._played.deaths.append(death)
        self._arena.tell(death)
        self._commits = self._place.commits()
        self._moved = (self._commits, time.monotonic())
        return True

    def _orphans_are_gone(self) -> bool:
        cluster = self._arena.cluster
        here = workers([cluster.head, *cluster.raylets])
        return not any(one.role or one.writes for one in here)

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-_TAIL:]


def _killed(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
