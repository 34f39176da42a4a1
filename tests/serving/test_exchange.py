"""Where a request's body is parsed."""

import json
from threading import current_thread, main_thread
from typing import Any

import pytest

from serving import exchange
from serving.asks import Ask
from tests.serving.endpoint import HELLO, app_of, ask
from tests.serving.fakes import FakeBackend


@pytest.mark.parametrize(("size", "beside"), [(100, False), (300 << 10, True)])
def test_a_large_body_is_parsed_beside_the_event_loop(
    size: int, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    real = exchange.ask_of

    def watched(*given: Any, **named: Any) -> Ask:
        threads.append(current_thread())
        return real(*given, **named)

    monkeypatch.setattr(exchange, "ask_of", watched)
    body = json.dumps({**HELLO, "user": "x" * size}).encode()
    assert ask(app_of(FakeBackend()), body).status_code == 200
    assert [thread is not main_thread() for thread in threads] == [beside]


def test_what_is_wrong_with_a_large_body_is_told_as_ever() -> None:
    body = json.dumps({**HELLO, "user": "x" * (300 << 10), "n": 2}).encode()
    answer = ask(app_of(FakeBackend()), body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")
