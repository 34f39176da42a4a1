"""The load test: its arithmetic, its figure, and a short one of a live endpoint."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import serve, serve_plot
from benchmarks.asking import recovered_s
from benchmarks.endpoint import endpoint
from benchmarks.load import Loader, outcomes, rate
from benchmarks.load_plan import NO_ANSWER, Sample
from benchmarks.serve_closed import closed, overhead
from benchmarks.serve_kills import SETTINGS, kill
from benchmarks.serve_overload import course, deaf, overloaded
from testbed.records import draw_records


def sample(at: float, seconds: float, *statuses: int) -> Sample:
    return Sample(at, seconds, None, statuses, told_when=True)


SAMPLES = [
    sample(0.0, 1.0, 200),
    sample(1.0, 0.1, 503),
    sample(2.0, 9.0, 503, 200),
    sample(3.0, 0.3, 429, 503),
    sample(4.0, 1.0, NO_ANSWER),
    sample(5.0, 1.0, 200, NO_ANSWER),
]


def test_requests_are_answered_refused_or_lost() -> None:
    told = outcomes(SAMPLES)
    assert (told["requests"], told["answered"], told["refused"], told["lost"]) == (6, 2, 2, 2)
    assert told["refused_ms"] == pytest.approx(200)
    assert told["lost_statuses"] == [NO_ANSWER]
    assert told["failed_first"] == 4


def test_only_answers_in_time_count() -> None:
    assert rate(SAMPLES, 0, 20, within_s=10) == pytest.approx(2 / 20)
    assert rate(SAMPLES, 0, 20, within_s=5) == pytest.approx(1 / 20)
    assert rate(SAMPLES, 0, 5, within_s=10) == pytest.approx(1 / 5)


def test_it_has_recovered_when_answers_are_fast_in_a_row() -> None:
    slow = [(float(at), 200, 3.0) for at in range(4)]
    mixed = [(4.0, 200, 0.1), (5.0, 503, 0.0), (6.0, 200, 0.1), (7.0, 200, 0.1)]
    assert recovered_s([*slow, *mixed], since=1.0, most_s=0.5, in_a_row=2) == 5.0
    assert recovered_s([*slow, *mixed], since=1.0, most_s=0.5, in_a_row=3) is None


def test_memory_that_grows_by_the_minute_is_told() -> None:
    looks = [(10.0 * at, {"small": (100 + at) << 20, "large": 50 << 20}) for at in range(8)]
    told = course(looks)
    assert told["memory_mib"] == {"begin": 150, "peak": 157, "end": 157}
    assert told["memory_mib_per_minute"] == pytest.approx({"small": 6, "large": 0, "all": 6})
    assert course(looks[:2])["memory_mib_per_minute"] == {}


def closed_row(system: str, users: int) -> dict[str, Any]:
    latency = {"p50": 50.0 * users, "p90": 60.0 * users, "p99": 70.0 * users}
    return {
        "part": "closed",
        "system": system,
        "users": users,
        "requests": 10,
        "unanswered": 0,
        "latency_ms": latency,
        "first_text_ms": latency,
        "per_s": 12.5,
        "per_s_to_large": {"value": 1.5, "low": 1.25, "high": 2.0},
    }


def test_the_table_and_the_figure_tell_all_systems(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is of the evaluate extra")
    rows = [closed_row(name, users) for users in (1, 4) for name in serve_plot.SYSTEMS]
    told = serve.report(rows)
    for part in ("pair:large", "12.5", "1.500 [1.250, 2.000]", "200 / 240 / 280"):
        assert part in told
    serve_plot.draw({"rows": rows}, tmp_path / "figures" / "load.svg")
    drawn = (tmp_path / "figures" / "load.svg").read_text()
    assert drawn.lstrip().startswith("<?xml")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.chaos
def test_a_live_endpoint_under_load(tmp_path: Path) -> None:
    records = list(draw_records("heldout", 4))
    with Loader() as loader, endpoint(SETTINGS) as one:
        rows = overhead(one, serve.endpoint_config(), records, rounds=1)
        rows += closed(one, loader, records, tmp_path, rounds=1, seconds=1, users=(2,))
        rows.append(deaf(one, records, count=4))
        rows.append(overloaded(one, loader, records, tmp_path, capacity=10, seconds=4, after_s=2))
        rows.append(kill(one, "large", loader, records, tmp_path, per_s=3, seconds=6))
    for row in rows:
        if row["part"] == "closed":
            assert row["unanswered"] == 0
            assert row["requests"] > 0
        elif row["part"] in ("overload", "kill"):
            assert row["lost"] == 0
            assert row["refused_told_when"] == row["refused"]
            assert row["answered"] > 0
    assert rows[-1]["back_s"] is not None
    assert {"overhead", "closed", "deaf", "overload", "kill"} == {row["part"] for row in rows}
    assert "kill 1 of 1 large" in serve.report(rows)
