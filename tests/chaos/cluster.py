"""A Ray of several raylets on this machine, in a process of its own, any raylet of which may die.

The head has no cores: only drivers, and the actors that are pinned to a driver's node, live there.
"""

import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]
_HEALTH = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
}
"""A dead raylet is noticed within seconds, which by default takes half a minute."""
_ANSWER_S = 120.0


@dataclass(frozen=True)
class Machine:
    """What a raylet pretends to be.

    Attributes:
        num_cpus: logical cores.
        num_gpus: devices that are none.
        labels: of the node.
    """

    num_cpus: int = 2
    num_gpus: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


class ChaosCluster:
    """Up for the block.

    Args:
        machines: the nodes beside the head, at the start.

    Attributes:
        address: for drivers.
        head: pid of the head's raylet, which is never killed: it is the driver's own node.
        raylets: pids of the others.
        nodes: Ray's ids of all nodes that there have been beside the head, by pid.
    """

    def __init__(self, machines: Sequence[Machine] = (Machine(), Machine())) -> None:
        self._folder = tempfile.mkdtemp(prefix="sgl-chaos-")
        # Another interpreter: Ray keeps one cluster per process, and the tests may have theirs.
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end, self._folder))
        self.address = ""
        self.head = 0
        self.raylets: list[int] = []
        self.nodes: dict[int, str] = {}
        self._machines = machines
        self._kinds: dict[int, Machine] = {}

    @property
    def environment(self) -> dict[str, str]:
        """Of a driver that runs on it."""
        return _environment(self._folder)

    def __enter__(self) -> "ChaosCluster":
        self._process.start()
        self.address, self.head = self._answer()
        for machine in self._machines:
            self.add(machine)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pipe.close()
        self._process.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, machine: Machine) -> int:
        """Start a raylet; its pid, once Ray knows the node."""
        pid, node = self._ask("add", machine)
        self.raylets.append(pid)
        self.nodes[pid], self._kinds[pid] = node, machine
        return int(pid)

    def replace(self, raylet: int) -> int:
        """Kill a raylet, as the death of its machine would, and put one of its kind in its place.

        Returns:
            The new one's pid.
        """
        self._ask("kill", raylet)
        self.raylets.remove(raylet)
        return self.add(self._kinds[raylet])

    def _ask(self, *request: object) -> Any:
        self._pipe.send(request)
        return self._answer()

    def _answer(self) -> Any:
        if not self._pipe.poll(_ANSWER_S):
            raise TimeoutError("the cluster's process does not answer")
        return self._pipe.recv()


def wait_until(holds: Callable[[], bool], limit_s: float, what: str) -> None:
    """Poll.

    Raises:
        TimeoutError: it never held.
    """
    until = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {limit_s:g} s in vain: {what}")
        time.sleep(0.05)


def _environment(folder: str) -> dict[str, str]:
    return os.environ | {
        # Apart from other clusters of this machine, whose address Ray keeps in its folder.
        "RAY_TMPDIR": folder,
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


def _serve(pipe: Connection, folder: str) -> None:
    """Start raylets and kill them as told; ends them all when the other end is gone."""
    os.environ |= _environment(folder)
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": _HEALTH}
    cluster = Cluster(initialize_head=True, connect=False, head_node_args=head)
    raylets: dict[int, Any] = {}
    try:
        pipe.send((cluster.address, _pid(cluster.head_node)))
        while True:
            request, *arguments = pipe.recv()
            if request == "add":
                node = cluster.add_node(**asdict(arguments[0]))
                raylets[_pid(node)] = node
                pipe.send((_pid(node), node.node_id))
            else:
                cluster.remove_node(raylets.pop(arguments[0]), allow_graceful=False)
                pipe.send(None)
    except (EOFError, ConnectionError):
        pass  # the other end was closed, or died while it waited for an answer
    finally:
        cluster.shutdown()


def _pid(node: Any) -> int:
    pid: int = node.all_processes["raylet"][0].process.pid
    return pid
