"""All facts of an output that was made by hand, against sums over its rows."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.report.gathering import facts_of
from sgl.errors import ConfigurationError
from tests.pipeline.report.made import PRICE, THRESHOLD, failed, probe, rows, write_output


def test_the_facts_are_those_of_the_rows(tmp_path: Path) -> None:
    some = [*rows(350), *(failed(n) for n in range(5))]
    facts = facts_of(str(write_output(tmp_path / "out", some)), gallery=3)
    spent = {role: sum(one.get(f"{role}_gpu_s", 0) for one in some) for role in ("small", "large")}
    right = sum(one.get("answer") == "right" for one in some)
    assert (facts.name, facts.state, facts.summary.records) == ("out", "unfinished", 355)
    assert facts.quality.overall is not None
    assert facts.quality.overall.value == pytest.approx(right / 355)
    assert facts.quality.by_route["small"].value != facts.quality.small
    money = facts.money
    usd = sum(spent.values()) * PRICE / 3600
    assert money.rows_usd == pytest.approx(usd)
    assert money.per_1k_records is not None
    assert money.per_1k_records["large"] == pytest.approx(
        spent["large"] * PRICE / 3600 / 355 * 1000
    )
    for role, pool in money.pools.items():
        assert pool.adds_up
        assert pool.parts_s["rows"] == pytest.approx(spent[role])
        assert sum(pool.parts_s.values()) == pytest.approx(pool.pool_s)
    assert money.pools_usd is not None
    assert money.per_correct == pytest.approx(money.pools_usd / right)
    assert sum(money.per_1k_records.values()) == pytest.approx(money.pools_usd / 355 * 1000)
    assert money.priced_on == "2026-01-01"
    own = next(one for one in facts.points if one.threshold == THRESHOLD)
    assert own.quality == facts.quality.overall
    assert {kind: len(of) for kind, of in facts.samples.items()} == dict.fromkeys(
        ("rescued", "lost", "exited", "escalated"), 3
    )
    json.dumps(facts.plain(), allow_nan=False)


def test_large_only_is_modelled_as_a_range_unless_it_was_measured(tmp_path: Path) -> None:
    some = rows(200)
    modelled = facts_of(str(write_output(tmp_path / "a", some))).money.large_only
    assert modelled is not None
    assert modelled.basis == "modelled"
    # 64 visual tokens of 105, 60 % of whose work was pruned away.
    assert modelled.flops[1] / modelled.flops[0] == pytest.approx(105 / (105 - 0.6 * 64))
    for one in some[::4]:
        one["probe"] = probe("right")
    measured = facts_of(
        str(write_output(tmp_path / "b", some, probe={"share": 0.25}))
    ).money.large_only
    assert measured is not None
    assert (measured.basis, measured.records) == ("measured", 50)
    assert measured.flops == (2e10, 2e10)
    assert measured.saved_flops is not None


def test_columns_that_an_older_version_did_not_write_are_left_out(tmp_path: Path) -> None:
    folder = write_output(tmp_path, rows(120))
    gone = ["small_flops", "large_flops", "small_batch_rows", "large_batch_rows", "cost_usd"]
    for path in (folder / "rows").glob("*.parquet"):
        pq.write_table(pq.read_table(path).drop(gone), path)
    facts = facts_of(str(folder))
    assert facts.summary.records == 120
    assert facts.money.rows_usd is None
    assert facts.money.per_1k_records is None
    assert facts.latency["escalated"].percentiles["p50"] == pytest.approx(4, rel=0.02)


def test_without_records_of_its_time_an_output_has_no_pools(tmp_path: Path) -> None:
    folder = write_output(tmp_path, rows(50))
    next((folder / "runs").iterdir()).unlink()
    money = facts_of(str(folder)).money
    assert money.pools == {}
    assert len(money.without_record) == 1
    assert money.pools_usd is None
    assert money.per_1k_records is not None


def test_one_model_alone_has_no_threshold(tmp_path: Path) -> None:
    some = [one | {"threshold": None} for one in rows(50) if one["route"] == "small"]
    facts = facts_of(str(write_output(tmp_path, some, mode="small")))
    assert facts.points == []
    assert facts.retention is None
    assert facts.settings.large.path is None


def test_what_cannot_be_reported_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no output of sgl run"):
        facts_of(str(tmp_path))
    with pytest.raises(ConfigurationError, match="no metric 'bleu'"):
        facts_of(str(write_output(tmp_path, rows(3))), metric="bleu")
