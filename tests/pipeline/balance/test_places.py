from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from pipeline.balance.places import Replica, swap
from pipeline.balance.splits import Limits, Share


def limits(small: float, large: float, devices: float = 64) -> Limits:
    return Limits(Share(small, 1, 99), Share(large, 1, 99), devices)


def on(node: str, gpus: str, role: str = "small", in_hand: int = 0) -> Replica:
    name = f"{role}-{node}-{gpus}-{in_hand}"
    return Replica(name, role, node, tuple(gpus), in_hand)


def test_gpus_of_one_node_go_together() -> None:
    """Two of them are on another node, where a large replica of four would find no place."""
    here = [on("a", gpu) for gpu in "01"] + [on("b", gpu) for gpu in "0123"]
    found = swap(here, limits(1, 4), "large", 1, 4, {"a": 4, "b": 4})
    assert found.room == 1
    assert sorted(found.leavers) == [one.name for one in here[:2]]  # the other two are free
    found = swap(here, limits(1, 4), "large", 1, 1, {"a": 4, "b": 4})
    assert (found.leavers, found.room) == ((), 0)


def test_all_that_share_a_gpu_go_together() -> None:
    shared = [on("a", "0", in_hand=n) for n in range(4)] + [on("a", "1", in_hand=n) for n in (5, 6)]
    large = [on("a", "23", role="large")]
    found = swap([*shared, *large], limits(0.25, 1), "large", 1, 4, {"a": 4})
    assert sorted(found.leavers) == ["small-a-1-5", "small-a-1-6"]


def test_a_large_replica_makes_room_for_many_small_ones() -> None:
    here = [on("a", "0123", role="large"), on("b", "0123", role="large", in_hand=9)]
    found = swap(here, limits(0.25, 4), "small", 16, 1, {"a": 4, "b": 4})
    assert found.leavers == (here[0].name,)
    assert found.room == 16


def test_those_with_the_least_in_hand_go_first() -> None:
    here = [on("a", str(gpu), in_hand=9 - gpu) for gpu in range(4)]
    found = swap(here, limits(1, 1), "large", 2, 3, {"a": 4})
    assert sorted(found.leavers) == ["small-a-2-7", "small-a-3-6"]


def test_on_the_cpu_any_cores_will_do() -> None:
    here = [on("a", "", in_hand=n) for n in range(3)] + [on("b", "", role="large")]
    found = swap(here, limits(1, 2, devices=5), "large", 1, 2, {})
    assert found.leavers == ("small-a--0", "small-a--1")
    assert found.room == 1


def test_free_devices_need_nobody_to_go() -> None:
    found = swap([on("a", "0")], limits(1, 1), "large", 2, 1, {"a": 3})
    assert (found.leavers, found.room) == ((), 2)


def test_there_is_no_room_beyond_the_devices_of_both_pools() -> None:
    """Whatever else is free on their nodes."""
    here = [on("a", gpu) for gpu in "0123"]
    assert swap(here, limits(1, 1, devices=4), "large", 2, 0, {"a": 16}).room == 0
    found = swap(here, limits(1, 1, devices=4), "large", 2, 3, {"a": 16})
    assert (len(found.leavers), found.room) == (2, 2)
    found = swap(here, limits(1, 2, devices=4), "large", 1, 2, {"a": 7})  # three beside them
    assert (len(found.leavers), found.room) == (2, 1)


def test_a_replica_without_a_place_will_take_one_of_those_that_are_free() -> None:
    lost = Replica("lost", "small", "gone", ("0",))
    here = [on("a", gpu) for gpu in "01"]
    assert swap([*here, lost], limits(1, 1), "large", 4, 0, {"a": 4}).room == 1
    assert swap([*here, on("a", "")], limits(1, 1), "large", 4, 0, {"a": 4}).room == 1
    found = swap([*here, on("a", "")], limits(1, 1), "large", 2, 3, {"a": 4})
    assert found.leavers == (here[0].name,)


@given(st.data(), st.sampled_from([0.25, 0.5, 1.0, 2.0]), st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_there_is_room_where_it_says_so(data: st.DataObject, small: float, large: float) -> None:
    gpus: Mapping[str, float] = {"a": 8, "b": 4}
    here = _placed(data, gpus, small)
    wanted, most = data.draw(st.integers(1, 4)), data.draw(st.integers(0, len(here)))
    found = swap(here, limits(small, large), "large", wanted, most, gpus)
    assert len(found.leavers) <= most
    assert found.room <= wanted
    load = {node: [0.0] * int(count) for node, count in gpus.items()}
    for one in here:
        if one.name not in found.leavers:
            for gpu in one.gpus:
                load[one.node][int(gpu)] += min(1.0, small)
    places = sum(_places(free, large) for free in load.values())
    assert places >= found.room


def _placed(data: st.DataObject, gpus: Mapping[str, float], each: float) -> list[Replica]:
    found = []
    for node, count in gpus.items():
        width = max(1, int(each))
        for first in range(0, int(count), width):
            on_it = data.draw(st.integers(0, max(1, int(1 / each))))
            taken = tuple(str(first + more) for more in range(width))
            found += [
                Replica(f"{node}{first}-{number}", "small", node, taken, number)
                for number in range(on_it)
            ]
    return found


def _places(load: list[float], each: float) -> int:
    if each >= 1:
        return int(sum(used == 0 for used in load) // each)
    return sum(int((1 - used) / each) for used in load)
