from pathlib import Path

from benchmarks import report
from pipeline.report.gathering import facts_of


def test_it_runs_to_its_table() -> None:
    (row,) = report.measure(records=600)
    assert row["files"] == 3
    assert row["html_bytes"] > 1e6
    assert "600" in report.report([row])


def test_its_output_is_like_a_real_one(tmp_path: Path) -> None:
    report.write_output(tmp_path / "out", 2000)
    facts = facts_of(str(tmp_path / "out"))
    assert facts.summary.records == 2000
    assert facts.summary.failed.keys() == {"ImageNotFoundError"}
    assert all(pool.adds_up and pool.parts_s["idle"] > 0 for pool in facts.money.pools.values())
    assert facts.measured is not None
    assert all(one.quality is not None for one in facts.points)
