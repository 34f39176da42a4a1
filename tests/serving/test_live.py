"""The whole endpoint: `sgl serve`, Ray Serve, the trained pair, the official client."""

import asyncio
import json
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from openai import APIStatusError, AsyncOpenAI, InternalServerError, OpenAI

import sgl
from sgl.types import Criterion, ImageQuestion, Route
from testbed import model_path
from tests.documents import fences
from tests.serving.live import RECORDS, ROOT, Live, endpoint, messages_of, wait_for

pytestmark = [pytest.mark.ray, pytest.mark.slow]

THRESHOLD, PRUNE_LAYER, KEEP_RATIO = 0.964, 0.09, 0.4
"""Of jobs/serve.yaml."""
WRITTEN = "http://127.0.0.1:8000"
"""Where documents say that the endpoint is."""
KILLS = {"small": 8, "large": 20}
"""After which request a replica of a pool is killed."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    options = [
        *("--set", "listen.replicas=2", "--set", "pools.small.replicas=2"),
        # More than all these tests ask for, the last one excepted.
        *("--set", "limits.requests_per_minute=300"),
    ]
    with endpoint(tmp_path_factory.mktemp("live"), options) as one:
        yield one


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[OpenAI]:
    with OpenAI(api_key="none", base_url=f"{live.url}/v1", max_retries=0) as one:
        yield one


@pytest.fixture(scope="module")
def expected() -> list[sgl.Answer]:
    records = [
        ImageQuestion(one.id, one.question.text, (one.image,), max_new_tokens=64) for one in RECORDS
    ]
    small, large = (sgl.load(model_path(role)) for role in ("small", "large"))
    return sgl.run_cascade(
        small,
        large,
        records,
        threshold=THRESHOLD,
        prune_layer=PRUNE_LAYER,
        keep_ratio=KEEP_RATIO,
        criterion=Criterion.CONFIDENCE,
    )


def test_nothing_is_to_be_warned_of_on_this_machine_alone(live: Live) -> None:
    """The first test: what dies later is told there too."""
    told = [line for line in live.log.read_text().splitlines() if "WARNING" in line]
    # Ray's controller tells that a busy machine is slow.
    assert [line for line in told if "ServeController" not in line] == []


def test_answers_are_those_of_the_cascade(client: OpenAI, expected: list[sgl.Answer]) -> None:
    assert {one.route for one in expected} == {Route.SMALL, Route.LARGE}
    for record, want in zip(RECORDS, expected, strict=True):
        got = client.chat.completions.create(model="pair", messages=messages_of(record))
        own: Any = (got.model_extra or {})["sgl"]
        assert got.choices[0].message.content == want.text
        assert own["route"] == want.route
        assert want.guidance is not None
        assert own["exit_score"] == pytest.approx(want.guidance.exit_score, abs=1e-3)
        assert got.usage is not None
        assert got.usage.prompt_tokens == want.usage.prompt_tokens
        if want.pruning:
            pruning = own["pruning"]
            assert pruning["average_retention"] == pytest.approx(want.pruning.average_retention)
            assert pruning["kept_tokens"] == want.usage.kept_tokens


def test_streams_are_the_answers(client: OpenAI, expected: list[sgl.Answer]) -> None:
    for model in ("pair", "pair:small", "pair:large"):
        for record, want in list(zip(RECORDS, expected, strict=True))[:4]:
            stream = client.chat.completions.create(
                model=model, messages=messages_of(record), stream=True
            )
            chunks = [chunk for chunk in stream if chunk.choices]
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            assert chunks[-1].choices[0].finish_reason == "stop"
            if model == "pair":
                assert text == want.text
            own: Any = (chunks[-1].model_extra or {})["sgl"]
            assert own["route"] == {"pair": want.route}.get(model, model.partition(":")[2])


def test_many_at_once_are_answered_as_alone(live: Live, expected: list[sgl.Answer]) -> None:
    async def ask() -> list[str | None]:
        async with AsyncOpenAI(api_key="none", base_url=f"{live.url}/v1") as client:
            calls = [
                client.chat.completions.create(model="pair", messages=messages_of(record))
                for record in RECORDS * 4
            ]
            return [one.choices[0].message.content for one in await asyncio.gather(*calls)]

    assert asyncio.run(ask()) == [one.text for one in expected] * 4


def test_a_conversation_goes_on_with_words_alone(client: OpenAI) -> None:
    first = messages_of(RECORDS[0])
    turns = [*first, {"role": "assistant", "content": "red"}, *first[:0]]
    got = client.chat.completions.create(
        model="pair", messages=[*turns, {"role": "user", "content": "names ?"}], max_tokens=4
    )
    assert got.choices[0].message.content
    only_text = client.chat.completions.create(
        model="pair:large", messages=[{"role": "user", "content": "what is red A ?"}], max_tokens=4
    )
    assert only_text.usage is not None
    assert only_text.usage.completion_tokens <= 4


def test_a_limit_a_seed_and_a_stop_text_reach_the_models(client: OpenAI) -> None:
    # A caption, so that there is something to cut.
    record = max(RECORDS, key=lambda one: len(one.question.answer.split()))
    ask: dict[str, Any] = {"model": "pair", "messages": messages_of(record)}
    whole = client.chat.completions.create(**ask).choices[0].message.content or ""
    words = whole.split()
    assert len(words) > 3
    cut = client.chat.completions.create(**ask, max_tokens=2).choices[0]
    assert cut.finish_reason == "length"
    assert whole.startswith(cut.message.content or "never")
    stopped = client.chat.completions.create(**ask, stop=[words[2]]).choices[0]
    assert stopped.finish_reason == "stop"
    assert stopped.message.content == whole.partition(words[2])[0].strip()

    def drawn(seed: int) -> str | None:
        got = client.chat.completions.create(**ask, temperature=2, seed=seed)
        return got.choices[0].message.content

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(8)}) > 1


def test_a_bad_record_is_the_clients_fault_and_nobody_elses(client: OpenAI) -> None:
    with pytest.raises(APIStatusError) as caught:
        client.chat.completions.create(
            model="pair", messages=[{"role": "user", "content": "<IMG_CONTEXT> what ?"}]
        )
    assert (caught.value.status_code, caught.value.code) == (400, "ControlTokenError")
    assert "<IMG_CONTEXT>" in caught.value.message
    assert "Traceback" not in caught.value.response.text


def test_the_metrics_are_those_of_all_processes(live: Live, client: OpenAI) -> None:
    def answered() -> float:
        lines = httpx.get(f"{live.url}/metrics").text.splitlines()
        name = "sgl_serve_requests_total"
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    before = answered()
    for _ in range(6):
        client.chat.completions.create(model="pair", messages=messages_of(RECORDS[0]))
    wait_for(lambda: answered() == before + 6, 10)


def test_a_client_that_goes_frees_its_slot(live: Live) -> None:
    body = json.dumps({"model": "pair:large", "messages": messages_of(RECORDS[0]), "stream": True})
    for _ in range(20):
        with httpx.stream(
            "POST",
            f"{live.url}/v1/chat/completions",
            content=body,
            headers={"content-type": "application/json"},
        ) as answer:
            next(answer.iter_bytes())

    def running() -> float:
        lines = httpx.get(f"{live.url}/metrics").text.splitlines()
        name = "sgl_serve_num_requests_running"
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    wait_for(lambda: running() == 0, 20)


@pytest.mark.chaos
def test_a_killed_replica_loses_no_request_that_was_taken(
    live: Live, expected: list[sgl.Answer]
) -> None:
    """Two small replicas, one large one: new requests go to the other, begun ones are retried."""

    async def ask(client: AsyncOpenAI, place: int) -> str | None:
        record = RECORDS[place % len(RECORDS)]
        while True:
            try:
                got = await client.chat.completions.create(
                    model="pair", messages=messages_of(record)
                )
            except InternalServerError as error:
                # While there is no large replica at all, requests that it has not begun may be
                # refused, to be asked again; on a busy machine these are also ones sent before.
                if error.status_code != 503:
                    raise
                await asyncio.sleep(0.5)
            else:
                return got.choices[0].message.content

    async def main() -> list[str | None]:
        async with AsyncOpenAI(api_key="none", base_url=f"{live.url}/v1", max_retries=0) as client:
            calls = []
            for place in range(36):
                calls.append(asyncio.create_task(ask(client, place)))
                await asyncio.sleep(0.1)
                for pool in (pool for pool, after in KILLS.items() if after == place):
                    live.replicas(pool)[0].send_signal(signal.SIGKILL)
            return await asyncio.gather(*calls)

    assert asyncio.run(main()) == [one.text for one in expected] * 3
    wait_for(lambda: len(live.replicas("small")) == 2 and live.is_ready())


def talk(live: Live, parts: Iterable[bytes]) -> tuple[int, bytes]:
    """How many bytes of a request were taken, and the answer's beginning."""
    address = urlsplit(live.url)
    taken = 0
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                taken += len(part)
        except OSError:
            pass  # the other side has had enough
        try:
            return taken, connection.recv(4096)
        except OSError:
            return taken, b""


