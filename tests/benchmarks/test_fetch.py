from benchmarks import fetch


def test_it_runs_to_its_table() -> None:
    rows = fetch.measure(sides=(64,), rows=3)
    assert rows[0]["pixel_bytes"] == 3 * 64 * 64 * 3
    assert "3 x 64^2" in fetch.report(rows)


def test_a_block_in_several_tables_needs_less_than_its_pixels() -> None:
    (row,) = fetch.measure(sides=(1024,), rows=128)
    assert 64 << 20 < row["peak_bytes"] < row["pixel_bytes"]
