"""Jobs of a Ray cluster by its Jobs API, with time limits, and its failures told apart."""

import logging
import os
import re
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from jobs.interruptible import interruptible
from jobs.submission import Submission
from sgl.errors import ConfigurationError

_CONNECT_S = 10.0
_ANSWER_S = 60.0
_LATER = frozenset({408, 425, 429})
_REDIRECTED = range(300, 400)
_FAILED = 500
_SHORT = 200
_NO_SUCH_JOB = re.compile(r"\bJob \S+ does not exist")
"""As Ray says it; a proxy has words of its own for what is not there."""
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that name trusted certificates, as requests has it."""
_ADDRESS = "RAY_API_SERVER_ADDRESS"

for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
    logging.getLogger(name).setLevel(logging.WARNING)  # what they tell, we tell

Answer = TypeVar("Answer")


class OutOfReachError(ConnectionError):
    """The cluster does not answer now, and may do so later."""


class NoSuchJobError(LookupError):
    """The cluster answers, and knows no such job."""


class State(StrEnum):
    """Of a job, as the API has it."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"


@dataclass(frozen=True)
class JobInfo:
    """What a cluster says of a job.

    Attributes:
        state: of it.
        message: why it is so.
        exit_code: of its process; None while there is none, or where it was killed.
        metadata: that it was submitted with.
    """

    state: State
    message: str = ""
    exit_code: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.state not in (State.PENDING, State.RUNNING)


class RayJobs:
    """A connection; every call may raise OutOfReachError.

    Args:
        address: of the dashboard.
        headers: of every request.
        verify: the certificate: whether, or by which file.

    Raises:
        ConfigurationError: no Ray answers at the address, or it lets nobody in like this.
    """

    def __init__(
        self, address: str, headers: Mapping[str, str] | None = None, verify: bool | str = True
    ) -> None:
        self.address = address.rstrip("/")
        name, trusted = _trusted(self.address, verify)
        try:
            with _addressed(self.address):
                self._client = _Client(self.address, headers=dict(headers or {}), verify=trusted)
        except ConfigurationError:
            raise
        except AuthenticationError as error:
            raise _refused(self.address) from error
        except (ConnectionError, requests.RequestException) as error:
            raise ConfigurationError(_unreachable(self.address, error)) from error
        except FileNotFoundError as error:
            raise ConfigurationError(f"{name} {trusted}: there is no such file") from error
        except (RuntimeError, ValueError, KeyError) as error:
            raise ConfigurationError(
                f"--address {self.address}: what answers there is no dashboard of Ray"
            ) from error

    def ray_version(self) -> str:
        """Of the cluster."""
        return str(self._call(lambda: self._client._server_ray_version))

    def submit(self, submission: Submission) -> None:
        """Upload the package, if it is not there yet, and start the job.

        Raises:
            ConfigurationError: the cluster refuses it; so it does where there is a job of this id.
        """
        driver = submission.config.driver
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / "package.zip"
            package.write_bytes(submission.package)
            try:
                self._call(
                    lambda: self._client.submit_job(
                        entrypoint=submission.entrypoint,
                        submission_id=submission.job_id,
                        metadata=dict(submission.metadata),
                        runtime_env={
                            "working_dir": str(package),
                            "env_vars": dict(submission.environment),
                        },
                        entrypoint_num_cpus=driver.num_cpus,
                        entrypoint_memory=driver.memory_bytes,
                        entrypoint_resources=driver.resources,
                    )
                )
            except NoSuchJobError as error:
                raise OutOfReachError(f"it did not keep the job: {error}") from error

    def info(self, job_id: str) -> JobInfo:
        """What the cluster says of a job.

        Raises:
            NoSuchJobError: it knows none.
        """
        found = self._call(lambda: self._client.get_job_info(job_id))
        return JobInfo(
            State(found.status.value),
            found.message or "",
            found.driver_exit_code,
            found.metadata or {},
        )

    def stop(self, job_id: str) -> None:
        """Ask a job to end.

        Raises:
            NoSuchJobError: there is none.
        """
        self._call(lambda: self._client.stop_job(job_id))

    def log(self, job_id: str) -> str:
        """All that a job has written so far."""
        return str(self._call(lambda: self._client.get_job_logs(job_id)))

    async def tail(self, job_id: str) -> AsyncGenerator[str, None]:
        """The same from its beginning, piece by piece, until the job or the connection ends."""
        try:
            async with aclosing(self._client.tail_job_logs(job_id)) as pieces:
                async for piece in pieces:
                    yield piece
        except (TimeoutError, aiohttp.ClientError, OSError, RuntimeError) as error:
            raise OutOfReachError(str(error)) from error

    def _call(self, ask: Callable[[], Answer]) -> Answer:
        try:
            with interruptible():
                return ask()
        except AuthenticationError as error:
            raise _refused(self.address) from error
        except (requests.RequestException, ConnectionError) as error:
            raise OutOfReachError(str(error)) from error