def test_headers_without_end_are_cut_off(live: Live) -> None:
    lines = (b"x-%d: " % number + b"a" * 10_000 + b"\r\n" for number in range(5_000))
    taken, _ = talk(live, chain([b"GET /ready HTTP/1.1\r\nhost: localhost\r\n"], lines))
    # What the sockets' own buffers hold is taken in any case.
    assert taken < 20_000_000


def test_a_body_without_end_is_refused_where_it_is_too_large(live: Live) -> None:
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: application/json\r\n"
    )
    chunk = b"%x\r\n" % 100_000 + b"a" * 100_000 + b"\r\n"
    taken, answer = talk(
        live, chain([head + b"transfer-encoding: chunked\r\n\r\n"], [chunk] * 2000)
    )
    assert taken < 100_000_000
    assert answer.startswith(b"HTTP/1.1 413")
    _, answer = talk(live, [head + b"content-length: 999999999\r\n\r\n"])
    assert answer.startswith(b"HTTP/1.1 413")


def test_an_answer_has_one_id_and_it_is_what_was_sent(live: Live, client: OpenAI) -> None:
    for path in ("/ready", "/nowhere", "/-/nowhere"):
        for sent in ("mine-1", b"\xff", "two words"):
            answer = httpx.get(f"{live.url}{path}", headers={"x-request-id": sent})
            (told,) = answer.headers.get_list("x-request-id")
            assert (told == sent) is (sent == "mine-1")
    ask = messages_of(RECORDS[0])
    got = client.chat.completions.with_raw_response.create(model="pair", messages=ask)
    assert got.request_id is not None
    assert "," not in got.request_id


