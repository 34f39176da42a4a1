"""The curve and the comparison hang together; their figures are of `benchmarks/results`."""

from pathlib import Path

import numpy as np
import pytest

from actors.large_vlm import GuidedQuestion
from benchmarks.record import write_result
from benchmarks.scaling import SAMPLE, VARIANTS, draw, measure
from benchmarks.simulation import compared, foretold, report
from benchmarks.simulation_runs import KINDS, Configuration, Kind, Pair, Ran, read_pairs
from benchmarks.sleeping_models import Sleep, SleepingLarge, SleepingSmall, score_of
from pipeline.plan.measured import measured
from sgl.types import Failure, ImageQuestion

SCORES = tuple(i / 100 for i in range(100))


def ran(one: Configuration, records: int = 100, stream_s: float = 1.0) -> Ran:
    return Ran(
        configuration=one,
        records=records,
        stream_s=stream_s,
        measured=measured(str(SAMPLE)),
        scores=SCORES,
        others_cores=0.1,
    )


PROBE = ran(Configuration("probe"))


def test_the_curve_grows_until_the_driver_stops_it(tmp_path: Path) -> None:
    rows = measure(VARIANTS[:1], (1, 8, 1000))
    planned = [row["planned_per_s"] for row in rows]
    assert planned == sorted(planned)
    assert rows[-1]["bottleneck"] == "driver"
    assert planned[-1] <= VARIANTS[0].rows_per_block / VARIANTS[0].driver_s
    for row in rows:
        assert row["simulated_per_s"] == pytest.approx(row["planned_per_s"], rel=0.15)
    draw(rows, tmp_path / "figures" / "scaling.png")
    assert (tmp_path / "figures" / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_is_foretold_from_the_probe() -> None:
    """The large model is the slower one: it takes the seconds that the probe has of it."""
    large = PROBE.measured.large
    assert large is not None
    each = sum(large.seconds) / sum(large.rows)
    (half, *_), (every, low, high) = (
        foretold(PROBE, Configuration("", threshold=t), 1200) for t in (0.5, 1.1)
    )
    assert every == pytest.approx(1 / each, rel=0.15)
    assert half > 1.2 * every
    assert low < every < high


def test_an_error_is_of_the_run_that_was_measured() -> None:
    one = Configuration("made")
    simulated_s = 640 / foretold(PROBE, one, 640)[0]
    run = ran(one, 640, simulated_s * 1.1)
    pair = Pair(kind="k", round=0, probe=PROBE, run=run)
    row = compared(pair)
    assert row["error"] == pytest.approx(0.1)
    assert "+10.0%" in report([row])


def test_runs_are_read_as_they_were_written(tmp_path: Path) -> None:
    pair = Pair(kind="k", round=0, probe=PROBE, run=ran(Configuration("made", small=2)))
    path = write_result("runs", {}, [pair.model_dump(mode="json")], tmp_path)
    assert read_pairs(path) == [pair]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_configuration_is_a_job_that_fits(kind: Kind, tmp_path: Path) -> None:
    for one in (*kind.configurations, *([kind.probe] if kind.probe else [])):
        job = kind.job(one, tmp_path / "out", tmp_path / "records.parquet")
        assert job.threshold == one.threshold
        assert job.rows_per_block == one.rows_per_block
        assert job.model("large").batch_size == one.batch_rows
        pools = (job.pools.small, job.pools.large)
        assert [pool.replicas for pool in pools] == [one.small, one.large]
        assert sum(pool.replicas * (pool.num_gpus or 0) for pool in pools) <= kind.gpus


def test_a_model_that_sleeps_tells_what_it_slept() -> None:
    sleep = Sleep(fixed_s=0.001, row_s=0.0001, batch_rows=2)
    records = [ImageQuestion(str(i), "?", (np.zeros((2, 2, 3), np.uint8),)) for i in range(5)]
    slept = [seconds for _, seconds in sleep.passes([record.id for record in records])]
    guided = SleepingSmall(sleep).run(records)
    answered = SleepingLarge(sleep).run([GuidedQuestion(record, None) for record in records])
    for results in (guided, answered):
        usages = [one.usage for one in results if not isinstance(one, Failure)]
        assert [usage.batch_records for usage in usages] == [2, 2, 2, 2, 1]
        assert sum(usage.device_s for usage in usages) == pytest.approx(sum(slept))


def test_scores_are_spread_evenly() -> None:
    scores = [score_of(f"heldout-{i}") for i in range(2000)]
    for share in (0.1, 0.5, 0.9):
        assert np.mean(np.asarray(scores) < share) == pytest.approx(share, abs=0.04)


def test_records_that_score_low_take_no_longer() -> None:
    sleep = Sleep(fixed_s=0.0, row_s=1.0, batch_rows=1)
    ids = [f"heldout-{i}" for i in range(4000)]
    took = np.array([seconds for _, seconds in sleep.passes(ids)])
    low = np.array([score_of(name) < 0.1 for name in ids])
    assert took[low].mean() == pytest.approx(took[~low].mean(), rel=0.06)
    assert took.mean() == pytest.approx(1.0, rel=0.03)
