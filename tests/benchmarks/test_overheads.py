"""What goes with a block and what goes with a row are told apart by two sizes of block."""

import pytest

from benchmarks.overheads import driver_load, parts, report


def row(rows: int, driver_s: float) -> dict[str, object]:
    return {
        "blocks": 100,
        "rows_per_block": rows,
        "replicas": 1,
        "blocks_per_s": 5.0,
        "block_cpu_s": {"driver": driver_s},
    }


def test_seconds_are_split_into_those_of_blocks_and_of_rows() -> None:
    block_s, row_s = 0.02, 0.001
    rows = [row(many, block_s + many * row_s) for many in (8, 64)]
    assert parts(rows, "driver") == pytest.approx((block_s, row_s))
    assert "driver: 20.0 ms per block, 1.00 ms per row" in report(rows)


def test_no_seconds_are_below_zero() -> None:
    assert parts([row(8, 0.03), row(64, 0.02)], "driver") == (0.03, 0.0)


def test_what_the_driver_takes_in_any_case_is_no_blocks_fault() -> None:
    rows = [row(8, 0.01 + 0.05 / rate) | {"blocks_per_s": rate} for rate in (2.0, 5.0, 9.0)]
    assert driver_load(rows) == pytest.approx((0.05, 0.01))
