"""Two actor pools of a running graph whose sizes we set: the only code that knows Ray's insides.

To Ray each pool is of a fixed size at every moment, its least and most being the same; what moves
is that size. Ray's own autoscaler then starts the actors that are missing, and its rules for when
a pool should grow or shrink (ray issues 59144, 65540, 66196) never come into play.

Ray lets go of actors that are idle, and one that is busy is never idle. So an actor that is to go
is first taken off the list of those that get tasks, in the way in which Ray does it with actors on
a node that is being drained: it finishes what it has, and only then its handle is dropped. It ends
as every actor of a finished pool does. No task is cancelled, and none runs twice.

What this needs of Ray's pool is told by `lacks`; where it lacks something, nothing is moved.
"""

import inspect
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray.data import DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data._internal.execution.operators import actor_pool_map_operator as operators

from pipeline.balance.views import Actor, PoolView

logger = logging.getLogger(__name__)

ATTRIBUTES = (
    *("_running_actors", "_pending_actors", "_alive_actors_to_in_flight_tasks_heap"),
    "_alive_node_to_actor_heap",
)
METHODS = (
    *("initial_size", "min_size", "max_size", "current_size"),
    *("_update_rank", "_release_running_actor", "_remove_inactive_actor"),
)
"""Of Ray's pool."""
RANKED = ["actor", "state", "died"]
"""Arguments of `_update_rank`."""
_STAGES = {"MapBatches(SmallStage)": "small", "MapBatches(LargeStage)": "large"}
_DEAD = "DEAD"
_EVERY_S = 0.2
_KEY = "sgl.balance"

_Pool: Any = operators._NodeAwareActorPool


class MovablePool(_Pool):
    """Ray's pool of actors, with a size that can be set while it works."""

    @classmethod
    def taking_over(cls, pool: Any) -> "MovablePool":
        """Of the actors that a pool has, in whatever state they are."""
        taken = cls.__new__(cls)
        taken.__dict__ = pool.__dict__
        taken.size = pool.initial_size()
        taken.leaving = set()
        return taken

    size: int
    leaving: set[str]

    def min_size(self) -> int:
        """See AutoscalingActorPool."""
        return self.size

    def max_size(self) -> int:
        """See AutoscalingActorPool."""
        return self.size

    def leave(self, names: Iterable[str]) -> None:
        """Give these actors no more tasks, and let them go when they have done what they have."""
        running = {name_of(actor): actor for actor in self._running_actors}
        for name in set(names) & running.keys() - self.leaving:
            self.leaving.add(name)
            self.size -= 1
            self._without_tasks(running[name])

    def stay(self) -> None:
        """Nobody leaves any more; those that were about to get tasks again, once Ray looks."""
        self.leaving.clear()
        self.size = self.current_size()

    def let_go(self) -> None:
        """Drop the handles of those that leave and have nothing left to do."""
        for actor, state in list(self._running_actors.items()):
            if name_of(actor) in self.leaving and state.num_tasks_in_flight == 0:
                self.leaving.discard(name_of(actor))
                self._release_running_actor(actor)

    def _update_rank(self, actor: Any, state: Any, died: bool) -> None:
        super()._update_rank(actor, state, died)
        if name_of(actor) in self.leaving:
            self._without_tasks(actor)

    def _without_tasks(self, actor: Any) -> None:
        node = self._alive_node_to_actor_heap.get(self._running_actors[actor].actor_location, {})
        for heap in (self._alive_actors_to_in_flight_tasks_heap, node):
            if actor in heap:
                del heap[actor]

    def _remove_inactive_actor(self) -> bool:
        # Above its size the pool holds those that leave, and they go by `let_go`; behind the end
        # of its input it is at its size or below, and all go.
        if self.current_size() > self.size:
            return False
        return bool(super()._remove_inactive_actor())

    def view(self, queued: int, fed: bool) -> PoolView:
        """As it is now."""
        pending = (Actor(name_of(one), "", 0, ready=False) for one in self._pending_actors.values())
        running = (
            Actor(
                name_of(one),
                str(state.actor_location),
                state.num_tasks_in_flight,
                ready=not state.is_restarting and name_of(one) not in self.leaving,
                restarting=bool(state.is_restarting),
            )
            for one, state in self._running_actors.items()
        )
        return PoolView((*pending, *running), self.size, queued, fed)