def test_rays_own_answers_are_not_for_clients(live: Live) -> None:
    assert httpx.get(f"{live.url}/-/healthz").status_code == 200
    for headers in ({"host": "evil.example"}, {"x-forwarded-for": "203.0.113.7"}):
        for path in ("/-/healthz", "/-/routes"):
            answer = httpx.get(f"{live.url}{path}", headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    body = {"model": "pair", "messages": messages_of(RECORDS[0])}
    for timeout in ("0.0001", b"\xff"):
        answer = httpx.post(
            f"{live.url}/v1/chat/completions",
            json=body,
            headers={"x-request-timeout-seconds": timeout, "x-request-disconnect-disabled": "?1"},
        )
        assert answer.status_code == 200, answer.text
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
    _, refused = talk(live, [head + b"content-length: 999999999\r\n\r\n"])
    assert refused.startswith(b"HTTP/1.1 413")
    assert refused.lower().count(b"\r\nx-request-id:") == 1
    assert b"x-content-type-options: nosniff" in refused
    assert httpx.head(f"{live.url}/ready").status_code == 200


def block_of(document: str, language: str, holding: str) -> str:
    """A block of code in a document, as its reader copies it."""
    blocks = [text for name, text in fences(ROOT / document) if name == language]
    (found,) = [block for block in blocks if holding in block]
    return found


def test_the_guides_curl_works(live: Live) -> None:
    command = block_of("docs/SERVING.md", "bash", "/v1/chat/completions").replace(WRITTEN, live.url)
    said = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True
    ).stdout
    head, _, body = said.partition("\n\n")
    assert head.startswith("HTTP/1.1 200")
    *chunks, end = [line.removeprefix("data: ") for line in body.splitlines() if line]
    assert end == "[DONE]"
    assert "".join(
        one["choices"][0]["delta"].get("content") or "" for one in map(json.loads, chunks)
    )


@pytest.mark.parametrize(
    ("document", "holding", "told"),
    [
        ("README.md", "messages=messages", "small_device_s"),
        ("docs/SERVING.md", "from openai import OpenAI", "0."),
    ],
)
def test_the_documents_python_works(
    live: Live, capsys: pytest.CaptureFixture[str], document: str, holding: str, told: str
) -> None:
    messages = messages_of(RECORDS[0])
    picture = messages[0]["content"][0]["image_url"]["url"]
    code = block_of(document, "python", holding).replace(WRITTEN, live.url)
    names: dict[str, Any] = {"messages": messages}
    exec(code.replace("data:image/png;base64,...", picture), names)
    said = capsys.readouterr().out
    assert names["answer"].choices[0].message.content in said
    assert told in said


def test_a_local_client_cannot_speak_for_others(live: Live) -> None:
    """The last test: it asks more than this machine may in a minute."""

    async def asked(client: httpx.AsyncClient, address: str) -> int:
        path, headers = f"{live.url}/v1/chat/completions", {"x-forwarded-for": address}
        return (await client.post(path, json={}, headers=headers)).status_code

    async def until_refused() -> list[int]:
        async with httpx.AsyncClient(timeout=60) as client:
            for part in range(40):
                calls = [asked(client, f"203.0.{part}.{number}") for number in range(50)]
                found = await asyncio.gather(*calls)
                if set(found) != {400}:
                    return found
        raise AssertionError("whoever says so is somebody else")

    assert set(asyncio.run(until_refused())) <= {400, 429}
