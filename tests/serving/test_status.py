"""Health, readiness, models, version, metrics, and errors of places that there are not."""

import asyncio
import pickle
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.handover import Rate
from serving.backend import PoolState
from serving.config import Degrade
from serving.metrics import COUNTERS, GAUGES, HISTOGRAMS, PREFIX, Metrics, render
from serving.status import Lifecycle
from serving.surroundings import Prices
from sgl.errors import OverloadedError
from tests.serving.endpoint import CHAT, HELLO, app_of, ask, get, http
from tests.serving.fakes import FakeBackend

UP, DOWN = PoolState(1, 1), PoolState(0, 1)


def test_the_process_lives_whatever_the_models_do() -> None:
    assert get(app_of(FakeBackend(pools={})), "/health").json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models"])
def test_balancers_may_probe_by_head(path: str) -> None:
    async def run() -> httpx.Response:
        async with http(app_of(FakeBackend())) as client:
            return await client.head(path)

    assert asyncio.run(run()).status_code == 200


@pytest.mark.parametrize(
    ("pools", "degrade", "status"),
    [
        ({"small": UP, "large": UP}, Degrade.ERROR, 200),
        ({"small": UP, "large": DOWN}, Degrade.ERROR, 503),
        ({"small": UP, "large": DOWN}, Degrade.SMALL, 200),
        ({"small": DOWN, "large": UP}, Degrade.SMALL, 503),
        ({}, Degrade.SMALL, 503),
    ],
)
def test_it_is_ready_while_the_pools_that_it_needs_can_answer(
    pools: dict[str, PoolState], degrade: Degrade, status: int
) -> None:
    answer = get(app_of(FakeBackend(pools=pools), degrade=degrade), "/ready")
    assert answer.status_code == status
    if status == 503:
        assert answer.json()["error"]["code"] == "not_ready"
        assert answer.headers["retry-after"] == "5"


def test_it_is_not_ready_while_it_drains_and_still_answers() -> None:
    lifecycle = Lifecycle()
    app = app_of(FakeBackend(), {"lifecycle": lifecycle})
    assert get(app, "/ready").json()["pools"]["large"] == {"replicas": 2, "wanted": 2}
    lifecycle.draining = True
    assert get(app, "/ready").status_code == 503
    assert ask(app, HELLO).status_code == 200


def test_a_backend_that_cannot_be_asked_is_not_ready() -> None:
    class Silent(FakeBackend):
        async def states(self) -> dict[str, PoolState]:
            raise ConnectionError("secret")

    answer = get(app_of(Silent()), "/ready")
    assert answer.status_code == 503
    assert "secret" not in answer.text


def test_models_are_listed_and_found_one_by_one() -> None:
    app = app_of(FakeBackend())
    listed = get(app, "/v1/models").json()["data"]
    assert [model["id"] for model in listed] == ["pair", "pair:small", "pair:large"]
    for name in ("pair", "pair:small", "pair@0.5"):
        assert get(app, f"/v1/models/{name}").json()["id"] == name
    missing = get(app, "/v1/models/other")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/nothing", 404, "not_found"),
        (CHAT, 405, "method_not_allowed"),
        ("/docs", 404, "not_found"),
        ("/health/", 404, "not_found"),
    ],
)
def test_other_places_and_methods_answer_in_the_same_shape(
    path: str, status: int, code: str
) -> None:
    answer = get(app_of(FakeBackend()), path)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (status, "invalid_request_error")
    assert error["code"] == code
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("path", ["/health", "/nothing", "/v1/models", CHAT])
@pytest.mark.parametrize(
    ("wished", "kept"),
    [("mine-1.2:3_4", True), ("a" * 64, True), ("a" * 65, False), ("a b", False), ("ä", False)],
)
def test_every_answer_has_an_id_and_a_sane_one_of_the_clients_own(
    path: str, wished: str, kept: bool
) -> None:
    headers: Any = {"x-request-id": wished.encode("latin-1")}
    found = get(app_of(FakeBackend()), path, **headers).headers["x-request-id"]
    assert (found == wished) if kept else found.startswith("req-")


