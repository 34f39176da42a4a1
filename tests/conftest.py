"""What the whole suite shares: calm threads, no deadlines, one local Ray."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.s3 import Faults, Server, faulty_proxy, running_server

# Tiny models gain nothing from more threads, and on a busy machine waiting for them made the
# suite thirty times slower. Read when torch is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

# Where no GPU is, Triton's kernels are interpreted. Read when triton is first imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Whatever credentials this machine has, the tests have none but these. Ray's workers inherit them.
os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION"):
    os.environ.pop(name, None)
# Tests never time: a slow machine is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Processes that share the suite each have Rays of their own, which must not meet."""
    # Ray keeps the address of a cluster in its folder, where the next ray.init() finds it. Not in
    # pytest's folder: a socket's path is short.
    if hasattr(config, "workerinput"):
        folder = Path(os.environ["RAY_TMPDIR"]) / config.workerinput["workerid"]
        folder.mkdir()
    else:
        folder = Path(tempfile.mkdtemp(prefix="sgl-"))
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        _make_token()
    os.environ["RAY_TMPDIR"] = str(folder)


def _make_token() -> None:
    """The first Ray of a user makes a token, and of two at once each would make one."""
    if not (Path.home() / ".ray" / "auth_token").exists():
        command = [sys.executable, "-m", "ray.scripts.scripts", "get-auth-token", "--generate"]
        subprocess.run(command, check=True, capture_output=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, those that kill processes among them, then those on Ray.

    Processes that share the suite take file after file: a long one that is begun last would keep
    one process at work while the others have ended.
    """
    weights: dict[Path, int] = {}
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        weight = 2 * bool(marks & {"slow", "chaos"}) + ("ray" in marks)
        weights[item.path] = max(weight, weights.get(item.path, 0))
    items.sort(key=lambda item: -weights[item.path])


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """A real S3 server on loopback."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def _proxy(s3_server: Server) -> Iterator[tuple[Server, Faults]]:
    with faulty_proxy(s3_server) as (server, faults):
        yield server, faults


@pytest.fixture
def faulty_s3(_proxy: tuple[Server, Faults]) -> Iterator[tuple[Server, Faults]]:
    """The same server behind a proxy, and what goes wrong there."""
    server, faults = _proxy
    faults.forget()
    yield server, faults
    faults.forget()


@pytest.fixture
def bucket(s3_server: Server, request: pytest.FixtureRequest) -> str:
    """The URI of a bucket of the test's own."""
    digest = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]
    return s3_server.bucket(f"bucket-{digest}")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A Ray without dashboard whose workers can import the tests; its address.

    One for each process that runs tests, because starting one takes 6 to 17 s.
    """
    import ray

    from jobs.cluster import quiet_ray_data

    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([known] if known else [])])
    # More logical cores make a small machine slower: 8 took a minute to the first batch.
    context = ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    quiet_ray_data()
    yield context.address_info["address"]
    ray.shutdown()
