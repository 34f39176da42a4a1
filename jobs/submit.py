"""`sgl submit`: a run on a Ray cluster, followed from here."""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.job_options import add_run, flags_of, job_of

if TYPE_CHECKING:
    from infra.s3 import StorageConfig
    from jobs.ray_jobs import JobInfo, RayJobs
    from jobs.settings import Whereabouts
    from pipeline.submit_config import SubmitConfig

_INTERRUPTED = 130
_STOPPED = 8
"""Of a job; who stops to follow one has the above."""
_UNREAD = 141
"""As shells have it of a pipe that nobody reads."""
_CRASHED = 1
_AGAIN = "submitted under another --job-id it goes on"
"""Under the same one it is only followed."""
_SIGNALS = 128
"""Shells tell an end by a signal as this and its number."""
_TO_FIND_IT = frozenset({"address", "verify", "headers", "config", "assignments"})
"""Options that following and stopping take besides the job's id."""
_OPTIONS = {"shared_paths": "shared-path", "code": "no-code", "prices": "price"}
"""Options that are not named as they are parsed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `sgl submit` takes."""
    parser.set_defaults(command=run)
    parser.add_argument(
        "--address", metavar="URL", help="of the cluster's dashboard, as in http://head:8265"
    )
    there = parser.add_mutually_exclusive_group()
    there.add_argument("--follow", metavar="JOB_ID", help="a job that is there already")
    there.add_argument("--stop", metavar="JOB_ID", help="end one; its finished rows stay")
    there.add_argument("--detach", action="store_true", help="submit, and do not follow")
    parser.add_argument(
        "--job-id", metavar="ID", help="the same id is never run twice, and followed instead"
    )
    parser.add_argument(
        "--shared-path",
        action="append",
        metavar="DIR",
        dest="shared_paths",
        help="a folder that all nodes have under this path; may be repeated",
    )
    parser.add_argument(
        "--no-code",
        action="store_const",
        const=False,
        dest="code",
        help="run what is in the cluster's image, which must be of this version",
    )
    parser.add_argument(
        "--report", metavar="FILE", help="write the report of sgl report there, when it is done"
    )
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="headers",
        help="of every request, as a proxy may want it; may be repeated; also RAY_JOB_HEADERS",
    )
    parser.add_argument(
        "--verify",
        type=_verify,
        metavar="FILE",
        help="certificates that are trusted; 'no' trusts any",
    )
    add_run(parser)


def run(options: argparse.Namespace) -> int:
    """Submit, follow or stop; returns the exit code."""
    if options.stop is not None:
        _check_id("--stop", options.stop)
        config = _settings_alone(options, "stop").submit
        return _stop(_connected(options, config), options.stop, config.stop_wait_s)
    if options.follow is not None:
        _check_id("--follow", options.follow)
        named = _settings_alone(options, "follow", "report")
        jobs = _connected(options, named.submit)
        return _follow(options, jobs, options.follow, named.submit, named.storage)
    return _submit(options)


def _check_id(option: str, job_id: str) -> None:
    from jobs.submission import JOB_ID
    from sgl.errors import ConfigurationError

    if not JOB_ID.fullmatch(job_id):
        raise ConfigurationError(f"{option} {job_id!r}: is no job's id")


def _submit(options: argparse.Namespace) -> int:
    job = job_of(options, options.policy, elsewhere=True)
    from jobs.submission import submission_of
    from jobs.submitting import submit_once
    from sgl.errors import ConfigurationError

    if options.detach and options.report:
        raise ConfigurationError("--report: who detaches is not there to make it; leave one out")

    submission = submission_of(
        job, options.policy, job_id=options.job_id, retry_errors=options.retry_errors
    )
    jobs = _connected(options, job.submit)
    job_id = submission.job_id
    for line in submission.told:
        say(line)
    try:
        if asyncio.run(submit_once(jobs, submission, say)):
            say(f"job {job_id} is submitted to {jobs.address}")
    except KeyboardInterrupt:
        say(f"interrupted; the job may have been submitted: {_command(jobs, 'follow', job_id)}")
        return _INTERRUPTED
    if options.detach:
        _tell_how_to_go_on(jobs, job_id)
        return 0
    return _follow(options, jobs, job_id, job.submit, job.storage)


def _follow(
    options: argparse.Namespace,
    jobs: "RayJobs",
    job_id: str,
    config: "SubmitConfig",
    storage: "StorageConfig | None" = None,
) -> int:
    from jobs.follow import Follower
    from jobs.followed import Followed
    from sgl.errors import ClusterLostError

    try:
        with Followed() as shown:
            follower = Follower(jobs, job_id, shown.show, say, config.reconnect_s)
            info = asyncio.run(follower.follow())
    except ClusterLostError as error:
        again = _command(jobs, "follow", job_id)
        raise ClusterLostError(f"{error}; to follow it again: {again}") from error
    except KeyboardInterrupt:
        say("no longer followed, and not stopped")
        _tell_how_to_go_on(jobs, job_id)
        return _INTERRUPTED
    except BrokenPipeError:
        # Nobody reads the log any more, as with `| head`; nor may Python try at its own end.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        say("nobody reads its log; no longer followed, and not stopped")
        _tell_how_to_go_on(jobs, job_id)
        return _UNREAD
    return _told(options, job_id, info, storage)