def test_an_exception_outside_of_every_route_is_an_error_of_ours() -> None:
    class Broken(Metrics):
        def snapshot(self) -> Any:
            raise RuntimeError("secret")

    answer = get(app_of(FakeBackend(), {"metrics": Broken()}), "/metrics")
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
    assert answer.headers["x-request-id"] in answer.text
    assert "secret" not in answer.text


def exported(text: str) -> dict[tuple[str, ...], float]:
    """Samples by name and labels' values, by the labels' names."""
    return {
        (sample.name.removeprefix(PREFIX), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_metrics_tell_what_has_happened() -> None:
    backend = FakeBackend()
    app = app_of(
        backend, {"prices": Prices(Rate(2.0, 1800.0), Rate(1.0, 7200.0))}, degrade=Degrade.SMALL
    )
    ask(app, {**HELLO, "stream": True, "model": "pair@0.5"})
    backend.score = 0.3
    ask(app, HELLO)
    backend.large = OverloadedError("full", 1.0)
    ask(app, HELLO)
    ask(app, {**HELLO, "model": "pair:large"})
    ask(app, b"{")
    found = exported(get(app, "/metrics").text)
    expected = {
        ("requests_total", "pair", "small", "200"): 2,
        ("requests_total", "pair", "large", "200"): 1,
        ("requests_total", "pair:large", "none", "503"): 1,
        ("requests_total", "none", "none", "400"): 1,
        ("exits_total",): 1,
        ("escalations_total",): 1,
        ("degraded_total", "large_overloaded"): 1,
        ("refused_total", "large_overloaded", "503"): 1,
        ("refused_total", "invalid_json", "400"): 1,
        ("prompt_tokens_total", "small"): 60,
        ("generation_tokens_total", "large"): 3,
        ("device_seconds_total", "small"): 1.5,
        ("cost_usd_total",): 0.75 + 2 * 1.5,
        ("num_requests_running",): 0,
        ("e2e_request_latency_seconds_count", "small"): 2,
        ("time_to_first_token_seconds_count", "small"): 1,
        ("request_queue_time_seconds_count", "large"): 1,
        ("exit_score_bucket", "0.3"): 2,
        ("exit_score_bucket", "+Inf"): 3,
        ("average_retention_count",): 1,
        ("average_retention_sum",): 0.352,
    }
    assert {name: found.get(name) for name in expected} == pytest.approx(expected)


def test_processes_add_up_and_what_was_sent_does_not_change() -> None:
    ours, theirs = Metrics(), Metrics()
    for metrics in (ours, theirs):
        metrics.count("refused", "400", "invalid_json")
        metrics.observe("exit_score", 0.42)
    sent = pickle.loads(pickle.dumps(theirs.snapshot()))
    kept = ours.snapshot()
    ours.count("refused", "400", "invalid_json")
    ours.observe("exit_score", 2.0)
    found = exported(render([kept, sent]).decode())
    assert found["refused_total", "invalid_json", "400"] == 2
    assert found["exit_score_bucket", "0.4"] == 0
    assert found["exit_score_bucket", "0.45"] == found["exit_score_count",] == 2


def test_a_value_that_is_no_number_spoils_no_sum() -> None:
    metrics = Metrics()
    metrics.observe("exit_score", float("nan"))
    metrics.observe("exit_score", 0.5)
    assert exported(render([metrics.snapshot()]).decode())["exit_score_sum",] == 0.5


def test_the_version_is_the_softwares_own() -> None:
    app = app_of(FakeBackend())
    assert get(app, "/version").json() == {"version": app.version}


def test_all_processes_are_asked_where_there_are_several() -> None:
    other = Metrics()
    other.count("exits", by=3)

    async def gather() -> Any:
        return [other.snapshot(), other.snapshot()]

    app = app_of(FakeBackend(), {"gather": gather})
    assert exported(get(app, "/metrics").text)["exits_total",] == 6


def test_the_documentation_tells_every_metric() -> None:
    text = (Path(__file__).parents[2] / "docs" / "SERVING.md").read_text()
    names = [f"{name}_total" for name in COUNTERS] + [*GAUGES, *HISTOGRAMS]
    assert [name for name in names if f"`{PREFIX}{name}`" not in text] == []
