import pytest

from pipeline.joining import Nodes, awaited
from sgl.errors import ConfigurationError


class Cluster:
    """Whose nodes join one a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def nodes(self) -> Nodes:
        return [{"Alive": True}] * int(self.now)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def three(nodes: Nodes) -> int:
    if len(nodes) < 3:
        raise ConfigurationError(f"there are {len(nodes)}")
    return len(nodes)


def never(nodes: Nodes) -> None:
    raise ConfigurationError(f"there are {len(nodes)}")


def test_nodes_that_join_in_time_are_waited_for() -> None:
    cluster = Cluster()
    said: list[str] = []
    found = awaited(three, cluster.nodes, 10, said.append, lambda: cluster.now, cluster.sleep)
    assert 3 <= found <= 5
    assert said == ["waiting 10 s at most for nodes to join: there are 0"]


def test_a_long_wait_is_told_every_minute_with_what_is_left_of_it() -> None:
    cluster = Cluster()
    said: list[str] = []
    with pytest.raises(ConfigurationError, match="there are 150"):
        awaited(never, cluster.nodes, 150, said.append, lambda: cluster.now, cluster.sleep)
    assert [line.partition(" s at most")[0] for line in said] == [
        f"waiting {left}" for left in (150, 90, 30)
    ]


@pytest.mark.parametrize("wait_s", [0, 2])
def test_nodes_that_do_not_are_refused_as_ever(wait_s: float) -> None:
    cluster = Cluster()
    with pytest.raises(ConfigurationError, match="there are"):
        awaited(three, cluster.nodes, wait_s, str, lambda: cluster.now, cluster.sleep)
    assert cluster.now <= wait_s
