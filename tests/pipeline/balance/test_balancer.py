import pytest
import ray

from pipeline.balance.balancer import gpus_of_nodes


def test_only_nodes_that_the_pools_may_be_on_have_gpus_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def node(name: str, alive: bool = True, **labels: str) -> dict[str, object]:
        return {"NodeID": name, "Alive": alive, "Resources": {"GPU": 4.0}, "Labels": labels}

    here = [node("a", zone="x"), node("b", zone="y"), node("c", alive=False, zone="x"), node("d")]
    monkeypatch.setattr(ray, "nodes", lambda: here)
    assert gpus_of_nodes({"zone": "x"}) == {"a": 4.0}
    assert gpus_of_nodes({}) == {"a": 4.0, "b": 4.0, "d": 4.0}
