"""`sgl submit` on a real cluster of three raylets, over connections that break."""

import asyncio
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from jobs.demo import SETTINGS
from jobs.follow import Follower
from jobs.ray_jobs import JobInfo, NoSuchJobError, RayJobs, State
from jobs.run import run_job
from jobs.settings import checked
from jobs.stopping import stop_and_wait
from jobs.submission import Submission
from jobs.submit import exit_code
from jobs.submitting import submit_once
from sgl.errors import ConfigurationError
from testbed.generate import write_parquet
from tests.dashboard_cluster import ROOT, DashboardCluster
from tests.jobs.fake_jobs import submission
from tests.lossy_proxy import LossyProxy, lossy_proxy

pytestmark = [pytest.mark.ray, pytest.mark.slow]

RECORDS = 32
MEASURED = ("run_id", "cost_usd", "_s", "_at", "_batch_rows", "_padded_tokens")
"""What columns end with that tell of a run and its batches, not of an answer."""
COUNTS = """import time
for i in range(12):
    print("line", i, flush=True)
    time.sleep(0.5)
raise SystemExit(4)"""
LINES = [f"line {i}" for i in range(12)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[DashboardCluster]:
    with DashboardCluster() as up:
        yield up


@pytest.fixture
def proxy(cluster: DashboardCluster) -> Iterator[LossyProxy]:
    with lossy_proxy(cluster.port) as between:
        yield between


@pytest.fixture
def jobs(cluster: DashboardCluster, proxy: LossyProxy) -> RayJobs:
    """By way of the proxy."""
    return RayJobs(f"http://127.0.0.1:{proxy.port}", bearer(cluster.token))


def bearer(token: str) -> dict[str, str]:
    """As the environment would give it, which Ray reads once per process."""
    return {"Authorization": f"Bearer {token}"}


def python(job_id: str, code: str, **environment: str) -> Submission:
    """A job that runs a few lines of Python; its package holds nothing."""
    nothing = b"PK\x05\x06" + bytes(18)
    command = f"{sys.executable} -u -c '{code}'"
    return replace(
        submission(), job_id=job_id, entrypoint=command, package=nothing, environment=environment
    )


def followed(
    jobs: RayJobs, job_id: str, when: Sequence[tuple[str, Callable[[], None]]] = ()
) -> tuple[JobInfo, list[str], list[str]]:
    """Follow a job; once a text was shown, something happens."""
    shown: list[str] = []
    said: list[str] = []
    left = list(when)

    def show(piece: str) -> None:
        shown.append(piece)
        while left and left[0][0] in "".join(shown):
            left.pop(0)[1]()

    info = asyncio.run(Follower(jobs, job_id, show, said.append, 60.0).follow())
    assert not left
    lines = "".join(shown).splitlines()
    lost_and_found = [line for line in said if line.startswith("the cluster")]
    return info, [line for line in lines if line.startswith("line")], lost_and_found


def for_seconds(seconds: float, begin: Callable[[], None], end: Callable[[], None]) -> None:
    begin()
    threading.Timer(seconds, end).start()


def test_no_line_is_lost_or_doubled_where_connections_break(
    jobs: RayJobs, proxy: LossyProxy
) -> None:
    assert asyncio.run(submit_once(jobs, python("breaks", COUNTS), print))
    cuts = [(f"line {i}\n", lambda: for_seconds(1.5, proxy.lose, proxy.find)) for i in (1, 5)]
    info, lines, said = followed(jobs, "breaks", cuts)
    assert lines == LINES
    assert ["out of reach" in line for line in said] == [True, False] * 2
    assert exit_code(info) == 4


def test_nor_where_the_dashboard_is_killed_and_started_again(
    jobs: RayJobs, cluster: DashboardCluster
) -> None:
    assert asyncio.run(submit_once(jobs, python("killed", COUNTS), print))

    def restart() -> None:
        cluster.kill_dashboard()
        threading.Thread(target=cluster.start_dashboard).start()

    info, lines, said = followed(jobs, "killed", [("line 2\n", restart)])
    assert lines == LINES
    assert info.state is State.FAILED
    assert ["out of reach" in line for line in said] == [True, False]


def test_the_same_id_is_followed_and_not_run_twice(jobs: RayJobs, tmp_path: Path) -> None:
    file = tmp_path / "runs"
    once = python("once", f'open("{file}", "a").write("run\\n"); print("line")')
    said: list[str] = []
    assert asyncio.run(submit_once(jobs, once, said.append))
    assert not asyncio.run(submit_once(jobs, once, said.append))
    assert said[0] == "job once is there already, and is not run twice"
    for _ in range(2):
        info, lines, _ = followed(jobs, "once")
        assert (exit_code(info), lines) == (0, ["line"])
    assert file.read_text() == "run\n"
    with pytest.raises(ConfigurationError, match="already exists"):
        jobs.submit(once)


def test_a_job_that_is_stopped_ends_by_itself(jobs: RayJobs) -> None:
    """As on a terminal, so that it gives its output back, and not by a kill after 3 s."""
    # Whoever starts a cluster in a shell's background has it ignore SIGINT.
    code = """import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    print("line", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    time.sleep(4)
    print("line of its end")"""
    stop = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "30"}
    assert asyncio.run(submit_once(jobs, python("stopped", code, **stop), print))
    while "line" not in jobs.log("stopped").splitlines():
        time.sleep(0.2)
    info = asyncio.run(stop_and_wait(jobs, "stopped", 30, print))
    assert exit_code(info) == 8
    assert followed(jobs, "stopped")[1] == ["line", "line of its end"]


