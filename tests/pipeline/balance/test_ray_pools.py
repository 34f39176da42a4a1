"""What we need of Ray's insides is there, and does what we take it to do."""

import inspect
from collections.abc import Sequence
from typing import Any

import pytest
from ray.data._internal.actor_autoscaler.autoscaling_actor_pool import AutoscalingActorConfig
from ray.data._internal.execution.interfaces.execution_options import ExecutionResources
from ray.data._internal.execution.operators import actor_pool_map_operator as operators
from ray.data.context import DataContext

from pipeline.balance.ray_pools import BalanceCallback, MovablePool, Pools, forget, lacks, watch

TOLD = "Ray's actor pools have changed: adapt pipeline/balance/ray_pools.py"


class Id:
    def __init__(self, name: str) -> None:
        self.name = name

    def hex(self) -> str:
        return self.name


class Handle:
    """Of an actor that is alive."""

    def __init__(self, name: str) -> None:
        self._actor_id = Id(name)

    def _get_local_state(self) -> int:
        return int(operators._ACTOR_STATE_ALIVE)


def ray_pool(size: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Of running actors, without a Ray."""
    made = iter(range(100))

    def create(labels: dict[str, str], logical: str) -> tuple[Any, Any, Any]:
        number = next(made)
        return Handle(f"a{number}"), f"ref{number}", ExecutionResources(gpu=1)

    config = AutoscalingActorConfig(
        min_size=size,
        max_size=size,
        initial_size=size,
        max_tasks_in_flight_per_actor=2,
        max_actor_concurrency=1,
        per_actor_resource_usage=ExecutionResources(gpu=1),
    )
    monkeypatch.setattr(operators.ray, "get", lambda ref: "node")
    monkeypatch.setattr(operators, "get_draining_nodes", dict)
    monkeypatch.setattr(operators, "get_actor_locations", lambda names: {})
    pool = operators._NodeAwareActorPool(create, config)
    for _ in range(size):
        pool._add_pending_actor(*pool._create_actor())
    for ref in pool.get_pending_actor_refs():
        pool.pending_to_running(ref)
    return pool


def test_ray_has_what_we_need(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ray_pool(1, monkeypatch)
    assert lacks(pool) == [], TOLD
    arguments = list(inspect.signature(type(pool)._update_rank).parameters)
    assert arguments == ["self", "actor", "state", "died"], TOLD
    assert "custom_execution_callback_classes" in DataContext.__dataclass_fields__, TOLD


def test_one_that_leaves_gets_no_task_and_goes_when_it_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = MovablePool.taking_over(ray_pool(2, monkeypatch))
    first, second = pool._running_actors
    pool.on_task_submitted(first)
    pool.leave(["a0"])
    pool.refresh_actor_state()
    assert pool.min_size() == pool.max_size() == 1
    assert pool.select_actors() is second
    pool.let_go()
    assert pool.current_size() == 2  # it still works
    pool.on_task_completed(first)
    pool.refresh_actor_state()
    assert pool.select_actors() is second
    pool.let_go()
    assert list(pool._running_actors) == [second]
    assert pool.leaving == set()


def test_one_that_restarts_is_told_from_one_that_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = MovablePool.taking_over(ray_pool(3, monkeypatch))
    first, _, _ = pool._running_actors
    pool._running_actors[first].is_restarting = True
    pool.leave(["a1"])
    seen = {one.name: (one.ready, one.restarting) for one in pool.view(0, fed=False).actors}
    assert seen == {"a0": (False, True), "a1": (False, False), "a2": (True, False)}


def test_rays_own_rules_take_nobody_while_one_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = MovablePool.taking_over(ray_pool(2, monkeypatch))
    first, _ = pool._running_actors
    pool.on_task_submitted(first)
    pool.leave(["a0"])
    down = operators.ActorPoolScalingRequest.downscale(delta=-1, reason="pool exceeding max size")
    pool.scale(down)
    assert pool.current_size() == 2
    assert {one.name: one.ready for one in pool.view(0, fed=False).actors} == {
        "a0": False,
        "a1": True,
    }


def test_behind_the_end_of_the_input_ray_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = MovablePool.taking_over(ray_pool(2, monkeypatch))
    for _ in range(2):
        pool.scale(operators.ActorPoolScalingRequest.downscale(delta=-1, force=True, reason="end"))
    assert pool.current_size() == 0


class Watching:
    def __init__(self) -> None:
        self.why = ""

    def step(self, pools: Pools) -> None:
        raise RuntimeError("never mind")

    def give_up(self, why: str) -> None:
        self.why = why


class Executor:
    def __init__(self, context: DataContext, topology: dict[Any, Any]) -> None:
        self._data_context = context
        self._topology = topology


class Op:
    def __init__(self, name: str, pool: Any) -> None:
        self.name = name
        self._actor_pool = pool


class State:
    def __init__(self, op: Op) -> None:
        self.op = op


def executor_of(
    pool: Any, watcher: Watching, names: Sequence[str] = ("SmallStage", "LargeStage")
) -> Executor:
    context = DataContext()
    watch(context, "run", watcher)
    ops = [Op(f"MapBatches({name})", pool) for name in names]
    return Executor(context, {op: State(op) for op in ops})


def test_with_another_ray_the_pools_keep_their_sizes() -> None:
    watcher = Watching()
    callback = BalanceCallback()
    callback.before_execution_starts(executor_of(object(), watcher))
    callback.on_execution_step(None)
    forget("run")
    assert "_running_actors" in watcher.why


def test_a_pool_that_ranks_its_actors_in_another_way_is_not_touched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = ray_pool(1, monkeypatch)
    monkeypatch.setattr(pool, "_update_rank", lambda actor, state: None)
    assert lacks(pool) == ["_update_rank(actor, state, died)"]


def test_stages_that_are_not_found_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watching()
    pool = ray_pool(1, monkeypatch)
    BalanceCallback().before_execution_starts(executor_of(pool, watcher, ["Fused(SmallStage)"]))
    assert "shows no MapBatches(SmallStage) and MapBatches(LargeStage)" in watcher.why
    watcher.why = ""
    BalanceCallback().before_execution_starts(executor_of(pool, watcher, []))  # only reads
    forget("run")
    assert watcher.why == ""


def test_whatever_ray_has_become_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ray_pool(1, monkeypatch)
    monkeypatch.setattr(pool, "initial_size", lambda: 1 / 0)
    watcher = Watching()
    BalanceCallback().before_execution_starts(executor_of(pool, watcher))
    forget("run")
    assert "division by zero" in watcher.why


def test_callbacks_of_others_stay() -> None:
    class Other(BalanceCallback):
        pass

    context = DataContext()
    context.custom_execution_callback_classes = [Other]
    for _ in range(2):
        watch(context, "run", Watching())
    forget("run")
    assert context.custom_execution_callback_classes == [Other, BalanceCallback]


def test_those_that_were_about_to_leave_stay_once_it_has_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = ray_pool(2, monkeypatch)
    executor = executor_of(pool, Watching())
    callback = BalanceCallback()
    callback.before_execution_starts(executor)
    taken = next(iter(executor._topology.values())).op._actor_pool
    busy, idle = taken._running_actors
    taken.on_task_submitted(busy)
    taken.leave(["a0"])
    callback.on_execution_step(None)  # fails
    forget("run")
    assert (taken.leaving, taken.min_size(), taken.max_size()) == (set(), 2, 2)
    taken.on_task_completed(busy)
    taken.on_task_submitted(idle)
    taken.refresh_actor_state()
    assert taken.select_actors() is busy


def test_what_goes_wrong_while_it_looks_does_not_end_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher = Watching()
    callback = BalanceCallback()
    callback.before_execution_starts(executor_of(ray_pool(1, monkeypatch), watcher))
    callback.on_execution_step(None)
    callback.on_execution_step(None)
    forget("run")
    assert watcher.why == "RuntimeError: never mind"
