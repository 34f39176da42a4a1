"""Where the time of every replica went, so that a bill can be explained.

A replica is always in one of four states, until it has gone:

    start-up   its process starts and its model loads; the first ones from the run's start on
    waiting    for records, for a batch to fill, for pictures to be prepared
    work       a forward batch
    lost       a forward batch that raised, or that ended with its process

What a batch's results say that they took of the device is `device_s`, and what else its time went
into `handling_s`. Work whose results nobody has got yet is open; when its process dies, it is lost.
All times are in seconds of one clock, the ledger's, of one replica whatever its devices.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import Field

from actors.config import StrictModel


class State(StrEnum):
    """Of a replica."""

    STARTUP = "startup"
    WAITING = "waiting"
    WORK = "work"
    GONE = "gone"


class ReplicaTime(StrictModel):
    """Seconds of one replica, whatever its devices.

    Attributes:
        role: "small" or "large".
        node: that it was last seen on; its address.
        startup_s, waiting_s, device_s, handling_s, lost_s, open_s: see the module's docstring.
        starts: of its process.
        load_s: of start-up, what its process needed for the model, the last time.
        late: it was not there at the run's start, so that its start-up is from being asked for on.
    """

    role: str
    node: str
    startup_s: float
    waiting_s: float
    device_s: float
    handling_s: float
    lost_s: float
    open_s: float
    starts: int
    load_s: float = 0.0
    late: bool = False

    @property
    def total_s(self) -> float:
        """Everything."""
        done = self.device_s + self.handling_s + self.lost_s + self.open_s
        return self.startup_s + self.waiting_s + done


class Times(StrictModel):
    """Of one run, from its start to the moment of asking.

    Attributes:
        elapsed_s: since the run's start.
        replicas: all that there have been.
        running: records in forward batches at that moment, by stage.
    """

    elapsed_s: float
    running: dict[str, int] = Field(default_factory=dict)
    replicas: tuple[ReplicaTime, ...]


@dataclass
class _Sheet:
    role: str
    node: str
    since: float
    state: State = State.STARTUP
    starts: int = 1
    loading: float = 0.0
    device_s: float = 0.0
    handling_s: float = 0.0
    lost_s: float = 0.0
    unreported_s: float = 0.0
    load_s: float = 0.0
    late: bool = False
    in_state: dict[State, float] = field(default_factory=lambda: dict.fromkeys(State, 0.0))

    def to(self, state: State, now: float) -> float:
        """Change the state; how long the one before lasted."""
        before, lasted = self.state, now - self.since
        self.in_state[before] += lasted
        self.state, self.since = state, now
        return lasted


class Timesheet:
    """Books what the ledger hears.

    Args:
        slots: replicas of each pool: so many have been reserved from the run's start on.
        clock: seconds.
    """

    def __init__(self, slots: dict[str, int], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = clock()
        self._free = dict(slots)
        self._sheets: dict[str, _Sheet] = {}

    def starting(self, owner: str, role: str, node: str) -> None:
        """A process of a replica begins; what it had open has died with the one before."""
        now, sheet = self._clock(), self._sheets.get(owner)
        if sheet is None:
            first = self._free.get(role, 0) > 0
            self._free[role] = self._free.get(role, 0) - 1
            # One beyond those of the start came later, whether or not that was told already.
            since = self._started if first else now
            sheet = _Sheet(role, node, since, loading=now, late=not first)
            self._sheets[owner] = sheet
            return
        self._lose(sheet, now)
        sheet.to(State.STARTUP, now)
        sheet.node, sheet.starts, sheet.loading = node, sheet.starts + 1, now

    def came(self, owner: str, role: str) -> None:
        """A replica beyond those of the start was asked for; it has no process yet."""
        if sheet := self._sheets.get(owner):
            sheet.late = True
        else:
            self._sheets[owner] = _Sheet(role, "", self._clock(), starts=0, late=True)

    def left(self, owner: str) -> None:
        """It has gone for good, or would come back only for what was lost with a node."""
        if sheet := self._sheets.get(owner):
            now = self._clock()
            self._lose(sheet, now)
            sheet.to(State.GONE, now)

    def loaded(self, owner: str) -> None:
        """The model is there."""
        if sheet := self._sheets.get(owner):
            now = self._clock()
            self._raised(sheet, now)
            sheet.load_s = now - sheet.loading
            sheet.to(State.WAITING, now)

    def begin(self, owner: str) -> None:
        """A forward batch; if one is open, that one has raised."""
        if sheet := self._sheets.get(owner):
            now = self._clock()
            self._raised(sheet, now)
            sheet.to(State.WORK, now)

    def end(self, owner: str) -> None:
        """It has ended well; its results are on their way."""
        sheet = self._sheets.get(owner)
        if sheet and sheet.state is State.WORK:
            sheet.unreported_s += sheet.to(State.WAITING, self._clock())

    def spent(self, owner: str, device_s: float) -> None:
        """Results have left the replica's model.

        Args:
            owner: the replica.
            device_s: that they say they took, of all batches since the last such call.
        """
        if sheet := self._sheets.get(owner):
            self._raised(sheet, self._clock())
            sheet.device_s += device_s
            sheet.handling_s += sheet.unreported_s - device_s
            sheet.unreported_s = 0.0

    def times(self) -> Times:
        """Up to now."""
        now = self._clock()
        told = tuple(self._told(sheet, now) for sheet in self._sheets.values())
        return Times(elapsed_s=now - self._started, replicas=told)

    def _raised(self, sheet: _Sheet, now: float) -> None:
        if sheet.state is State.WORK:
            sheet.lost_s += sheet.to(State.WAITING, now)

    def _lose(self, sheet: _Sheet, now: float) -> None:
        self._raised(sheet, now)
        sheet.lost_s += sheet.unreported_s
        sheet.unreported_s = 0.0

    def _told(self, sheet: _Sheet, now: float) -> ReplicaTime:
        current = dict.fromkeys(State, 0.0) | {sheet.state: now - sheet.since}
        return ReplicaTime(
            role=sheet.role,
            node=sheet.node,
            startup_s=sheet.in_state[State.STARTUP] + current[State.STARTUP],
            waiting_s=sheet.in_state[State.WAITING] + current[State.WAITING],
            device_s=sheet.device_s,
            handling_s=sheet.handling_s,
            lost_s=sheet.lost_s,
            open_s=sheet.unreported_s + current[State.WORK],
            starts=sheet.starts,
            load_s=sheet.load_s,
            late=sheet.late,
        )