@dataclass(frozen=True)
class Pools:
    """Both pools of a running graph. Only for the thread that runs it."""

    pools: dict[str, MovablePool]
    states: dict[str, Any]

    @classmethod
    def of(cls, executor: Any) -> "Pools | None":
        """Take over the pools of an execution; None where it is not one of the cascade."""
        topology = executor._topology.items()
        states = {_STAGES[op.name]: state for op, state in topology if op.name in _STAGES}
        if len(states) < len(_STAGES):
            return None
        for state in states.values():
            if lost := lacks(state.op._actor_pool):
                raise LookupError(f"a pool of this Ray has no {', '.join(lost)}")
        for state in states.values():
            state.op._actor_pool = MovablePool.taking_over(state.op._actor_pool)
        return cls({role: state.op._actor_pool for role, state in states.items()}, states)

    def let_go(self) -> None:
        """See MovablePool."""
        for pool in self.pools.values():
            pool.let_go()

    def stay(self) -> None:
        """See MovablePool."""
        for pool in self.pools.values():
            pool.stay()

    def views(self) -> dict[str, PoolView]:
        """By role."""
        found = {}
        for role, pool in self.pools.items():
            state = self.states[role]
            queued = state.total_enqueued_input_blocks()
            done = state.op.has_completed() or (state.op._inputs_complete and not queued)
            found[role] = pool.view(queued, bool(done))
        return found

    def leave(self, role: str, names: Sequence[str]) -> None:
        """See MovablePool."""
        self.pools[role].leave(names)

    def grow(self, role: str, by: int) -> None:
        """Ask for more actors."""
        self.pools[role].size += by


def lacks(pool: Any) -> list[str]:
    """What a pool of this Ray has no more of what is needed here; empty as a rule."""
    names = (*ATTRIBUTES, *METHODS)
    lost = [name for name in names if not hasattr(pool, name)]
    if "_update_rank" in lost:
        return lost
    arguments = list(inspect.signature(pool._update_rank).parameters)
    return lost if arguments == RANKED else [*lost, f"_update_rank({', '.join(RANKED)})"]


def name_of(actor: Any) -> str:
    """The id of an actor, as the replica itself knows it."""
    return str(actor._actor_id.hex())


def has_ended(name: str) -> bool:
    """Whether an actor's process is gone for good, or on its way out with nothing left to do."""
    from ray._private.state import actors

    return str((actors(name) or {}).get("State", _DEAD)) == _DEAD


class Watcher(Protocol):
    """Who wants to see the pools of a run, and may change them."""

    def step(self, pools: Pools, /) -> None:
        """Called a few times a second, in Ray's thread."""
        ...

    def give_up(self, why: str, /) -> None:
        """It will not be called any more."""
        ...


_WATCHERS: dict[str, Watcher] = {}
"""Of this process, by run: Ray makes callbacks itself, from a class without arguments, and sends
the context that names it to every worker."""


def watch(context: DataContext, run_id: str, watcher: Watcher) -> None:
    """Have the executions of a dataset call a watcher.

    Args:
        context: of the dataset.
        run_id: that names the watcher.
        watcher: is called.
    """
    _WATCHERS[run_id] = watcher
    others = context.custom_execution_callback_classes
    if BalanceCallback not in others:
        context.custom_execution_callback_classes = [*others, BalanceCallback]
    context.set_config(_KEY, run_id)


def forget(run_id: str) -> None:
    """The run is over."""
    _WATCHERS.pop(run_id, None)


class BalanceCallback(ExecutionCallback):
    """Ray's way to a watcher; one for every execution of a dataset."""

    def __init__(self) -> None:
        self._watcher: Watcher | None = None
        self._pools: Pools | None = None
        self._called = 0.0

    def before_execution_starts(self, executor: Any) -> None:
        """Take over the pools, if they are those of a balanced run."""
        self._watcher = _WATCHERS.get(executor._data_context.get_config(_KEY, ""))
        if self._watcher is None:
            return
        try:
            self._pools = Pools.of(executor)
        except Exception as error:  # whatever Ray has become; the graph itself goes on
            self._watcher.give_up(f"not with Ray {ray.__version__} ({error})")
            return
        # Another execution of the same dataset, as one that only reads, has no pools at all.
        if self._pools is None and any(hasattr(op, "_actor_pool") for op in executor._topology):
            self._watcher.give_up(f"Ray {ray.__version__} shows no {' and '.join(_STAGES)}")

    def on_execution_step(self, executor: Any) -> None:  # noqa: ARG002
        """Let go who has finished; a few times a second, let the watcher see and do."""
        if self._watcher is None or self._pools is None:
            return
        try:
            self._pools.let_go()
            if time.monotonic() - self._called >= _EVERY_S:
                self._called = time.monotonic()
                self._watcher.step(self._pools)
        except Exception as error:  # whatever Ray has become; the graph itself goes on
            logger.warning("the balance failed", exc_info=error)
            self._watcher.give_up(f"{type(error).__name__}: {error}")
            self._leave_as_it_is()

    def _leave_as_it_is(self) -> None:
        pools, self._pools = self._pools, None
        try:
            if pools:
                pools.stay()
        except Exception as error:
            logger.warning("replicas that were about to leave stay without work", exc_info=error)
