"""An endpoint that is asked for more than it can do, and by clients that do not listen."""

import socket
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.asking import Client, Prober, recovered_s
from benchmarks.endpoint import Endpoint, body_of, wait_for, write_bodies
from benchmarks.load import Latency, Loader, outcomes, rate
from benchmarks.load_plan import CHAT, Plan
from benchmarks.processes import Watcher
from testbed.records import Record

Row = dict[str, Any]

TIMES = 4
"""What can be done, so often is asked for."""
IN_TIME_S = 10.0
"""Later than that an answer counts for nothing."""
SLOWER = 1.5
"""Than before the overload: from then on it is over."""
_AFTER_S = 15.0
_LOOK_S = 2.0
_FEW_LOOKS = 6
_MIB = 2**20


def overloaded(
    one: Endpoint,
    loader: Loader,
    records: Sequence[Record],
    folder: Path,
    *,
    capacity: float,
    seconds: float,
    after_s: float = _AFTER_S,
) -> Row:
    """Open loop at several times the capacity, with a client beside it that asks all the time.

    Args:
        one: with its default limits.
        loader: of the load.
        records: to ask.
        folder: for the bodies.
        capacity: answers per second.
        seconds: of overload.
        after_s: in which it should recover.
    """
    client = Client(one.url)
    bodies = [body_of(record, "pair", stream=False) for record in records]
    before = median(client.ask(body)[1] for body in (*bodies, *bodies))
    path = write_bodies(records, "pair", folder, stream=False)
    with Watcher(one.memory, _LOOK_S) as memory, Prober(one.url, bodies) as prober:
        begun = time.time()
        samples = loader.run(Plan(one.url, path, seconds, per_s=TIMES * capacity))
        ended = max(sample.at for sample in samples)
        time.sleep(max(0.0, ended + after_s - time.time()))
    good = rate(samples, begun + seconds / 6, ended, IN_TIME_S)
    answered = [sample.seconds for sample in samples if sample.answered]
    return {
        "part": "overload",
        "seconds": seconds,
        "capacity_per_s": capacity,
        "asked_per_s": len(samples) / seconds,
        **outcomes(samples),
        "answered_ms": asdict(Latency.of(answered)),
        "goodput_per_s": good,
        "goodput_to_capacity": good / capacity,
        "recovered_s": recovered_s(prober.seen, ended, SLOWER * before),
        **course([seen for seen in memory.seen if begun <= seen[0] <= ended]),
    }


def course(looks: Sequence[tuple[float, dict[str, int]]]) -> Row:
    """Of memory; slopes in the second half, where what is filled once has been filled.

    Args:
        looks: at least one: when, and bytes by part. Of fewer than six there are no slopes.
    """
    later = looks[len(looks) // 2 :]
    at = np.array([moment for moment, _ in later]) - later[0][0]
    whole = np.array([sum(held.values()) for _, held in looks]) / _MIB
    slopes: dict[str, float] = {}
    if len(looks) >= _FEW_LOOKS:
        for part in looks[0][1]:
            held = [each[part] / _MIB for _, each in later]
            slopes[part] = 60 * float(np.polyfit(at, held, 1)[0])
        slopes["all"] = sum(slopes.values())
    return {
        "memory_mib": {"begin": whole[0], "peak": max(whole), "end": whole[-1]},
        "memory_mib_per_minute": slopes,
    }


def deaf(one: Endpoint, records: Sequence[Record], count: int) -> Row:
    """Streams that nobody reads: whether others wait for them, and whether they hold a slot.

    Args:
        one: endpoint.
        records: to ask.
        count: of clients that ask, and then hang.
    """
    client = Client(one.url)
    bodies = [body_of(record, "pair:large", stream=False) for record in records]
    before = median(client.ask(body)[1] for body in (*bodies, *bodies))
    host, _, port = one.url.removeprefix("http://").partition(":")
    streamed = body_of(records[0], "pair:large", stream=True)
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(streamed)}\r\n\r\n"
    )
    hung = [socket.create_connection((host, int(port))) for _ in range(count)]
    try:
        for each in hung:
            each.sendall(head.encode() + streamed)
        freed = wait_for(lambda: running(one) == 0, 60)
        meanwhile = median(client.ask(body)[1] for body in (*bodies, *bodies))
    finally:
        for each in hung:
            each.close()
    return {
        "part": "deaf",
        "clients": count,
        "freed_s": freed,
        "before_ms": 1e3 * before,
        "meanwhile_ms": 1e3 * meanwhile,
    }


def running(one: Endpoint) -> float:
    """Requests under way, as its metrics have it."""
    lines = one.text("/metrics").splitlines()
    name = "sgl_serve_num_requests_running"
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))
