"""A live endpoint to be measured: `sgl serve` in a process of its own, with the trained pair."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import command_of, own_bytes, tree
from testbed.records import Record, encode_png

_ROOT = Path(__file__).parents[1]
_START_S, _END_S, _LOOK_S = 180, 60, 0.05


@dataclass(frozen=True)
class Endpoint:
    """One that runs.

    Attributes:
        url: of it.
        pid: of the command.
    """

    url: str
    pid: int

    def replicas(self, deployment: str) -> list[int]:
        """Process ids of a deployment's replicas."""
        name = f"ray::ServeReplica:sgl:{deployment}"
        return [one.pid for one in tree(self.pid) if name in command_of(one.pid)]

    def memory(self) -> dict[str, int]:
        """Bytes that its processes hold, by what they do."""
        held = dict.fromkeys(("small", "large", "ingress", "proxy", "controller", "others"), 0)
        for process in tree(self.pid):
            held[_part(command_of(process.pid))] += own_bytes(process.pid)
        return held

    def is_ready(self) -> bool:
        """Whether it says so."""
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def text(self, path: str) -> str:
        """What it says at a path.

        Raises:
            OSError: an error, or nothing.
        """
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:
            return bytes(answer.read()).decode()

    def json(self, path: str) -> Any:
        """Likewise, parsed."""
        return json.loads(self.text(path))


def _part(command: str) -> str:
    for part in ("small", "large", "ingress"):
        if f"ServeReplica:sgl:{part}" in command:
            return part
    if "ProxyActor" in command:
        return "proxy"
    return "controller" if "ServeController" in command else "others"


@contextmanager
def endpoint(settings: Sequence[str] = ()) -> Iterator[Endpoint]:
    """Start one, wait until it is ready, end it.

    Args:
        settings: as of `sgl serve --set`.

    Raises:
        ChildProcessError: it does not start; why is on the terminal.
        TimeoutError: nor does it end.
    """
    port = _free_port()
    options = [word for one in settings for word in ("--set", one)]
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", "serve", "--port", str(port), *options],
        cwd=_ROOT,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        stdout=subprocess.DEVNULL,
    )
    one = Endpoint(f"http://127.0.0.1:{port}", process.pid)

    def started() -> bool:
        if process.poll() is not None:
            raise ChildProcessError("the endpoint does not start")
        return one.is_ready()

    try:
        wait_for(started, _START_S)
        yield one
    finally:
        below = [each.pid for each in tree(process.pid)]
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            for pid in below:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()


def wait_for(true: Callable[[], bool], within_s: float) -> float:
    """Seconds until something is so.

    Raises:
        TimeoutError: it is not so after `within_s`.
    """
    begun = time.monotonic()
    while not true():
        if time.monotonic() - begun > within_s:
            raise TimeoutError(f"not within {within_s:g} s")
        time.sleep(_LOOK_S)
    return time.monotonic() - begun


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def body_of(record: Record, model: str, *, stream: bool) -> bytes:
    """A request for one of the testbed's records, as clients write it."""
    data = base64.b64encode(encode_png(record.image)).decode()
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        {"type": "text", "text": record.question.text},
    ]
    message = {"role": "user", "content": content}
    return json.dumps({"model": model, "messages": [message], "stream": stream}).encode()


def write_bodies(records: Sequence[Record], model: str, folder: Path, *, stream: bool) -> str:
    """A file with a request per line, for a Plan."""
    path = folder / f"{model.replace(':', '-')}-{'stream' if stream else 'whole'}.jsonl"
    path.write_bytes(b"\n".join(body_of(one, model, stream=stream) for one in records))
    return str(path)
