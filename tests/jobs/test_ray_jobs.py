"""Against a server that answers as it is told; a real one: tests/integration/test_submit.py."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from jobs.ray_jobs import JobInfo, NoSuchJobError, OutOfReachError, RayJobs, State
from sgl.errors import ConfigurationError
from tests.jobs.fake_jobs import JOB, submission

VERSION = {"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": ""}
DETAILS = {"type": "SUBMISSION", "entrypoint": "true", "status": "FAILED"}
TRACEBACK = """Traceback (most recent call last):
RuntimeError: Request failed with status code 400: Traceback (most recent call last):
ValueError: too much is asked for
."""


class Answers(dict[str, tuple[int, str]]):
    """By path; each a status and a body. What is not there is not found."""

    silent = False
    url = ""
    location = ""

    def __init__(self, answers: dict[str, tuple[int, str]]) -> None:
        super().__init__(answers)
        self.asked: list[str] = []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    for name in ("RAY_AUTH_MODE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    answers = Answers({"/api/version": (200, json.dumps(VERSION))})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if answers.silent:
                time.sleep(1)
            status, body = answers.get(self.path, (404, "not found"))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            if status in range(300, 400):
                self.send_header("location", answers.location)
            answers.asked.append(f"{self.command} {self.path}")
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_PUT = do_GET

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answers.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield answers
    listening.shutdown()
    thread.join()
    listening.server_close()


def test_the_given_address_wins_over_the_environments(
    server: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's own client would go by the latter, whatever it is given."""
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    jobs = RayJobs(server.url + "/")
    assert jobs.address == server.url
    assert jobs.ray_version() == "2.60.0"


def test_where_nobody_listens_the_address_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigurationError, match=f"--address {address}: no Ray cluster"):
            RayJobs(address)


@pytest.mark.parametrize("answer", [(404, "nothing"), (200, "<html>"), (200, "{}"), (502, "bad")])
def test_a_server_that_is_no_dashboard_is_refused(server: Answers, answer: tuple[int, str]) -> None:
    server["/api/version"] = answer
    with pytest.raises(ConfigurationError, match=f"--address {server.url}: .*(Ray|dashboard)"):
        RayJobs(server.url)


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_missing_or_wrong_is_told(server: Answers, status: int) -> None:
    server["/api/version"] = (status, "no")
    with pytest.raises(ConfigurationError, match="RAY_AUTH_TOKEN"):
        RayJobs(server.url)
    server["/api/version"] = (200, json.dumps(VERSION))
    jobs = RayJobs(server.url)
    server[f"/api/jobs/{JOB}"] = (status, "no")
    with pytest.raises(ConfigurationError, match="RAY_AUTH_TOKEN"):
        jobs.info(JOB)


def test_a_file_of_certificates_that_is_not_there_is_named(server: Answers) -> None:
    with pytest.raises(ConfigurationError, match=r"--verify /none\.pem: there is no such file"):
        RayJobs(server.url, verify="/none.pem")


def test_what_a_job_is_told_by_the_cluster(server: Answers) -> None:
    jobs = RayJobs(server.url)
    details = DETAILS | {"message": "why", "driver_exit_code": 4, "metadata": {"a": "b"}}
    server[f"/api/jobs/{JOB}"] = (200, json.dumps(details))
    assert jobs.info(JOB) == JobInfo(State.FAILED, "why", 4, {"a": "b"})
    assert jobs.info(JOB).ended
    server[f"/api/jobs/{JOB}"] = (200, json.dumps(DETAILS | {"status": "PENDING"}))
    assert jobs.info(JOB) == JobInfo(State.PENDING)
    assert not jobs.info(JOB).ended


def test_unknown_jobs_and_failures_of_the_cluster_are_told_apart(server: Answers) -> None:
    jobs = RayJobs(server.url)
    server[f"/api/jobs/{JOB}"] = (404, f"Job {JOB} does not exist")
    with pytest.raises(NoSuchJobError):
        jobs.info(JOB)
    server[f"/api/jobs/{JOB}"] = (404, "404 page not found")
    with pytest.raises(OutOfReachError, match="status 404"):
        jobs.info(JOB)
    for status in (429, 500, 503):
        server[f"/api/jobs/{JOB}"] = (status, "later")
        with pytest.raises(OutOfReachError):
            jobs.info(JOB)


def test_what_the_cluster_refuses_is_one_line(server: Answers) -> None:
    jobs = RayJobs(server.url)
    server["/api/packages/gcs/_ray_pkg_da39a3ee5e6b4b0d3255bfef95601890afd80709.zip"] = (200, "")
    server["/api/jobs/"] = (500, TRACEBACK)
    with pytest.raises(ConfigurationError, match=r"^the cluster refuses it: ValueError: too"):
        jobs.submit(submission())


def test_a_server_that_never_answers_is_out_of_reach(
    server: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's own client would wait for it without end."""
    jobs = RayJobs(server.url)
    monkeypatch.setattr("jobs.ray_jobs._ANSWER_S", 0.05)
    server.silent = True
    with pytest.raises(OutOfReachError):
        jobs.info(JOB)


def test_a_redirect_is_not_followed_and_its_host_is_told(server: Answers) -> None:
    """A POST would become a GET, and the token would go along."""
    jobs = RayJobs(server.url)
    server["/api/packages/gcs/_ray_pkg_da39a3ee5e6b4b0d3255bfef95601890afd80709.zip"] = (200, "")
    server["/api/jobs/"] = (302, "")
    server.location = "https://me:secret@login.example:8443/sign-in?state=secret"
    with pytest.raises(ConfigurationError, match=r"to https://login\.example:8443; ") as refused:
        jobs.submit(submission())
    assert "secret" not in str(refused.value)
    assert server.asked[-1] == "POST /api/jobs/"
    server["/api/version"] = (308, "")
    server.location = "/elsewhere"
    with pytest.raises(ConfigurationError, match=f"on to {server.url}; "):
        RayJobs(server.url)
    assert server.asked[-1] == "GET /api/version"


def test_a_submission_that_finds_nothing_may_be_made_again(server: Answers) -> None:
    jobs = RayJobs(server.url)
    server["/api/packages/gcs/_ray_pkg_da39a3ee5e6b4b0d3255bfef95601890afd80709.zip"] = (200, "")
    for text in (f"Job {JOB} does not exist", "no route"):
        server["/api/jobs/"] = (404, text)
        with pytest.raises(OutOfReachError):
            jobs.submit(submission())


def test_requests_and_web_sockets_trust_the_same_certificates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = requests.Response()
    answer.status_code, answer._content = 200, json.dumps(VERSION).encode()
    asked: list[object] = []

    def request(*_: object, verify: object, **__: object) -> requests.Response:
        asked.append(verify)
        return answer

    files: list[str | None] = []
    made = ssl.create_default_context

    def context(cafile: str | None = None, capath: str | None = None) -> ssl.SSLContext:
        files.append(cafile)
        return made(cafile=cafile, capath=capath)

    monkeypatch.setattr(requests, "request", request)
    monkeypatch.setattr(ssl, "create_default_context", context)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    RayJobs("https://head:8265")
    assert {*asked, *files} == {requests.utils.DEFAULT_CA_BUNDLE_PATH}
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/none.pem")
    with pytest.raises(ConfigurationError, match=r"REQUESTS_CA_BUNDLE /none\.pem: there is no"):
        RayJobs("https://head:8265")
