"""A Ray of a head and two more raylets on this machine, with a dashboard that jobs are sent to.

In a process of its own: Ray keeps one cluster per process, and the tests may have theirs. It wants
a token, as a cluster of ours does.
"""

import multiprocessing
import os
import secrets
import shutil
import socket
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[1]
_RAYLETS = 2
_CPUS = 2
_ANSWER_S = 120.0


class DashboardCluster:
    """Up for the block.

    Attributes:
        port: of the dashboard, on loopback.
        token: that it wants.
        folder: that all nodes have, being one machine.
    """

    def __init__(self) -> None:
        # Short: sockets lie below it.
        self._temporary = Path(tempfile.mkdtemp(prefix="sgl-ray-"))
        self.folder = self._temporary / "shared"
        self.folder.mkdir()
        self.token = secrets.token_hex(16)
        self.port = _free_port()
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        arguments = (far_end, str(self._temporary), self.port, self.token)
        self._process = context.Process(target=_serve, args=arguments)

    @property
    def environment(self) -> dict[str, str]:
        """Of a client."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}

    def __enter__(self) -> "DashboardCluster":
        self._process.start()
        self._answer()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipe.close()
        self._process.join()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def kill_dashboard(self) -> None:
        """The process that answers is gone; the cluster works on."""
        self._ask("kill")

    def start_dashboard(self) -> None:
        """Another one, at the same port."""
        self._ask("start")

    def _ask(self, request: str) -> None:
        self._pipe.send(request)
        self._answer()

    def _answer(self) -> None:
        if not self._pipe.poll(_ANSWER_S):
            raise TimeoutError("the cluster's process does not answer")
        self._pipe.recv()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def _serve(pipe: Connection, folder: str, port: int, token: str) -> None:
    """Start raylets, and the dashboard as told; ends them all when the other end is gone."""
    for name in ("PYTHONPATH", "RAY_ADDRESS"):
        os.environ.pop(name, None)  # a job brings its code with it
    os.environ |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        # Apart from other clusters of this machine, whose address Ray keeps in its folder.
        "RAY_TMPDIR": folder,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "OMP_NUM_THREADS": "1",
    }
    os.chdir(folder)
    from ray.cluster_utils import Cluster

    head = {
        "num_cpus": 0,
        "include_dashboard": True,
        "dashboard_port": port,
        "dashboard_agent_listen_port": 0,
    }
    cluster = Cluster(initialize_head=True, connect=False, head_node_args=head)
    try:
        for _ in range(_RAYLETS):
            cluster.add_node(num_cpus=_CPUS)
        pipe.send(None)
        while True:
            _do(pipe.recv(), cluster.head_node)
            pipe.send(None)
    except (EOFError, ConnectionError):
        pass  # the other end was closed, or died while it waited for an answer
    finally:
        cluster.shutdown()


def _do(request: str, head: Any) -> None:
    if request == "kill":
        head.kill_dashboard()
    else:
        head.start_api_server(include_dashboard=True, raise_on_failure=True)
