"""A sample of the input: random, of the size asked for, and the same wherever it is drawn."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from pipeline.config import InputConfig
from pipeline.draw import Lowest, hashes_of
from pipeline.source import Source, drawn, open_source
from tests.pipeline.inputs import checked_ids, records, write_parquet


def source_of(path: Path, **settings: object) -> Source:
    return drawn(open_source(InputConfig.model_validate({"path": str(path), **settings})))


def ids_of(source: Source) -> list[str]:
    tables = (table for part in source.parts for table in source.tables(part))
    return [name for table in tables for name in table["id"].to_pylist()]


@pytest.mark.parametrize(("size", "expected"), [(1, 1), (7, 7), (40, 40), (41, 40)])
def test_as_many_as_asked_for_and_the_check_of_ids_sees_the_same(
    size: int, expected: int, tmp_path: Path
) -> None:
    path = write_parquet(tmp_path / "in.parquet", records(40), row_group_size=9)
    source = source_of(path, sample=size)
    ids = ids_of(source)
    assert len(set(ids)) == len(ids) == source.rows == expected
    assert checked_ids(source) == ids
    assert ids == sorted(ids)


def test_a_sample_does_not_depend_on_the_files(tmp_path: Path) -> None:
    whole = write_parquet(tmp_path / "whole.parquet", records(40))
    parts = tmp_path / "parts"
    parts.mkdir()
    table = pa.table(records(40))
    for number, start in enumerate((20, 0)):
        columns = table.slice(start, 20).to_pydict()
        write_parquet(parts / f"{number}.parquet", columns, row_group_size=3)
    assert sorted(ids_of(source_of(whole, sample=12))) == sorted(
        ids_of(source_of(parts, sample=12))
    )


def test_another_seed_draws_others_and_a_larger_sample_holds_a_smaller_one(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", records(200))
    first, other = (set(ids_of(source_of(path, sample=50, sample_seed=seed))) for seed in (0, 1))
    assert first != other
    assert len(first & other) < 30
    assert first < set(ids_of(source_of(path, sample=80)))


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_that_nothing_can_be_drawn_by_are_refused(seed: int) -> None:
    with pytest.raises(ValidationError, match="sample_seed"):
        InputConfig(path="in", sample_seed=seed)


def test_a_limit_comes_first(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", records(40))
    assert set(ids_of(source_of(path, sample=10, limit=15))) <= {f"r{i:04d}" for i in range(15)}


def test_every_record_is_drawn_as_often_as_any_other() -> None:
    names = pa.chunked_array([[f"r{i}" for i in range(50)]])
    counts = np.zeros(50)
    for seed in range(400):
        lowest = Lowest(10)
        lowest.add(hashes_of(names, seed))
        counts += lowest.draw(seed).chosen(names)
    assert counts.sum() == 4000
    # 80 each, with a standard deviation of 8.
    assert np.abs(counts - 80).max() < 40
