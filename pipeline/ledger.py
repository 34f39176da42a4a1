"""The crash ledger: which records were in a process that died, and what follows for them.

A record that ends its process (a codec that crashes, a kernel that reads beyond its memory, a loop
without end) takes its batch along, and Ray would try both again for ever. So every forward batch is
opened here before it runs and closed after it. A batch still open when its replica starts
anew, or when one of its records comes again, has died.

What follows for a record:
- It died in company: any of the batch may be to blame. All run alone from then on.
- It finishes alone: it was not to blame, and runs in company again.
- It died alone `max_deaths` times, or hung alone twice, with no finish between: a failed row.

Three deaths alone in a row are no accident. Where a process is killed once in T seconds and a
record runs for t, an innocent record that has come under suspicion meets with them once in (T/t)^3
times: one in a million at one hundred runs per kill. A kill from outside never looks like a hang.
Those with the fewest deaths run first, so that a device which kills whatever it is given is found
out (pipeline/replicas.py) before any one record has died so often.
"""

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.config import FaultsConfig
from pipeline.journal import Event, Journal
from pipeline.replicas import Replicas, Start
from pipeline.timesheet import Times, Timesheet
from sgl.errors import CrashError, DeadlineError, RecordError
from sgl.types import Failure

logger = logging.getLogger(__name__)

_MAX_HANGS = 2
_MAX_VISITS = 4
"""Of a block, per restart that is put up with: blocks also come again when a node is lost."""
_MOST_VISITED = 4096
"""Blocks whose visits are counted, the latest. Ray runs a block again at once, with at most those
that are in flight in between; a count for every block would grow with the input for ever."""


@dataclass(frozen=True)
class Admission:
    """How records may run.

    Attributes:
        failed: those that may not, by id.
        alone: those that may, each by itself and in this order; all others run together.
        refusal: why nothing may run any more; None as a rule.
    """

    failed: dict[str, Failure]
    alone: tuple[str, ...]
    refusal: str | None = None


@dataclass(frozen=True)
class _Attempt:
    stage: str
    ids: tuple[str, ...]
    deadline_s: float
    since: float


@dataclass
class _Suspicion:
    """Of one record in one stage: deaths that it met alone, those by a deadline among them."""

    deaths: int = 0
    hangs: int = 0
    deadline_s: float = 0.0


