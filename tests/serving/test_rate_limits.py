import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.responses import JSONResponse, Response

from serving import rate_limits
from serving.api_errors import ApiError
from serving.client import Client
from serving.config import LimitsConfig
from serving.guarded import guarded
from serving.key_file import add_key
from serving.rate_limits import RateLimits, client_at, duration
from tests.serving.asgi import ASK, Application, Clock, browser, config_of

QUESTION = {"messages": []}


def limits(requests: float | None = None, tokens: float | None = None) -> LimitsConfig:
    return LimitsConfig(requests_per_minute=requests, tokens_per_minute=tokens)


def test_requests_above_the_limit_are_refused_until_the_time_that_is_told() -> None:
    clock = Clock()
    account = RateLimits(limits(requests=6), 1, clock).of("a")
    for _ in range(6):
        account.admit()
    with pytest.raises(ApiError) as refused:
        account.admit()
    assert (refused.value.status, refused.value.kind) == (429, "rate_limit_error")
    assert refused.value.headers() == {"retry-after": "10"}
    clock.now += 9
    with pytest.raises(ApiError):
        account.admit()
    clock.now += 1
    account.admit()


def test_tokens_are_charged_afterwards_and_a_debt_is_waited_for() -> None:
    clock = Clock()
    account = RateLimits(limits(tokens=600), 1, clock).of("a")
    account.admit()
    account.charge(900)
    with pytest.raises(ApiError, match="tokens") as refused:
        account.admit()
    assert refused.value.headers() == {"retry-after": "31"}
    clock.now += 31
    account.admit()


def test_each_client_has_its_own_and_a_process_its_share() -> None:
    rates = RateLimits(limits(requests=4), 0.5, Clock())
    for name in ("a", "b"):
        for _ in range(2):
            rates.of(name).admit()
        with pytest.raises(ApiError):
            rates.of(name).admit()


def test_clients_that_are_forgotten_are_those_that_were_not_seen_for_the_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limits, "_MAX_CLIENTS", 3)
    rates = RateLimits(limits(requests=1), 1, Clock())
    for name in ("a", "b", "c"):
        rates.of(name).admit()
    held = rates.of("a")
    for number in range(100):
        rates.of(f"x{number}")
        assert rates.of("a") is held
    rates.of("b").admit()


@pytest.mark.parametrize("clients", [4, 100])
def test_a_debt_is_not_forgotten_for_other_names(
    clients: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "_MAX_CLIENTS", 10)
    clock = Clock()
    rates = RateLimits(limits(requests=60, tokens=60), 1, clock)
    rates.of("debtor").charge(1_000_000)
    for _ in range(3):
        for number in range(clients):
            rates.of(f"x{number}").admit()
            clock.now += 0.1
    with pytest.raises(ApiError, match="tokens"):
        rates.of("debtor").admit()
    assert len(rates._accounts) <= 10


def test_what_costs_nothing_makes_no_account() -> None:
    app = guarded(Application().app(), config_of(limits={"requests_per_minute": 1}), Clock())

    async def look() -> list[httpx.Response]:
        async with browser(app) as client:
            return [await client.get(path) for path in ("/health", "/", "/v1/models")]

    for answer in asyncio.run(look()):
        assert answer.status_code == 200
        assert not any(name.startswith("x-ratelimit") for name in answer.headers)


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, "unknown"),
        ("a\nb", "unknown"),
    ],
)
def test_whom_an_address_stands_for(address: str | None, client: str) -> None:
    assert client_at(address) == client


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0ms"), (0.25, "250ms"), (8.64, "8.64s"), (360, "6m0s")]
)
def test_times_are_written_as_openai_has_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_answers_tell_how_matters_stand_and_refusals_when_to_come_again(tmp_path: Path) -> None:
    path, clock = str(tmp_path / "keys.yaml"), Clock()
    key = add_key(path, "alice", requests_per_minute=2)
    headers = {"Authorization": f"Bearer {key}"}
    config = config_of(keys=path, limits={"requests_per_minute": 1000})

    async def run() -> None:
        async with browser(guarded(Application().app(), config, clock)) as client:
            first = await client.post(ASK, json=QUESTION, headers=headers)
            assert first.status_code == 200
            assert first.headers["x-ratelimit-limit-requests"] == "2"
            assert first.headers["x-ratelimit-remaining-requests"] == "1"
            assert first.headers["x-ratelimit-reset-requests"] == "30.00s"
            await client.post(ASK, json=QUESTION, headers=headers)
            refused = await client.post(ASK, json=QUESTION, headers=headers)
            assert refused.status_code == 429
            assert refused.json()["error"]["type"] == "rate_limit_error"
            assert refused.headers["retry-after"] == "30"
            assert refused.headers["x-ratelimit-remaining-requests"] == "0"
            # What costs nothing is not counted.
            assert (await client.get("/v1/models", headers=headers)).status_code == 200
            clock.now += 30
            again = await client.post(ASK, json=QUESTION, headers=headers)
            assert again.status_code == 200

    asyncio.run(run())


def test_without_keys_an_address_is_a_client_and_says_nothing_else() -> None:
    config = config_of(limits={"requests_per_minute": 1})
    app = guarded(Application().app(), config, Clock())

    async def ask(address: str, **headers: str) -> int:
        async with browser(app, address) as client:
            return (await client.post(ASK, json=QUESTION, headers=headers)).status_code

    assert asyncio.run(ask("203.0.113.1")) == 200
    assert asyncio.run(ask("203.0.113.1")) == 429
    assert asyncio.run(ask("203.0.113.1", **{"X-Forwarded-For": "203.0.113.9"})) == 429
    assert asyncio.run(ask("203.0.113.2")) == 200


def test_the_application_charges_tokens() -> None:
    async def costs(client: Client) -> Response:
        client.charge(100)
        return JSONResponse({})

    config = config_of(limits={"tokens_per_minute": 60})
    app = guarded(Application(costs).app(), config, Clock())

    async def run() -> list[int]:
        async with browser(app) as client:
            return [(await client.post(ASK, json=QUESTION)).status_code for _ in range(2)]

    assert asyncio.run(run()) == [200, 429]
