"""Which replicas hold devices, and for how long: the driver's books of a balanced run.

A replica's devices are its pool's from the moment when it is asked for until its process has ended.
The pool that gives pays until then, and the one that takes from then on.
"""

from collections.abc import Callable, Iterable, Mapping

from pipeline.balance.splits import Split
from pipeline.balance.views import Actor, PoolView
from pipeline.timesheet import ReplicaTime

ROLES = ("small", "large")
_PROCESS_S = 5.0
"""Until a process of a replica has begun, before one has been timed."""


class Holdings:
    """Told again and again what the pools are.

    Args:
        start: replicas of each pool, held from the run's start on.
        clock: seconds.
        came: called with the name and the role of a replica that was not there at the start.
        left: called with the name of a replica that has gone for good.
        ended: whether an actor's process has ended, by its name.
    """

    def __init__(
        self,
        start: Split,
        clock: Callable[[], float],
        came: Callable[[str, str], None],
        left: Callable[[str], None],
        ended: Callable[[str], bool],
    ) -> None:
        self._start = start
        self._clock = clock
        self._came = came
        self._left = left
        self._ended = ended
        self._known: dict[str, dict[str, Actor]] = {role: {} for role in ROLES}
        self._lingering: dict[str, dict[str, Actor]] = {role: {} for role in ROLES}
        self._begun = False
        self._since = clock()
        self._beyond_s = dict.fromkeys(ROLES, 0.0)

    def update(self, pools: Mapping[str, PoolView]) -> None:
        """What the pools are now."""
        self._count()
        for role, pool in pools.items():
            before, now = self._known[role], {one.name: one for one in pool.actors}
            if self._begun:
                for name in now.keys() - before.keys():
                    self._came(name, role)
            self._lingering[role] |= {n: one for n, one in before.items() if n not in now}
            self._known[role] = now
        self._begun = True
        for role, some in self._lingering.items():
            for name in [name for name in some if self._ended(name)]:
                self._count()
                del self._lingering[role][name]
                self._left(name)

    def lingering(self) -> dict[str, tuple[Actor, ...]]:
        """Those that have left their pool and whose process has not ended, by role."""
        return {role: tuple(some.values()) for role, some in self._lingering.items()}

    def held(self) -> dict[str, int]:
        """Replicas that hold devices now, by role."""
        if not self._begun:
            return {role: self._start.of(role) for role in ROLES}
        return {role: len(self._known[role]) + len(self._lingering[role]) for role in ROLES}

    def beyond_s(self) -> dict[str, float]:
        """Replica-seconds held beyond those of the start, until now, by role."""
        self._count()
        return dict(self._beyond_s)

    def _count(self) -> None:
        now, held = self._clock(), self.held()
        for role in ROLES:
            self._beyond_s[role] += (held[role] - self._start.of(role)) * (now - self._since)
        self._since = now


def started_s(replicas: Iterable[ReplicaTime]) -> dict[str, float]:
    """Seconds from asking for a replica to a model that is loaded, by role.

    Of those that came while the run went on, where there are any. The first ones come all at once,
    and Ray with them: of these it is what their models took to load, and a while for the process.
    """
    found: dict[tuple[str, bool], list[float]] = {}
    for one in replicas:
        if one.load_s:
            took_s = one.startup_s / one.starts if one.late else one.load_s + _PROCESS_S
            found.setdefault((one.role, one.late), []).append(took_s)
    mean = {key: sum(some) / len(some) for key, some in found.items()}
    return {role: mean.get((role, True), mean[role, late]) for role, late in mean}