def _stop(jobs: "RayJobs", job_id: str, wait_s: float) -> int:
    from jobs.stopping import stop_and_wait

    try:
        info = asyncio.run(stop_and_wait(jobs, job_id, wait_s, say))
    except KeyboardInterrupt:
        say(f"interrupted; job {job_id} may have been told to end, and goes on ending by itself")
        return _INTERRUPTED
    say(f"job {job_id}: {info.state}; finished rows stay; {_AGAIN}")
    return 0


def _told(
    options: argparse.Namespace, job_id: str, info: "JobInfo", storage: "StorageConfig | None"
) -> int:
    """Say how a job ended, and what to do now."""
    from jobs.ray_jobs import State
    from jobs.submission import OUTPUT

    code = exit_code(info)
    output = info.metadata.get(OUTPUT, "")
    if info.state is State.SUCCEEDED:
        say(f"job {job_id}: done")
    elif info.state is State.STOPPED:
        say(f"job {job_id}: stopped; {_AGAIN}")
    elif info.exit_code is None:
        say(f"job {job_id}: it did not run to its end: {info.message.strip()}")
    else:
        say(f"job {job_id}: exit code {code}; docs/OPERATIONS.md tells what to do")
    if output:
        say(f"output: {output}")
        say(f"report: {_report(options, output, code, storage)}")
    return code


def exit_code(info: "JobInfo") -> int:
    """Of a job that has ended, as if it had run here."""
    from jobs.ray_jobs import State

    if info.state is State.STOPPED:
        return _STOPPED
    if info.state is State.SUCCEEDED:
        return 0
    code = _CRASHED if info.exit_code is None else info.exit_code
    return _SIGNALS - code if code < 0 else code


def _report(
    options: argparse.Namespace, output: str, code: int, storage: "StorageConfig | None"
) -> str:
    """Where it is, or how it is made."""
    command = f"sgl report {output}"
    if options.report is None or code:
        return command
    from jobs.report import GALLERY
    from jobs.report_files import Places, write_report
    from jobs.settings import storage_at
    from sgl.errors import SglError

    places = Places(Path(options.report), None, None)
    try:
        write_report([output], places, gallery=GALLERY, storage=storage or storage_at(None))
    except (OSError, SglError) as error:
        return f"not written: {error}; where the output can be read: {command}"
    return str(options.report)


def _settings_alone(options: argparse.Namespace, *taken: str) -> "Whereabouts":
    """The settings of the cluster, without those of a job.

    Raises:
        ConfigurationError: one of them is wrong, or a job's is among the options.
    """
    from jobs.settings import Whereabouts, whereabouts
    from sgl.errors import ConfigurationError

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = [
        f"--{_OPTIONS.get(name, name.replace('_', '-'))}"
        for name, default in vars(parser.parse_args([])).items()
        if name not in _TO_FIND_IT.union(taken) and getattr(options, name, default) != default
    ]
    sections = tuple(f"{name}." for name in Whereabouts.model_fields)
    given += [f"--set {one}" for one in options.assignments if not one.startswith(sections)]
    if given:
        raise ConfigurationError(f"{given[0]}: a job that is there has its settings; leave it out")
    return whereabouts(options.config, options.assignments, flags_of(options))


def _connected(options: argparse.Namespace, config: "SubmitConfig") -> "RayJobs":
    from jobs.cluster_address import address_of, headers_of

    address, headers = address_of(config), headers_of(options.headers)
    import ray

    from jobs.ray_jobs import RayJobs

    jobs = RayJobs(address, headers, config.verify)
    if (there := jobs.ray_version()) != ray.__version__:
        say(f"the cluster runs Ray {there}, and here is {ray.__version__}; the job has the former")
    return jobs


def _tell_how_to_go_on(jobs: "RayJobs", job_id: str) -> None:
    say(f"to follow it: {_command(jobs, 'follow', job_id)}")
    say(f"to end it: {_command(jobs, 'stop', job_id)}")


def _command(jobs: "RayJobs", action: str, job_id: str) -> str:
    return f"sgl submit --address {jobs.address} --{action} {job_id}"


def _verify(text: str) -> bool | str:
    return text if text != "no" else False


def say(line: str) -> None:
    """Beside the job's log, which has standard output to itself."""
    print(f"sgl: {line}", file=sys.stderr)