class _Client(JobSubmissionClient):
    """Ray's own waits without end for a machine that has gone, and has one error for everything."""

    def _do_request(self, method: str, endpoint: str, **how: Any) -> requests.Response:
        limits = (_CONNECT_S, _ANSWER_S)
        # A redirected POST becomes a GET, and the token would go to whoever is named.
        answer = super()._do_request(method, endpoint, timeout=limits, allow_redirects=False, **how)
        if answer.status_code in _REDIRECTED:
            raise _elsewhere(self._address, answer)
        return answer

    def _raise_error(self, r: requests.Response) -> None:
        if r.status_code == requests.codes.not_found:
            if _NO_SUCH_JOB.search(r.text):
                raise NoSuchJobError(_last_line(r.text))
            raise OutOfReachError("status 404, and not of Ray's own")
        # A refusal of the node that is to start a job reaches us as a failure of the dashboard.
        refused = f"status code {requests.codes.bad_request}" in r.text
        if (r.status_code >= _FAILED or r.status_code in _LATER) and not refused:
            raise OutOfReachError(f"status {r.status_code}: {_last_line(r.text)[:_SHORT]}")
        raise ConfigurationError(f"the cluster refuses it: {_last_line(r.text)}")


@contextmanager
def _addressed(address: str) -> Iterator[None]:
    """The client takes the environment's address, whatever it is given."""
    before = os.environ.get(_ADDRESS)
    os.environ[_ADDRESS] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ADDRESS]
        else:
            os.environ[_ADDRESS] = before


def _trusted(address: str, verify: bool | str) -> tuple[str, bool | str]:
    """The certificates for requests and web sockets alike, and what names them.

    Left to themselves the former take these, and the latter the system's.
    """
    if verify is not True or not address.startswith("https://"):
        return "--verify", verify
    for name in _BUNDLES:
        if found := os.environ.get(name):
            return name, found
    return "certificates", requests.utils.DEFAULT_CA_BUNDLE_PATH


def _elsewhere(address: str, answer: requests.Response) -> ConfigurationError:
    there = urlsplit(urljoin(address, answer.headers.get("location", "")))
    # No path or query: a page to log in at may have secrets there.
    host = there.netloc.rpartition("@")[2]
    return ConfigurationError(
        f"--address {address}: it sends us on to {there.scheme}://{host}; write the address that "
        "the dashboard itself has, or what its proxy asks for by --header NAME=VALUE"
    )


def _unreachable(address: str, error: Exception) -> str:
    if isinstance(error.__context__, requests.exceptions.SSLError):
        return (
            f"--address {address}: its certificate is not trusted; name the file of its authority "
            "by --verify"
        )
    return (
        f"--address {address}: no Ray cluster answers there; write that of its dashboard, as in "
        "http://head:8265, and look whether a firewall or a missing port-forward is in between"
    )


def _refused(address: str) -> ConfigurationError:
    return ConfigurationError(
        f"--address {address}: the cluster wants another token, or any; set RAY_AUTH_MODE=token "
        "and RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH"
    )


def _last_line(text: str) -> str:
    """Of a traceback of the cluster's, what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" .")]
    return lines[-1] if lines else "it does not say why"
