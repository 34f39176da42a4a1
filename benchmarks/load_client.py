"""The load generator: plans in, samples out, a line of JSON each.

Locust, in a process of its own: it replaces the standard library's sockets by gevent's. Its users
send the requests; its counts are left alone, since they know nothing of streams and of retries.
"""

import locust  # isort: skip  # replaces sockets before anything else imports them

import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any, ClassVar

import gevent
from locust.contrib.fasthttp import FastHttpUser
from locust.env import Environment
from locust.exception import StopUser

from benchmarks.load_plan import CHAT, NO_ANSWER, Plan, Sample

_HEADERS = {"content-type": "application/json"}
_PASSING = (NO_ANSWER, 429, 500, 503)
_BACK_OFF_S = 0.5
_MOST_AT_ONCE = 10_000


class _Asker(FastHttpUser):
    """Asks; the plan and the samples are those of the run."""

    abstract = True
    concurrency = _MOST_AT_ONCE
    plan: ClassVar[Plan]
    bodies: ClassVar[Iterator[str]]
    samples: ClassVar[list[Sample]]

    def ask(self) -> None:
        """One request, with its retries."""
        body, at, begun = next(self.bodies), time.time(), time.perf_counter()
        statuses: list[int] = []
        told_when, first_s = True, None
        for attempt in range(self.plan.retries + 1):
            if attempt:
                gevent.sleep(_BACK_OFF_S * 2 ** (attempt - 1))
            status, first_at, retry_after = self._attempt(body)
            statuses.append(status)
            if status in (429, 503):
                told_when = told_when and retry_after
            if status not in _PASSING:
                first_s = first_at and first_at - begun
                break
        taken = time.perf_counter() - begun
        self.samples.append(Sample(at, taken, first_s, tuple(statuses), told_when))

    def _attempt(self, body: str) -> tuple[int, float | None, bool]:
        """Its status, when its first text came, and whether it says when to come again."""
        first_at = None
        with self.client.post(
            CHAT, data=body, headers=_HEADERS, stream=self.plan.stream, catch_response=True
        ) as response:
            response.success()
            status = response.status_code or NO_ANSWER
            if status == 200 and self.plan.stream:
                try:
                    first_at = _first_text(response.stream)
                except (OSError, ValueError):
                    status = NO_ANSWER
            retry_after = bool(response.headers and "retry-after" in response.headers)
        return status, first_at, retry_after


def _first_text(stream: Any) -> float | None:
    """Read events to their end; the moment of the first one with text.

    Raises:
        ValueError: the stream ends early.
    """
    first, line = None, b""
    while chunk := stream.readline(b"\n"):
        line = chunk.strip() or line
        if first is None and b'"content":"' in chunk:
            first = time.perf_counter()
    if line != b"data: [DONE]":
        raise ValueError("a stream that is not whole")
    return first


class _Closed(_Asker):
    @locust.task
    def all_the_time(self) -> None:
        """One after the other."""
        end = time.perf_counter() + self.plan.seconds
        while time.perf_counter() < end:
            self.ask()
        raise StopUser


class _Open(_Asker):
    @locust.task
    def whatever_happens(self) -> None:
        """A Poisson process; every request is a greenlet."""
        draw, begun, when = random.Random(self.plan.seed), time.perf_counter(), 0.0
        asked = []
        while (when := when + draw.expovariate(self.plan.per_s)) < self.plan.seconds:
            gevent.sleep(max(0.0, begun + when - time.perf_counter()))
            asked.append(gevent.spawn(self.ask))
        gevent.joinall(asked)
        raise StopUser


def run(plan: Plan) -> list[Sample]:
    """All requests of a plan, and what became of them."""
    samples: list[Sample] = []
    settings = {
        "plan": plan,
        "bodies": cycle(Path(plan.bodies).read_text().splitlines()),
        "samples": samples,
        "network_timeout": plan.timeout_s,
        "connection_timeout": plan.timeout_s,
    }
    users = plan.users or 1
    kind = type("Asker", (_Closed if plan.users else _Open,), settings | {"abstract": False})
    environment = Environment(user_classes=[kind], host=plan.url)
    runner = environment.create_local_runner()
    runner.start(users, spawn_rate=users)
    assert runner.spawning_greenlet is not None
    runner.spawning_greenlet.join()
    while runner.user_count:
        gevent.sleep(0.02)
    runner.quit()
    return samples


def main() -> None:
    """A plan per line of standard input, its samples on a line of standard output."""
    for line in sys.stdin:
        samples = run(Plan(**json.loads(line)))
        print(json.dumps([asdict(one) for one in samples]), flush=True)


if __name__ == "__main__":
    main()