def test_what_is_not_there_is_told(jobs: RayJobs) -> None:
    with pytest.raises(NoSuchJobError):
        jobs.info("none")
    for headers in ({}, bearer("0" * 32)):
        with pytest.raises(ConfigurationError, match="another token"):
            RayJobs(jobs.address, headers)


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_cluster")
def test_the_demo_submitted_is_the_demo_run_here(
    cluster: DashboardCluster, proxy: LossyProxy, tmp_path: Path
) -> None:
    """Row by row, although the connection was gone for some seconds in between."""
    records = cluster.folder / "heldout.parquet"
    write_parquet("heldout", RECORDS, records)
    settings: dict[str, Any] = yaml.safe_load(SETTINGS.read_text())
    settings |= {"input": {"path": str(records)}}
    config = tmp_path / "job.yaml"
    config.write_text(yaml.safe_dump(settings))
    there, here = cluster.folder / "out", tmp_path / "out"
    report = tmp_path / "report.html"
    command = [
        *(sys.executable, "-m", "jobs.cli", "submit", "--config", str(config)),
        *("--address", f"http://127.0.0.1:{proxy.port}", "--shared-path", str(cluster.folder)),
        *("--output", str(there), "--report", str(report), "--log-format", "json"),
    ]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | cluster.environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        if "records, mode cascade" in line:
            for_seconds(3, proxy.lose, proxy.find)
        said += line
    assert process.wait() == 0, said
    assert said.count("out of reach") == 1
    assert said.count("mode cascade") == 1
    assert f"sgl: output: {there}\nsgl: report: {report}\n" in said
    assert report.stat().st_size
    output = {"output": {"path": str(here)}}
    run_job(checked(settings | output), Console(file=io.StringIO()))
    assert_same(answers(there), answers(here))


def answers(output: Path) -> list[dict[str, Any]]:
    table: pa.Table = pq.read_table(output / "rows")
    columns = [name for name in table.column_names if not name.endswith(MEASURED)]
    return sorted(table.select(columns).to_pylist(), key=lambda row: row["id"])


def assert_same(there: list[dict[str, Any]], here: list[dict[str, Any]]) -> None:
    """Numbers to five digits: the last of them depend on who else was in the batch."""
    assert len(there) == len(here) == RECORDS
    for row, own in zip(there, here, strict=True):
        numbers = {name for name, value in own.items() if isinstance(value, float)}
        assert {n: row[n] for n in row.keys() - numbers} == {
            n: own[n] for n in own.keys() - numbers
        }
        assert {n: row[n] for n in numbers} == pytest.approx({n: own[n] for n in numbers}, rel=1e-5)
