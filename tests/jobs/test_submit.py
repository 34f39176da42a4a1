import argparse
import asyncio
import io
import signal
import sys
from itertools import repeat
from pathlib import Path

import pytest

from jobs import submit
from jobs.cli import main
from jobs.ray_jobs import JobInfo, State
from pipeline.submit_config import SubmitConfig
from sgl.errors import ClusterLostError
from tests.jobs.fake_jobs import METADATA, FakeJobs

URIS = ("--input", "s3://bucket/in", "--output", "s3://bucket/out", "--threshold", "0.5")
JOB = (*URIS, "--small", "a/b", "--large", "c/d")
NOBODY = ("--address", "http://127.0.0.1:1")
_THERE = "submit: {reconnect_s: 5}\nstorage: {endpoint_url: http://there:9000}\nthreshold: 0.5\n"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_JOB_HEADERS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((*NOBODY, *JOB, "--set", "thresold=1"), "did you mean threshold?"),
        ((*NOBODY, *JOB, "--set", "submit.adress=x"), "submit.adress: there is no such setting"),
        ((*NOBODY, *JOB, "--config", "none.yaml"), "none.yaml: cannot be read"),
        ((*NOBODY, *JOB[2:], "--input", "in.parquet"), "input.path: "),
        ((*NOBODY, *URIS, "--small", "a/b", "--large", "/models/x"), "models.large.path: "),
        ((*NOBODY, *JOB, "--shared-path", "out"), "submit.shared_paths: out is another folder"),
        ((*NOBODY, *JOB, "--header", "secret"), "--header: write NAME=VALUE"),
        ((*NOBODY, *JOB, "--job-id", "a b"), "--job-id a b: "),
        ((*NOBODY, *JOB), "no Ray cluster answers there"),
        (("--address", "head:6379", *JOB), "submit.address: write that of the cluster's dashboard"),
        (JOB, "--address: which cluster?"),
        (("--follow", "x", *NOBODY, "--input", "s3://b/in"), "--input: a job that is there has"),
        (("--follow", "x", *NOBODY, "--no-code"), "--no-code: a job that is there has"),
        (("--follow", "x", *NOBODY, "--threshold", "0"), "--threshold: a job that is there has"),
        (("--follow", "x", *NOBODY, "--price", "h100=2"), "--price: a job that is there has"),
        (("--follow", "x", *NOBODY, "--set", "mode=small"), "--set mode=small: a job that is"),
        (("--stop", "x", *NOBODY, "--report", "r.html"), "--report: a job that is there has"),
        (("--follow", "x", *NOBODY, "--report", "r", "--set", "storage.region=x"), "no Ray"),
        (("--stop", "x", *NOBODY, "--retry-errors"), "--retry-errors: a job that is there has"),
        ((*NOBODY, *JOB, "--detach", "--report", "r.html"), "--report: who detaches is not there"),
        (("--stop", "", *NOBODY, *JOB), "--stop '': is no job's id"),
        (("--follow", "", *NOBODY, *JOB), "--follow '': is no job's id"),
        (("--stop", "../x", *NOBODY), "--stop '../x': is no job's id"),
        (("--stop", "x", *NOBODY), "no Ray cluster answers there"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", *arguments]) == 2
    told = capsys.readouterr().err
    assert says in told
    assert "secret" not in told
    assert len(told.splitlines()) == 1


def test_a_policy_that_cannot_be_read_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    job = [name for name in JOB if name not in ("--threshold", "0.5")]
    assert main(["submit", *NOBODY, *job, "--policy", "none.yaml"]) == 2
    assert "--policy none.yaml: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("info", "code"),
    [
        (JobInfo(State.SUCCEEDED, exit_code=0), 0),
        (JobInfo(State.FAILED, exit_code=4), 4),
        (JobInfo(State.FAILED, exit_code=-9), 137),
        (JobInfo(State.FAILED, exit_code=137), 137),
        (JobInfo(State.FAILED), 1),
        (JobInfo(State.STOPPED), 8),
        (JobInfo(State.STOPPED, exit_code=1), 8),
    ],
)
def test_the_exit_code_is_as_if_it_had_run_here(info: JobInfo, code: int) -> None:
    assert submit.exit_code(info) == code


