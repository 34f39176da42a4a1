"""A whole endpoint with keys, replicas that come and go, and its end."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, InternalServerError

from tests.serving.live import RECORDS, ROOT, Live, endpoint, messages_of, wait_for

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    file = tmp_path_factory.mktemp("keys") / "keys.yaml"
    command = [sys.executable, "-m", "jobs.cli", "key", "alice", "--file", str(file)]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return made.stdout.strip(), file


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, key: tuple[str, Path]) -> Iterator[Live]:
    options = [
        *("--keys", str(key[1]), "--degrade", "small"),
        *("--set", "pools.small.max_replicas=2", "--set", "pools.small.upscale_delay_s=0"),
        *("--set", "models.small.batch_size=2"),
    ]
    with endpoint(tmp_path_factory.mktemp("live"), options) as one:
        yield one


def answers(live: Live, key: str, count: int, **settings: Any) -> list[Any]:
    async def ask() -> list[Any]:
        async with AsyncOpenAI(api_key=key, base_url=f"{live.url}/v1", max_retries=5) as client:
            calls = [
                client.chat.completions.create(
                    messages=messages_of(RECORDS[place % len(RECORDS)]),
                    **({"model": "pair"} | settings),
                )
                for place in range(count)
            ]
            return await asyncio.gather(*calls)

    return asyncio.run(ask())


def test_only_who_has_a_key_is_answered(live: Live, key: tuple[str, Path]) -> None:
    body = {"model": "pair", "messages": messages_of(RECORDS[0])}
    refused = httpx.post(f"{live.url}/v1/chat/completions", json=body)
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "invalid_api_key"
    assert httpx.get(f"{live.url}/metrics").status_code == 401
    assert httpx.get(live.url).status_code == 200
    (answer,) = answers(live, key[0], 1)
    assert answer.choices[0].message.content


def test_replicas_come_with_the_load(live: Live, key: tuple[str, Path]) -> None:
    def there_are_two() -> bool:
        answers(live, key[0], 24, model="pair:small")
        return len(live.replicas("small")) == 2

    wait_for(there_are_two)


def test_without_the_large_model_the_small_answer_stands_and_says_so(
    live: Live, key: tuple[str, Path]
) -> None:
    for replica in live.replicas("large"):
        replica.send_signal(signal.SIGKILL)
    found = answers(live, key[0], len(RECORDS), extra_body={"sgl": {"threshold": 2}})
    told = [answer.model_extra["sgl"] for answer in found]
    assert any(one["degraded"] for one in told)
    for one, answer in zip(told, found, strict=True):
        if one["degraded"]:
            assert one["route"] == "small"
            assert answer.choices[0].message.content == one["small_answer"]
    wait_for(lambda: httpx.get(f"{live.url}/ready").json()["pools"]["large"]["replicas"] == 1)


def test_what_is_under_way_is_finished_before_the_end(live: Live, key: tuple[str, Path]) -> None:
    """The last test: it ends the endpoint, which ends by itself."""

    async def main() -> tuple[float, list[Any]]:
        async with AsyncOpenAI(api_key=key[0], base_url=f"{live.url}/v1", max_retries=0) as client:
            calls = [
                asyncio.create_task(
                    client.chat.completions.create(
                        model="pair:large", messages=messages_of(record), max_tokens=64
                    )
                )
                for record in RECORDS
            ]
            while not (taken := await asyncio.to_thread(running, live, key[0])):
                await asyncio.sleep(0.02)
            live.end()
            return taken, await asyncio.gather(*calls, return_exceptions=True)

    taken, found = asyncio.run(main())
    late = [one for one in found if isinstance(one, InternalServerError)]
    assert {one.status_code for one in late} <= {503}
    told = [one.choices[0].message.content for one in found if one not in late]
    assert len(told) >= taken
    assert all(told)


def running(live: Live, key: str) -> float:
    found = httpx.get(f"{live.url}/metrics", headers={"authorization": f"Bearer {key}"})
    name = "sgl_serve_num_requests_running "
    return sum(float(x.split()[-1]) for x in found.text.splitlines() if x.startswith(name))