class Ledger:
    """The books; runs as a Ray actor, and plainly in tests.

    Args:
        config: when to give up.
        journal: where deaths outlive this process.
        clock: seconds.
        slots: replicas of each pool, for the books.
    """

    def __init__(
        self,
        config: FaultsConfig,
        journal: Journal,
        clock: Callable[[], float] = time.monotonic,
        slots: dict[str, int] | None = None,
    ) -> None:
        self._config = config
        self._journal = journal
        self._clock = clock
        self._open: dict[str, _Attempt] = {}
        self._suspicions: dict[tuple[str, str], _Suspicion] = {}
        self._visits: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._replicas = Replicas(config, clock)
        self._timesheet = Timesheet(slots or {}, clock)
        self._asked = 0
        self._gpus: dict[str, tuple[str, ...]] = {}
        for event in journal.read():
            self._apply(event)

    def admit(self, stage: str, ids: Sequence[str]) -> Admission:
        """Records have arrived in a stage, be it again."""
        coming = set(ids)
        for owner, attempt in list(self._open.items()):
            if attempt.stage == stage and coming.intersection(attempt.ids):
                self._died(owner)
        if refusal := self._endless(stage, ids[0]):
            return Admission({}, (), refusal)
        suspected = {i: s for i in ids if (s := self._suspicions.get((stage, i)))}
        failed = {
            name: Failure(name, stage, type(error).__name__, str(error))
            for name, suspicion in suspected.items()
            if (error := self._verdict(stage, suspicion))
        }
        alone = sorted(suspected.keys() - failed.keys(), key=list(ids).index)
        return Admission(failed, tuple(sorted(alone, key=lambda name: suspected[name].deaths)))

    def begin(self, owner: str, stage: str, ids: Sequence[str], deadline_s: float) -> None:
        """A forward batch starts; an earlier one of the same owner has raised and not died."""
        self._open[owner] = _Attempt(stage, tuple(ids), deadline_s, self._clock())
        self._replicas.working(owner)
        self._timesheet.begin(owner)

    def end(self, owner: str) -> None:
        """The owner's batch has ended well."""
        attempt = self._open.pop(owner, None)
        if attempt is not None and len(attempt.ids) == 1:
            self._suspicions.pop((attempt.stage, attempt.ids[0]), None)
        self._replicas.finished(owner)
        self._timesheet.end(owner)

    def spent(self, owner: str, device_s: float) -> None:
        """See Timesheet."""
        self._timesheet.spent(owner, device_s)

    def times(self) -> Times:
        """See Timesheet; and what is running."""
        running: Counter[str] = Counter()
        for attempt in self._open.values():
            running[attempt.stage] += len(attempt.ids)
        return self._timesheet.times().model_copy(update={"running": dict(running)})

    def starting(
        self, owner: str, start: Start, node: str, gpus: tuple[str, ...] = ()
    ) -> str | None:
        """See Replicas; whatever the owner had open has died."""
        self._died(owner)
        self._gpus[owner] = gpus
        self._timesheet.starting(owner, start.role, node)
        return self._replicas.starting(owner, start)

    def came(self, owner: str, role: str) -> None:
        """See Timesheet and Replicas."""
        self._timesheet.came(owner, role)
        self._replicas.came(owner)

    def left(self, owner: str) -> None:
        """See Timesheet; and it is waited for no more."""
        self._timesheet.left(owner)
        self._replicas.left(owner)
        self._gpus.pop(owner, None)

    def gpus(self) -> dict[str, tuple[str, ...]]:
        """The GPUs of its node that each replica is on, or has a share of."""
        return dict(self._gpus)

    def loaded(self, owner: str) -> None:
        """See Replicas."""
        self._replicas.loaded(owner)
        self._timesheet.loaded(owner)

    def load_failed(self, owner: str, cause: str) -> bool:
        """See Replicas."""
        return self._replicas.load_failed(owner, cause)

    def busy(self) -> int:
        """Changes from call to call while any process works or loads within its deadline."""
        now = self._clock()
        works = any(now - one.since < one.deadline_s for one in self._open.values())
        self._asked += works or self._replicas.loading()
        return self._asked

    def fatal(self) -> str | None:
        """Why the job cannot go on; None while it can."""
        return self._replicas.fatal

    def _endless(self, stage: str, first: str) -> str | None:
        """Why the job must end, where a block comes again and again and no batch of it is open.

        Its process then dies after its batches, as of memory that one of them has corrupted; no
        record can be blamed.
        """
        visits = self._visits.pop((stage, first), 0) + 1
        self._visits[stage, first] = visits  # behind all others
        if len(self._visits) > _MOST_VISITED:
            self._visits.popitem(last=False)
        if visits <= _MAX_VISITS * (1 + self._config.max_restarts):
            return None
        return self._replicas.give_up(
            f"a block of the {stage} stage was begun {visits} times and never "
            f"came through, and no batch of it is to blame; its first record is {first}, and Ray's "
            "worker logs hold the last words of the processes that ran it"
        )

    def _died(self, owner: str) -> None:
        attempt = self._open.pop(owner, None)
        if attempt is None:
            return
        # Measured to when the death is noticed: a kill in the last moments counts as a hang.
        hung = self._clock() - attempt.since >= attempt.deadline_s
        event = Event(
            kind="death",
            ids=attempt.ids,
            stage=attempt.stage,
            hung=hung,
            deadline_s=attempt.deadline_s,
        )
        self._apply(event)
        for visit in [visit for visit in self._visits if visit[0] == attempt.stage]:
            del self._visits[visit]
        logger.warning(
            "a process of the %s stage %s with %d records: %s",
            *(attempt.stage, "hung" if hung else "died", len(attempt.ids), attempt.ids[:4]),
        )
        try:
            self._journal.append(event)
        except OSError:
            # What is not written down is lost with this process and no sooner.
            logger.exception("the ledger could not write to its storage")

    def _apply(self, event: Event) -> None:
        if event.kind == "pardon":
            pardoned = set(event.ids)
            for key in [key for key in self._suspicions if key[1] in pardoned]:
                del self._suspicions[key]
            return
        for name in event.ids:
            suspicion = self._suspicions.setdefault((event.stage, name), _Suspicion())
            if len(event.ids) == 1:
                suspicion.deaths += 1
                suspicion.hangs += event.hung
                suspicion.deadline_s = event.deadline_s

    def _verdict(self, stage: str, suspicion: _Suspicion) -> RecordError | None:
        advice = "look at its image and its length; it runs again in this output only on request"
        if suspicion.hangs >= min(_MAX_HANGS, self._config.max_deaths):
            return DeadlineError(
                f"the {stage} stage did not finish this record, alone, within "
                f"{suspicion.deadline_s:g} s, {suspicion.hangs} times; {advice}"
            )
        if suspicion.deaths >= self._config.max_deaths:
            return CrashError(
                f"the {stage} stage's process died {suspicion.deaths} times while it worked on "
                f"this record alone; {advice}"
            )
        return None
