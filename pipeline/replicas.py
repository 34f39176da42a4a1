"""Replicas that cannot start, or that end again and again without getting anywhere.

A death that no record is to blame for costs nothing but time, until a device is broken for good or
a model cannot be loaded: then a restart changes nothing, and the job has to say so and end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from pipeline.config import FaultsConfig


class _Phase(Enum):
    LOADING = auto()
    WORKING = auto()
    IDLE = auto()


@dataclass(frozen=True)
class Start:
    """A replica that begins to load its model.

    Attributes:
        role: "small" or "large".
        checkpoint: what it loads.
        deadline_s: of the loading.
    """

    role: str
    checkpoint: str
    deadline_s: float


@dataclass
class _Replica:
    start: Start
    since: float
    phase: _Phase = _Phase.LOADING
    strikes: int = 0
    reason: str = ""


class Replicas:
    """What every replica was doing when it was last heard of.

    Args:
        config: how many deaths in a row are too many.
        clock: seconds.

    Attributes:
        fatal: why the job cannot go on; None while it can.
    """

    def __init__(self, config: FaultsConfig, clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self._replicas: dict[str, _Replica] = {}
        self._loaded: set[str] = set()
        self._late: set[str] = set()
        self.fatal: str | None = None

    def starting(self, owner: str, start: Start) -> str | None:
        """A replica's process begins; the reason why it had better not, if there is one."""
        if self.fatal:  # a constructor that raises ends the job, and a stage that raises may not
            return self.fatal
        now = self._clock()
        replica = self._replicas.get(owner)
        if replica is None:
            self._replicas[owner] = _Replica(start, now)
            return None
        if replica.phase is not _Phase.IDLE:
            replica.strikes += 1
        hung = replica.phase is _Phase.LOADING and now - replica.since >= replica.start.deadline_s
        if hung or replica.strikes > self._config.max_restarts:
            return self.give_up(_told(replica, hung))
        replica.start, replica.since, replica.phase = start, now, _Phase.LOADING
        return None

    def came(self, owner: str) -> None:
        """A replica beyond those of the start was asked for, as others had loaded."""
        self._late.add(owner)

    def loaded(self, owner: str) -> None:
        """The model is there, and the replica waits for work."""
        if replica := self._replicas.get(owner):
            replica.phase = _Phase.IDLE
            self._loaded.add(replica.start.role)

    def load_failed(self, owner: str, cause: str) -> bool:
        """Loading raised; whether another process of this replica may try again.

        It may where the model has been loaded before, by whichever replica: then nothing is wrong
        with the model, and what is missing may come, as the memory of a device whose last process
        has not quite ended. How often it may, `starting` counts.
        """
        replica = self._replicas.get(owner)
        if replica is None:
            return True
        start = replica.start
        if start.role in self._loaded or owner in self._late:
            replica.reason = cause
            return True
        self.give_up(f"the {start.role} model {start.checkpoint} could not be loaded: {cause}")
        return False

    def working(self, owner: str) -> None:
        """A forward batch begins."""
        if replica := self._replicas.get(owner):
            replica.phase = _Phase.WORKING

    def finished(self, owner: str) -> None:
        """A forward batch has ended well."""
        if replica := self._replicas.get(owner):
            replica.phase, replica.strikes, replica.reason = _Phase.IDLE, 0, ""

    def left(self, owner: str) -> None:
        """The replica has gone for good."""
        self._replicas.pop(owner, None)
        self._late.discard(owner)

    def loading(self) -> bool:
        """Whether any replica loads its model within its deadline."""
        now = self._clock()
        return any(
            one.phase is _Phase.LOADING and now - one.since < one.start.deadline_s
            for one in self._replicas.values()
        )

    def give_up(self, reason: str) -> str:
        """The job cannot go on; the first reason is the one that is told."""
        self.fatal = self.fatal or reason
        return reason


def _told(replica: _Replica, hung: bool) -> str:
    start = replica.start
    if hung:
        return (
            f"the {start.role} model {start.checkpoint} was not loaded within "
            f"{start.deadline_s:g} s (pools.{start.role}.start_deadline_s), and its process was "
            "ended; see what it waits for, or write a larger number"
        )
    did = "loading" if replica.phase is _Phase.LOADING else "at work"
    cause = f": {replica.reason}" if replica.reason else ""
    return (
        f"a replica of the {start.role} model {start.checkpoint} died {replica.strikes} times in a "
        f"row without finishing a batch, the last time while {did}{cause}; its device may be "
        f"broken or too small (faults.max_restarts), and Ray's worker logs hold its last words"
    )
