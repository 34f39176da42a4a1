import logging
import threading
from types import ModuleType
from typing import Any

import pytest
import ray

from pipeline.balance import balancer as module
from pipeline.balance.balancer import Balancer, gpus_of_nodes
from pipeline.balance.flow import Flow
from pipeline.balance.splits import Limits, Share
from pipeline.balance.views import Actor, PoolView
from tests.pipeline.inputs import job_of


class Quiet:
    """A board and a ledger that know nothing."""

    def flow(self) -> Flow | None:
        return None

    def times(self) -> None:
        return None

    def gpus(self) -> None:
        return None

    def came(self, name: str, role: str) -> None:
        """Nobody asks."""

    def left(self, name: str) -> None:
        """Nobody asks."""


class SmallAlone:
    """Pools as Ray's thread tells of them."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def views(self) -> dict[str, PoolView]:
        actors = tuple(Actor(name, "node", 0, ready=True) for name in self.names)
        return {"small": PoolView(actors, len(actors), 0, fed=False)}


def balancer_of(board: Any) -> Balancer:
    job = job_of("in.jsonl", "out", pools={"small": {"replicas": 2}, "balance": True})
    limits = Limits(Share(1, 1, 2), Share(1, 1, 2), 3, on_gpus=False)
    return Balancer("run", job, limits, 100, board, board, lambda line: None)


def test_a_process_is_asked_after_while_the_books_are_open_to_others() -> None:
    balancer = balancer_of(Quiet())
    asked: list[tuple[str, bool]] = []

    def has_ended(name: str) -> bool:
        asked.append((name, balancer._lock.locked()))
        return True

    other = ModuleType("other")
    other.__dict__["has_ended"] = has_ended
    balancer._ray = other
    for names in ("ab", "a", "a"):
        balancer.step(SmallAlone(*names))
        balancer._look()
    assert asked == [("b", False)]
    assert balancer.record().held["small"] == 1


def test_what_it_cannot_see_again_and_again_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Gone(Quiet):
        calls = 0

        def flow(self) -> Flow | None:
            self.calls += 1
            if self.calls == 4:
                balancer._over.set()
            raise RuntimeError("no board" if self.calls < 4 else "no ledger")

    balancer = balancer_of(Gone())
    balancer.step(SmallAlone("a"))
    monkeypatch.setattr(module, "_LOOKS_EVERY_S", 0.0)
    with caplog.at_level(logging.WARNING):
        balancer._work()
    said = [one.exc_info[1] for one in caplog.records if one.exc_info]
    assert [str(one) for one in said] == ["no board", "no ledger"]


def test_a_look_that_hangs_does_not_hold_up_the_end_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, free = threading.Event(), threading.Event()

    class Hangs(Quiet):
        def flow(self) -> Flow | None:
            begun.set()
            free.wait()
            return None

    monkeypatch.setattr(module, "_LOOKS_EVERY_S", 0.0)
    monkeypatch.setattr(module, "_PATIENCE_S", 0.0)
    balancer = balancer_of(Hangs())
    balancer.step(SmallAlone("a"))
    with balancer:
        begun.wait()
    assert balancer._thread.is_alive()
    free.set()


def test_only_nodes_that_the_pools_may_be_on_have_gpus_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def node(name: str, alive: bool = True, **labels: str) -> dict[str, object]:
        return {"NodeID": name, "Alive": alive, "Resources": {"GPU": 4.0}, "Labels": labels}

    here = [node("a", zone="x"), node("b", zone="y"), node("c", alive=False, zone="x"), node("d")]
    monkeypatch.setattr(ray, "nodes", lambda: here)
    assert gpus_of_nodes({"zone": "x"}) == {"a": 4.0}
    assert gpus_of_nodes({}) == {"a": 4.0, "b": 4.0, "d": 4.0}
