"""The curve and the comparison hang together; their figures are of `benchmarks/results`."""

from pathlib import Path

import pytest

from benchmarks.scaling import SAMPLE, VARIANTS, draw, measure
from benchmarks.simulation import Configuration, Probe, compared, foretold, report
from pipeline.plan.measured import measured


def test_the_curve_grows_until_the_driver_stops_it(tmp_path: Path) -> None:
    rows = measure(VARIANTS[:1], (1, 8, 200))
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
    sample = measured(str(SAMPLE))
    assert sample.large is not None
    probe = Probe(sample, tuple(i / 100 for i in range(100)))
    each = sum(sample.large.seconds) / sum(sample.large.rows)
    half, every = (foretold(probe, Configuration(t), 1200, 2) for t in (0.5, 1.1))
    assert every == pytest.approx(1200 * each, rel=0.15)
    assert half < 0.8 * every


def test_an_error_is_of_the_run_that_was_measured() -> None:
    probe = Probe(measured(str(SAMPLE)), (0.1, 0.9))
    simulated_s = foretold(probe, Configuration(), 640, 2)
    row = compared(probe, Configuration(), 640, 2, took_s=simulated_s / 1.1)
    assert row["error"] == pytest.approx(0.1)
    assert "+10.0%" in report([row])
