"""A real endpoint for tests: `sgl serve` in a process of its own, with the trained pair."""

import base64
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from testbed.records import Record, draw_records, encode_png

ROOT = Path(__file__).parents[2]
_START_S = 240
_END_S = 60


@dataclass
class Live:
    """One that runs.

    Attributes:
        url: of it.
        process: of the command.
        log: what the command has written.
        told: to end.
    """

    url: str
    process: psutil.Process
    log: Path
    told: bool = False

    def end(self) -> None:
        """Tell it to end, once: the second time it would not wait for what is under way."""
        if not self.told:
            self.told = True
            self.process.send_signal(signal.SIGTERM)

    def is_ready(self) -> bool:
        """Whether it says so."""
        try:
            # A context for TLS, which nobody speaks here, would cost 30 ms each time.
            return httpx.get(f"{self.url}/ready", timeout=5, verify=False).status_code == 200
        except httpx.HTTPError:
            return False

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """The processes of a deployment."""
        name = f"ray::ServeReplica:sgl:{deployment}"
        below = self.process.children(recursive=True)
        return [one for one in below if one.is_running() and name in " ".join(_command(one))]

    def memory(self) -> int:
        """Bytes that all its processes hold for themselves."""
        below = [self.process, *self.process.children(recursive=True)]
        return sum(one.memory_info().rss for one in below if one.is_running())


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def endpoint(folder: Path, options: Sequence[str] = ()) -> Iterator[Live]:
    """Start one, wait until it is ready, end it as an operator would."""
    port, log = free_port(), folder / "serve.log"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    env.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "jobs.cli", "serve", "--port", str(port), *options]
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=file, stderr=file)
    try:
        live = Live(f"http://127.0.0.1:{port}", psutil.Process(process.pid), log)
        wait_for(lambda: _started(live, process), _START_S)
        yield live
        live.end()
        assert process.wait(_END_S) == 0, log.read_text()[-3000:]
    finally:
        for one in _family(process.pid):
            one.kill()
        process.wait()


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _started(live: Live, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, live.log.read_text()[-3000:]
    return live.is_ready()


def wait_for(true: Callable[[], bool], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


RECORDS: tuple[Record, ...] = tuple(draw_records("heldout", 12))


def messages_of(record: Record) -> list[Any]:
    data = base64.b64encode(encode_png(record.image)).decode()
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    question = {"type": "text", "text": record.question.text}
    return [{"role": "user", "content": [picture, question]}]
