import tracemalloc
from collections import Counter

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ids import Spill, compare, hashes_of, named_by, names_of
from tests.pipeline.outputs import expected

names = st.lists(st.text(max_size=3), max_size=30)


@settings(max_examples=30)  # each makes 128 files
@given(names, names)
def test_a_comparison_is_that_of_multisets(some: list[str], found: list[str]) -> None:
    wanted = sorted(set(some))
    with expected(wanted) as one, expected(found) as other:
        difference = compare(one, other)
    counts = Counter(found)
    assert difference.missing == sum(name not in counts for name in wanted)
    assert difference.doubled == sum(max(0, counts[name] - 1) for name in wanted)
    assert difference.foreign == sum(n for name, n in counts.items() if name not in set(wanted))
    assert bool(difference) == (sorted(found) != wanted)


def test_examples_name_the_ids() -> None:
    wanted, found = [f"r{i}" for i in range(50)], [f"r{i}" for i in range(10, 50)]
    found += ["r10", "r11", "strange"]
    with expected(wanted) as one, expected(found) as other:
        examples = compare(one, other, named=2).examples
    chunks = [pa.array(found)]
    assert sorted(names_of(examples["doubled"], chunks)) == ["r10", "r11"]
    assert names_of(examples["foreign"], chunks) == ["strange"]
    assert len(examples["missing"]) == 2


def test_ids_that_occur_twice_are_known_by_their_hash() -> None:
    with expected(["a", "b", "a", "c"]) as spill:
        assert spill.twice() == {int(hashes_of(["a"])[0])}
        assert spill.repeated(5) == (1, spill.twice())


def test_some_of_those_that_occur_twice_are_named_as_often_as_they_do() -> None:
    found = [f"r{i}" for i in range(50)] + [f"r{i}" for i in range(20)]
    with expected(found) as spill:
        count, some = spill.repeated(3)
    assert (count, len(some)) == (20, 3)
    again = Counter(named_by(some, [pa.array(found[:30]), pa.array(found[30:])]))
    assert set(again.values()) == {2}
    assert set(again) <= {f"r{i}" for i in range(20)}


def test_memory_does_not_grow_with_the_ids() -> None:
    peaks = []
    for blocks in (4, 40):
        with Spill() as one, Spill() as other:
            tracemalloc.start()
            for block in range(blocks):
                ids = pa.array([f"{block}-{i}" for i in range(1000)])
                one.add(ids)
                other.add(ids)
            assert not compare(one, other)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
