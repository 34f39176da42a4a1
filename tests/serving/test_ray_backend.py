"""What the backend knows of the pools, while Ray Serve takes its time to tell."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from serving import ray_backend
from serving.backend import PoolState
from serving.ray_backend import APPLICATION, PoolStates


class Teller:
    """Stands for `serve.status`: answers once it may."""

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas
        self.may = threading.Event()
        self.may.set()

    def __call__(self) -> SimpleNamespace:
        assert self.may.wait(10)
        small = SimpleNamespace(replica_states={"RUNNING": self.replicas})
        return SimpleNamespace(
            applications={APPLICATION: SimpleNamespace(deployments={"small": small})}
        )


@pytest.fixture
def teller(monkeypatch: pytest.MonkeyPatch) -> Teller:
    one = Teller(replicas=1)
    monkeypatch.setattr(ray_backend.serve, "status", one)
    return one


def test_a_request_goes_by_what_was_known_while_it_is_asked_anew(
    teller: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        states = PoolStates({"small": 2})
        assert (await states.lately())["small"] == PoolState(1, 2)
        monkeypatch.setattr(ray_backend, "_POLL_S", -1.0)
        teller.replicas = 0
        teller.may.clear()
        assert (await states.lately())["small"].replicas == 1
        teller.may.set()
        assert (await states.now())["small"].replicas == 0
        assert (await states.lately())["small"].replicas == 0

    asyncio.run(main())


def test_what_is_old_is_not_gone_by(teller: Teller, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        states = PoolStates({"small": 2})
        await states.lately()
        monkeypatch.setattr(ray_backend, "_POLL_S", -1.0)
        monkeypatch.setattr(ray_backend, "_STALE_S", -1.0)
        teller.replicas = 2
        assert (await states.lately())["small"].replicas == 2

    asyncio.run(main())
