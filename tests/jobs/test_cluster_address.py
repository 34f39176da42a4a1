import pytest

from jobs.cluster_address import address_of, headers_of
from jobs.settings import whereabouts
from pipeline.submit_config import SubmitConfig
from sgl.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_JOB_HEADERS"):
        monkeypatch.delenv(name, raising=False)


def test_what_is_written_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://other:8265")
    assert address_of(SubmitConfig(address="http://head:8265")) == "http://head:8265"
    assert address_of(SubmitConfig()) == "http://other:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://third")
    assert address_of(SubmitConfig()) == "https://third"


@pytest.mark.parametrize("address", ["auto", "head:6379", "ray://head:10001"])
def test_an_address_of_rays_own_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigurationError, match="RAY_ADDRESS: address: write that of the cluster"):
        address_of(SubmitConfig())


def test_no_address_is_asked_for() -> None:
    with pytest.raises(ConfigurationError, match="--address: which cluster"):
        address_of(SubmitConfig())


def test_given_headers_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_HEADERS", '{"a": "1", "b": "2"}')
    assert headers_of(["b=3", "c=4=5"]) == {"a": "1", "b": "3", "c": "4=5"}


@pytest.mark.parametrize("text", ["secret", "[1]", '{"a": 1}'])
def test_headers_that_are_none_are_refused_and_not_repeated(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="NAME=VALUE") as refused:
        headers_of(["secret"])
    assert "secret" not in str(refused.value)
    monkeypatch.setenv("RAY_JOB_HEADERS", text)
    with pytest.raises(ConfigurationError, match="RAY_JOB_HEADERS: write JSON") as refused:
        headers_of([])
    assert text not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    ["http://me:secret@head:8265", "https://secret@head", "me:secret@head:8265"],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigurationError, match="RAY_ADDRESS: address: ") as refused:
        address_of(SubmitConfig())
    assert "secret" not in str(refused.value)
    with pytest.raises(ConfigurationError, match=r"submit\.address: ") as refused:
        whereabouts(None, [], {"submit.address": address})
    assert "secret" not in str(refused.value)
