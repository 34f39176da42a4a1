"""The metrics of made-up and of real runs, and the dashboard that shows them."""

import io
import json
import re
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

import infra
from jobs.metrics import RunCollector, Sources, served
from jobs.run import run_job
from pipeline.build import Loaders
from pipeline.metrics_config import MetricsConfig
from pipeline.progress import StageCount
from pipeline.run_record import PoolRecord, RunRecord
from pipeline.timesheet import ReplicaTime, Times
from pipeline.work import SECONDS, SHARES, Histogram, Work
from sgl.errors import ConfigurationError
from tests.pipeline.fakes import FakeLarge, FakeSmall, Load
from tests.pipeline.inputs import job_of, records, write_parquet

DASHBOARD = Path(infra.__file__).parent / "deploy" / "grafana.json"
PRICED = PoolRecord(replicas=2, devices=4.0, device="gpu", usd_per_hour=3600.0, price="as given")
REPLICA = ReplicaTime(
    role="large",
    node="here",
    startup_s=1.0,
    waiting_s=2.0,
    device_s=4.0,
    handling_s=0.5,
    lost_s=0.25,
    open_s=1.0,
    starts=3,
)
COUNTS = {
    "fetch": StageCount(rows=80, failed=4),
    "small": StageCount(rows=60, failed=2, escalated=20),
    "large": StageCount(rows=50, escalated=12),
}
WORK = {
    "fetch": Work(failed=Counter(ImageError=4)),
    "small": Work(54, 5400, 162, Counter(), {"exit_score": Histogram.of(SHARES, [0.05, 0.95])}),
    "large": Work(12, 1300, 36, Counter(), {"forward_s": Histogram.of(SECONDS, [0.3], [0.5])}),
}


def sources(**changed: Any) -> Sources:
    run = RunRecord(run_id="run", started_at=0.0, ended=False, pools=changed.pop("pools", POOLS))
    times = Times(elapsed_s=10.0, replicas=(REPLICA,), running={"small": 8, "large": 4})
    given: dict[str, Any] = {"counts": COUNTS, "work": WORK, "times": times} | changed
    asked: dict[str, Callable[[], Any]] = {name: lambda v=v: v for name, v in given.items()}
    return Sources(run, 100, {"mode": "cascade"}, **asked)


POOLS = {"small": PRICED.model_copy(update={"usd_per_hour": None}), "large": PRICED}


def samples(**changed: Any) -> dict[str, float]:
    return {
        f"{one.name}{sorted(one.labels.items())}" if one.labels else one.name: one.value
        for metric in RunCollector(sources(**changed)).collect()
        for one in metric.samples
    }


def of(found: dict[str, float], name: str, **labels: str) -> float:
    return found[f"{name}{sorted(labels.items())}"]


def test_records_are_running_waiting_or_through() -> None:
    found = samples()
    assert of(found, "sgl_num_requests_running", stage="small") == 8
    waiting = {s: of(found, "sgl_num_requests_waiting", stage=s) for s in COUNTS}
    assert waiting == {"fetch": 20, "small": 80 - 60 - 8, "large": 20 - 12 - 4}
    assert found["sgl_exits_total"] == 60 - 20 - 2 - 4
    assert found["sgl_escalations_total"] == 20


def test_without_a_small_model_all_records_wait_for_the_large_one() -> None:
    found = samples(pools={"large": PRICED}, counts=COUNTS | {"small": StageCount()})
    assert of(found, "sgl_num_requests_waiting", stage="large") == 80 - 4 - 12 - 4
    assert "sgl_exits_total" not in found


def test_time_and_money_are_of_all_devices_of_a_pool() -> None:
    found = samples()
    spent = {
        state: of(found, "sgl_device_seconds_total", pool="large", state=state)
        for state in ("work", "waiting", "startup", "lost")
    }
    assert spent == {"work": 16.0, "waiting": 8.0, "startup": 4.0, "lost": 1.0}
    assert of(found, "sgl_cost_usd_total", pool="large") == 80.0
    assert "sgl_cost_usd_total[('pool', 'small')]" not in found
    assert of(found, "sgl_replica_starts_total", pool="large") == 3


