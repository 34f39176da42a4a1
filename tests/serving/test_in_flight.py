import asyncio
import random
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.responses import JSONResponse, Response, StreamingResponse

from serving.client import Client
from serving.guarded import Admission, Refusals, guarded
from serving.in_flight import FullError, InFlight
from serving.metrics import Metrics
from tests.serving.asgi import ASK, JSON_CHUNKED, Application, Wire, browser, config_of, scope_of

CONFIG = config_of(
    limits={
        "max_in_flight": 5,
        "max_in_flight_bytes": 1000,
        "max_body_bytes": 600,
        "body_deadline_s": 0.2,
    }
)


def test_what_is_above_the_limit_is_refused_at_once_and_comes_in_later() -> None:
    begun, go_on = [], asyncio.Event()

    async def waits(client: Client) -> Response:
        begun.append(client)
        await go_on.wait()
        return JSONResponse({})

    async def run() -> None:
        application = Application(waits)
        async with browser(guarded(application.app(), CONFIG)) as client:
            asked = [asyncio.create_task(client.post(ASK, json={})) for _ in range(5)]
            while len(begun) < 5:
                await asyncio.sleep(0.01)
            refused = await client.post(ASK, json={})
            assert refused.status_code == 503
            assert refused.json()["error"]["type"] == "overloaded_error"
            assert int(refused.headers["retry-after"]) >= 1
            assert (await client.get("/metrics")).status_code == 200
            go_on.set()
            assert {(await one).status_code for one in asked} == {200}
            assert (await client.post(ASK, json={})).status_code == 200

    asyncio.run(run())


def test_bytes_are_counted_as_they_come_and_what_is_held_besides() -> None:
    """Each byte of a body twice, for what is read of it lies beside it."""
    held: list[str] = []

    async def holds(client: Client) -> Response:
        client.hold(500)
        try:
            client.hold(500)
        except FullError as error:
            held.append(str(error))
        return JSONResponse({})

    whole = Admission(Application(holds).app(), CONFIG, lambda: 0.0, Refusals(Metrics()))
    wire = Wire([b"x" * 100, b"x" * 100])
    asyncio.run(whole(scope_of(*JSON_CHUNKED), wire.receive, wire.send))
    assert wire.status == 200
    assert held == ["the requests under way hold too much"]
    large = Wire([b"x" * 550])
    asyncio.run(whole(scope_of(*JSON_CHUNKED), large.receive, large.send))
    assert large.status == 503
    assert (whole.in_flight.requests, whole.in_flight.bytes) == (0, 0)


def test_a_request_that_has_ended_holds_nothing_more() -> None:
    """A thread that still decodes its picture is told to give up."""
    whole = InFlight(1, 100)
    with whole.stay(counted=True) as stay:
        stay.hold(50)
    with pytest.raises(FullError, match="ended"):
        stay.hold(1)
    assert whole.bytes == 0


def test_threads_may_hold_at_the_same_time() -> None:
    whole = InFlight(1, 10**9)
    with whole.stay(counted=True) as stay:
        threads = [Thread(target=lambda: [stay.hold(1) for _ in range(2000)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert whole.bytes == 8000
    assert whole.bytes == 0


ENDS = ("answers", "raises", "streams", "breaks", "holds", "hangs", "leaves", "drips", "large")


async def _one(whole: Admission, end: str, seed: int) -> None:
    """One request and the way in which it ends; some are cancelled by their server."""
    dice = random.Random(seed)
    parts: list[bytes | None] = [b"x" * dice.randrange(100)] * 2
    if end == "leaves":
        parts[1] = None
    if end == "large":
        parts = [b"x" * 700]
    wire = Wire(parts, dice.random() / 100, more=end == "drips")
    scope = scope_of(*JSON_CHUNKED, ("x-end", end))
    task = asyncio.create_task(whole(scope, wire.receive, wire.send))
    await asyncio.sleep(dice.random() / 20)
    if end == "hangs" or dice.random() < 0.3:
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class _Ends:
    """An application of ASGI whose requests end as their header says."""

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        end = dict(scope["headers"])[b"x-end"].decode()
        client: Client = scope["state"]["client"]
        client.hold(10)
        if end == "raises":
            raise RuntimeError("a fault")
        if end == "holds":
            client.hold(10**6)
        if end == "hangs":
            await asyncio.Event().wait()

        async def text():  # type: ignore[no-untyped-def]
            yield "a"
            await asyncio.sleep(0.01)
            if end == "breaks":
                raise RuntimeError("half-way")
            yield "b"

        await StreamingResponse(text())(scope, receive, send)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ENDS), st.integers(0, 2**16)), max_size=20))
def test_the_counts_come_back_to_nothing_however_requests_end(
    requests: list[tuple[str, int]],
) -> None:
    async def run() -> None:
        whole = Admission(_Ends(), CONFIG, lambda: 0.0, Refusals(Metrics()))
        await asyncio.gather(*(_one(whole, end, seed) for end, seed in requests))
        assert (whole.in_flight.requests, whole.in_flight.bytes) == (0, 0)

    asyncio.run(run())
