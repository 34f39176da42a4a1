from datetime import timedelta

import numpy as np
import pytest

from pipeline.report.timeline import Pool, Timeline, Track
from tests.pipeline.report.made import START, chunk, rows

POOLS = {"small": Pool(8, 1.0), "large": Pool(4, 2.0)}


def test_a_track_grows_both_ways_and_loses_nothing() -> None:
    track = Track(0.5)
    rng = np.random.default_rng(1)
    parts = [rng.normal(size=20) * 1000 for _ in range(5)]
    for part in parts:
        track.add(part, np.ones(20))
    steps = np.floor(np.concatenate(parts) / 0.5).astype(int)
    first, last = steps.min() - 3, steps.max() + 3
    expected = np.bincount(steps - first, minlength=last - first + 1)
    assert track.between(first, last).tolist() == expected.tolist()


def test_work_is_spread_evenly_over_its_time() -> None:
    track = Track(1.0)
    track.spread(np.array([0.0, 2.0]), np.array([4.0, 2.2]), np.array([8.0, 3.0]))
    assert np.cumsum(track.between(0, 4)).tolist() == [2, 2, 5, 2, 0]


def test_rates_and_fills_are_those_of_the_rows() -> None:
    some = rows(500)
    timeline = Timeline(500)
    for start in range(0, 500, 128):
        timeline.add(chunk(some[start : start + 128]))
    (series,) = timeline.series(POOLS)
    assert sum(series.rows) == 500
    escalated = sum(one["route"] == "large" for one in some)
    told = sum(n * (share or 0) for n, share in zip(series.rows, series.escalation, strict=True))
    assert told == pytest.approx(escalated, abs=0.1)
    assert {one for one in series.fill["small"] if one is not None} == {1.0}
    busy_s = sum(one or 0 for one in series.busy["large"]) * 2 * series.step_s
    assert busy_s == pytest.approx(sum(one.get("large_gpu_s", 0) for one in some), rel=1e-2)


def test_every_run_has_its_own_time() -> None:
    late = timedelta(days=3)
    some = rows(40)
    again = [
        one | {"run_id": "later"} | {k: v + late for k, v in one.items() if k.endswith("_at")}
        for one in rows(40, seed=2)
    ]
    timeline = Timeline(80)
    timeline.add(chunk(some + again))
    first, second = timeline.series(POOLS)
    assert second.run_id == "later"
    assert second.started_at - first.started_at == pytest.approx(late.total_seconds(), abs=1)
    assert first.started_at == pytest.approx(START.timestamp(), abs=1)
    assert len(first.rows) * first.step_s < 60
