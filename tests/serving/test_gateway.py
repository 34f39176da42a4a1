"""What the gateway remembers of one request for the next."""

import pytest

from serving import gateway
from sgl.errors import OverloadedError
from tests.serving.endpoint import HELLO, app_of, ask
from tests.serving.fakes import FakeBackend


def test_a_pool_that_is_full_is_not_asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_FULL_S", 60.0)
    backend = FakeBackend(small=OverloadedError("full", 3.0))
    app = app_of(backend)
    replies = [ask(app, HELLO) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [503] * 3
    assert len({reply.text for reply in replies}) == 1
    assert {reply.headers["retry-after"] for reply in replies} == {"3"}
    assert len(backend.guided) == 1
    # The other pool has nothing to do with it.
    assert ask(app, HELLO | {"model": "pair:large"}).status_code == 200


def test_a_pool_that_was_full_is_asked_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_FULL_S", 0.0)
    backend = FakeBackend(small=OverloadedError("full", 3.0))
    app = app_of(backend)
    assert ask(app, HELLO).status_code == 503
    backend.small = None
    assert ask(app, HELLO).status_code == 200
