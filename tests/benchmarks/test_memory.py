"""The benchmark's arithmetic and its figure; and the pipeline over a store that is too small."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks import memory, memory_plot
from benchmarks.fresh import Fresh
from benchmarks.memory_run import PICTURE_BYTES, run, write_records

MIB = 1 << 20


def row(records: int, **peaks: int) -> memory.Row:
    mebibytes = {"driver": 200, "worker": 100, "ray": 1000, "store": 100, "spilled": 0}
    return {
        "records": records,
        **{name: size * MIB for name, size in mebibytes.items()},
        "store_size": 512 * MIB,
        "picture_bytes": PICTURE_BYTES,
        "workers": 9,
        "ray_by_kind": {"workers": 900 * MIB, "gcs": 50 * MIB},
        "wall_s": 1.0,
        **peaks,
    }


def test_flat_is_the_peak_of_ten_thousand_and_an_allowance() -> None:
    rows = [row(1_000, driver=1), row(10_000), row(50_000, driver=235 * MIB, ray=1117 * MIB)]
    assert memory.is_flat(rows, "driver")
    assert not memory.is_flat(rows, "ray")
    assert memory.is_flat(rows, "store")
    assert not memory.is_flat([row(10_000), row(50_000, spilled=1)], "store")
    told = memory.report(rows)
    assert "ray: NOT flat" in told
    assert "driver: flat" in told


def test_records_have_ids_and_few_distinct_pictures(tmp_path: Path) -> None:
    write_records(3000, tmp_path / "in.parquet")
    table = pq.read_table(tmp_path / "in.parquet")
    assert len(set(table["id"].to_pylist())) == len(table) == 3000
    assert len(set(table["image"].to_pylist())) == 32
    assert (tmp_path / "in.parquet").stat().st_size < MIB


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is of the evaluate extra")
    result = {"rows": [row(1_000), row(10_000), row(50_000)]}
    (tmp_path / "memory.json").write_text(json.dumps(result))
    memory_plot.draw(result, tmp_path / "figures" / "memory.png")
    assert (tmp_path / "figures" / "memory.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.ray
@pytest.mark.slow
def test_more_pictures_than_the_store_holds_are_not_spilled(tmp_path: Path) -> None:
    records, store = 1200, 160 * MIB
    assert records * PICTURE_BYTES > store
    write_records(records, tmp_path / "in.parquet")
    told = Fresh(run, tmp_path / "in.parquet", store).result()
    assert max(look.spilled for _, look in told.looks) == 0
    assert 0 < max(look.used for _, look in told.looks) <= store
