import numpy as np
import pytest

from pipeline.report.latency import Durations, durations_of
from tests.pipeline.report.made import chunk, failed, rows


def test_percentiles_are_right_to_one_percent() -> None:
    seconds = np.random.default_rng(0).lognormal(0.0, 2.0, 20_000)
    durations = Durations()
    for part in np.split(seconds, 8):
        durations.add(part)
    found = durations.latency()
    assert found is not None
    assert found.records == 20_000
    assert found.longest == pytest.approx(seconds.max())
    for percent in (50, 90, 95, 99):
        exact = np.percentile(seconds, percent)
        assert found.percentiles[f"p{percent}"] == pytest.approx(exact, rel=0.015)


def test_none_without_any() -> None:
    durations = Durations()
    durations.add(np.array([np.nan]))
    assert durations.latency() is None


def test_each_kind_of_work_has_its_records() -> None:
    some = [*rows(50), failed(1)]
    found = {kind: values[~np.isnan(values)] for kind, values in durations_of(chunk(some)).items()}
    large = sum(one["route"] == "large" for one in some)
    assert len(found["small"]) == 50
    assert found["exited"].tolist() == [1.0] * (50 - large)
    assert found["escalated"].tolist() == [4.0] * large
    assert found["large"].tolist() == [2.0] * large
