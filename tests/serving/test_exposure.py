from pathlib import Path
from typing import Any

import pytest

from serving.exposure import bounds_warning, warnings_of
from serving.key_file import add_key
from serving.proxy import CALLBACK, environment
from tests.serving.asgi import config_of

WIDE = {"host": "0.0.0.0"}
HTTP = {"allow_hosts": ["images.example.org"], "allow_plain_http": True}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)


def test_the_defaults_are_nothing_to_warn_of() -> None:
    assert warnings_of(config_of()) == []


def test_a_ray_without_tokens_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    (told,) = warnings_of(config_of())
    assert "RAY_AUTH_MODE" in told


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "box.example", ""])
def test_beyond_loopback_without_keys_is_told_first_and_loudly(host: str) -> None:
    first = warnings_of(config_of(listen={"host": host, "port": 9000}))[0]
    assert first.startswith("ANYBODY")
    assert f"{host}:9000" in first


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_is_not(host: str) -> None:
    assert warnings_of(config_of(listen={"host": host})) == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"listen": {"cors_origins": ("*",)}}, "any page that anybody here opens"),
        ({"listen": WIDE}, "unencrypted"),
        ({"listen": WIDE}, "as much as it likes"),
        ({"http": HTTP}, "allow_plain_http"),
    ],
)
def test_what_is_open_is_told(settings: dict[str, Any], says: str) -> None:
    assert any(says in warning for warning in warnings_of(config_of(**settings)))


def test_with_keys_less_is_open(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    add_key(str(path), "alice")
    limits = {"requests_per_minute": 60}
    listen = {**WIDE, "cors_origins": ("*",)}
    told = warnings_of(config_of(listen=listen, keys=str(path), limits=limits))
    assert len(told) == 2
    assert "with a key that they have" in told[0]
    assert "unencrypted" in told[1]
    path.chmod(0o644)
    told = warnings_of(config_of(keys=str(path)))
    assert told == [f"{path} is readable by others; chmod 600 it"]


def test_a_proxy_without_bounds_is_told() -> None:
    assert bounds_warning(environment(config_of())[CALLBACK]) is None
    for other in (None, "", "somebody.elses:middlewares"):
        assert CALLBACK in str(bounds_warning(other))