def test_histograms_are_cumulative() -> None:
    found = samples()
    scores = [of(found, "sgl_exit_score_bucket", model="small", le=str(le)) for le in SHARES]
    assert scores == [1.0] * 9 + [2.0] * 3
    assert of(found, "sgl_exit_score_sum", model="small") == 1.0
    assert of(found, "sgl_forward_device_seconds_count", model="large") == 0.5


def test_exits_never_fall() -> None:
    """Failures are heard of before they pass through the small stage."""
    counts = [COUNTS, COUNTS | {"fetch": StageCount(rows=80, failed=30)}]
    given = sources()
    collector = RunCollector(replace(given, counts=lambda: counts.pop(0)))
    seen = [
        sample.value
        for _ in range(2)
        for metric in collector.collect()
        for sample in metric.samples
        if sample.name == "sgl_exits_total"
    ]
    assert seen == [34, 34]


def test_failures_have_their_stage_and_type() -> None:
    assert of(samples(), "sgl_request_failed_total", stage="fetch", error="ImageError") == 4


def test_what_cannot_be_reached_is_left_out_and_the_rest_is_told() -> None:
    found = samples(counts=None, times=None)
    assert "sgl_exits_total" not in found
    assert of(found, "sgl_prompt_tokens_total", model="small") == 5400
    assert samples(work=None)["sgl_exits_total"] == 34


def test_a_port_that_is_taken_is_refused_with_a_remedy() -> None:
    with served(MetricsConfig(port=0), sources()) as port:
        assert port
        taken = MetricsConfig(port=port)
        with (
            pytest.raises(ConfigurationError, match=r"another metrics\.port"),
            served(taken, sources()),
        ):
            pass


def queried(dashboard: dict[str, Any]) -> set[str]:
    told = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    told += [one["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    return {name for text in told for name in re.findall(r"\bsgl_\w+", text)}


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_dashboard_shows_what_a_real_run_exports_and_nothing_else(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    columns = records(48)
    columns["image"][7] = {"bytes": b"junk", "path": None}
    path = write_parquet(tmp_path / "in.parquet", columns)
    pools = {role: {"usd_per_hour": 1.0} for role in ("small", "large")}
    job = job_of(path, tmp_path / "out", metrics={"port": 0}, pools=pools)
    loaders = Loaders(Load(FakeSmall, log, 0.05), Load(FakeLarge, log, 0.5))  # type: ignore[arg-type]
    console = Console(file=io.StringIO(), width=200)
    scraped: dict[str, float] = {}
    over = threading.Event()

    def scrape() -> None:
        while not over.wait(0.1):
            found = re.search(r"http://\S+/metrics", console.file.getvalue())  # type: ignore[attr-defined]
            if found is None:
                continue
            try:
                text = urllib.request.urlopen(found[0], timeout=5).read().decode()
            except OSError:
                continue  # the run has just ended
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    scraped[f"{sample.name}{sorted(sample.labels.items())}"] = sample.value

    scraper = threading.Thread(target=scrape)
    scraper.start()
    try:
        run_job(job, console, loaders)
    finally:
        over.set()
        scraper.join()
    exported = {name.partition("[")[0] for name in scraped}
    shown = queried(json.loads(DASHBOARD.read_text()))
    assert shown <= exported
    families = {re.sub(r"_(bucket|sum|count|total|info)$", "", name) for name in exported}
    assert families == {re.sub(r"_(bucket|sum|count|total|info)$", "", name) for name in shown}
    assert scraped["sgl_num_requests[]"] == 48
    assert scraped["sgl_request_failed_total[('error', 'ImageError'), ('stage', 'fetch')]"] == 1


def test_a_run_without_a_port_serves_nothing() -> None:
    with served(None, sources()) as port:
        assert port is None