def told(info: JobInfo, capsys: pytest.CaptureFixture[str], report: Path | None = None) -> str:
    options = argparse.Namespace(report=report and str(report))
    submit._told(options, "sgl-1", info, None)
    return capsys.readouterr().err


def test_the_end_tells_where_the_rows_are_and_how_to_report_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = told(JobInfo(State.SUCCEEDED, exit_code=0, metadata=METADATA), capsys)
    assert text.splitlines() == [
        "sgl: job sgl-1: done",
        "sgl: output: s3://bucket/out",
        "sgl: report: sgl report s3://bucket/out",
    ]


def test_a_job_that_never_ran_tells_why(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(JobInfo(State.FAILED, "no space on the head\n"), capsys)
    assert text == "sgl: job sgl-1: it did not run to its end: no space on the head\n"


def test_a_report_that_cannot_be_written_here_does_not_fail_the_job(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = {"sgl.output": str(tmp_path / "none")}
    info = JobInfo(State.SUCCEEDED, exit_code=0, metadata=output)
    text = told(info, capsys, tmp_path / "report.html")
    assert "report: not written: " in text
    assert f"where the output can be read: sgl report {tmp_path / 'none'}" in text
    assert not (tmp_path / "report.html").exists()


@pytest.mark.usefixtures("on_a_terminal")
def test_ctrl_c_leaves_the_job_alone_and_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Interrupted(FakeJobs):
        address = "http://head:8265"

        async def tail(self, job_id: str):  # type: ignore[no-untyped-def]
            yield "one\ntw"
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(3600)

    jobs = Interrupted(["one\n"])
    options = argparse.Namespace(report=None)
    assert submit._follow(options, jobs, "sgl-1", SubmitConfig()) == 130  # type: ignore[arg-type]
    told = capsys.readouterr()
    assert told.out == "one\ntw\n"
    assert jobs.stopped == []
    assert told.err.splitlines() == [
        "sgl: no longer followed, and not stopped",
        "sgl: to follow it: sgl submit --address http://head:8265 --follow sgl-1",
        "sgl: to end it: sgl submit --address http://head:8265 --stop sgl-1",
    ]


def test_a_cluster_that_is_lost_says_how_to_follow_again() -> None:
    class Lost(FakeJobs):
        address = "http://head:8265"

    jobs, options = Lost([], fails=repeat(True)), argparse.Namespace(report=None)
    config = SubmitConfig(reconnect_s=0)
    again = "--address http://head:8265 --follow sgl-1"
    with pytest.raises(ClusterLostError, match=f"out of reach .*; to follow it again: .*{again}"):
        submit._follow(options, jobs, "sgl-1", config)  # type: ignore[arg-type]


def test_following_takes_a_cluster_from_the_settings_of_a_job(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(_THERE)
    options = argparse.Namespace(
        config=str(tmp_path / "job.yaml"), assignments=["submit.stop_wait_s=7"], prices=[]
    )
    named = submit._settings_alone(options)
    assert (named.submit.reconnect_s, named.submit.stop_wait_s) == (5, 7)
    assert named.storage.endpoint_url == "http://there:9000"


class Named(FakeJobs):
    address = "http://head:8265"


def test_a_pipe_that_nobody_reads_leaves_the_job_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    jobs, options = Named(["one\n", "two\n"]), argparse.Namespace(report=None)
    assert submit._follow(options, jobs, "sgl-1", SubmitConfig()) == 141  # type: ignore[arg-type]
    assert "no longer followed, and not stopped" in capsys.readouterr().err
    assert jobs.stopped == []


def test_ctrl_c_while_a_job_ends_says_that_it_goes_on_ending(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Interrupted(Named):
        def stop(self, job_id: str) -> None:
            raise KeyboardInterrupt

    assert submit._stop(Interrupted(["one\n"]), "sgl-1", 1) == 130  # type: ignore[arg-type]
    assert "may have been told to end" in capsys.readouterr().err


def test_a_job_that_was_stopped_says_that_another_id_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "stopped; submitted under another --job-id" in told(JobInfo(State.STOPPED), capsys)
    assert submit._stop(Named([]), "sgl-1", 1) == 0  # type: ignore[arg-type]
    assert "under another --job-id" in capsys.readouterr().err
