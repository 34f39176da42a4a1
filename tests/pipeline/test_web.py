"""Fetching over http(s) from a real server on loopback."""

import datetime
import pickle
import socket
import ssl
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.config import InputConfig
from pipeline.http_config import HttpConfig
from pipeline.references import Fetcher
from pipeline.web import Web, is_public
from sgl.errors import ImageError, ImageFetchError, ImageNotFoundError, ImageTooLargeError
from tests.pipeline.inputs import png
from tests.pipeline.web_server import (
    accept_loopback,
    body,
    dripping,
    endless,
    in_turn,
    redirect,
    reset,
    serving,
    silent,
    web,
)

DATA = png(3)
LIMIT = 100_000


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_picture_comes_over_http_and_nothing_of_ours_goes_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving({"/a%20b.png": body(DATA)}) as server:
        fetcher = Fetcher(LIMIT, web())
        assert fetcher.fetch({"uri": f"{server.url}/a b.png?key=a%2Fb&x=ü"}) == DATA
        ((path, headers),) = server.seen
    assert path == "/a%20b.png?key=a%2Fb&x=%C3%BC"
    assert headers.pop("Host") == f"localhost:{server.port}"
    assert set(headers) == {"Accept", "Accept-Encoding", "User-Agent"}


def test_redirects_are_followed_relative_and_absolute() -> None:
    answers = {"/one": redirect("two?x=1", 301), "/b.png": body(DATA)}
    with serving(answers) as server:
        answers["/two"] = redirect(f"{server.url}/b.png", 307)
        assert web().get(f"{server.url}/one", "a", LIMIT) == DATA
        with pytest.raises(ImageFetchError, match="more redirects"):
            web(max_redirects=1).get(f"{server.url}/one", "a", LIMIT)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("http://10.0.0.1/x.png", "not in http.allow_hosts"),
        ("http://169.254.169.254/latest/meta-data", "not in http.allow_hosts"),
        ("http://metadata.internal/x.png", "address that is not public"),
        ("http://127.0.0.2/x.png", "not in http.allow_hosts"),
        ("ftp://localhost/x.png", "not an http"),
        ("file:///etc/passwd", "not an http"),
        ("http://user:word@localhost/x.png", "credentials"),
        ("http://[", "not a URL"),
        ("", "more redirects"),
    ],
)
def test_a_redirect_goes_through_all_checks_again(
    target: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def lookup(host: str, *rest: Any, **more: Any) -> Any:
        return resolve("10.0.0.1" if host == "metadata.internal" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    allowed = ("localhost", "metadata.internal")
    with serving({"/a.png": redirect(target)}) as server:
        with pytest.raises(ImageFetchError, match=says) as refused:
            web(allow_hosts=allowed).get(f"{server.url}/a.png", "a.png", LIMIT)
        assert {path for path, _ in server.seen} == {"/a.png"}
    assert str(refused.value).startswith("a.png: ")


def test_a_name_that_changes_its_address_is_connected_where_it_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter(["127.0.0.1", "10.0.0.1", "10.0.0.1"])
    resolve = socket.getaddrinfo

    def rebinding(host: str, *rest: Any, **more: Any) -> Any:
        return resolve(next(answers) if host == "rebinding.test" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    fetch = web(allow_hosts=("rebinding.test",))
    with serving({"/a.png": body(DATA)}) as server:
        url = f"http://rebinding.test:{server.port}/a.png"
        assert fetch.get(url, "a", LIMIT) == DATA
        with pytest.raises(ImageFetchError, match="not public"):
            fetch.get(url, "a", LIMIT)
        assert server.seen[0][1]["Host"] == f"rebinding.test:{server.port}"


def test_one_bad_address_among_good_ones_refuses_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(host: str, port: int, **_: Any) -> Any:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("127.0.0.1", port)), (*kind, ("192.168.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with pytest.raises(ImageFetchError, match="not public"):
        web().get("http://localhost/a.png", "a", LIMIT)


def test_loopback_is_refused_without_the_tests_own_judge() -> None:
    with serving({"/a.png": body(DATA)}) as server:
        config = web().config
        for host in ("localhost", "127.0.0.1"):
            url = f"http://{host}:{server.port}/a.png"
            with pytest.raises(ImageFetchError, match="not public"):
                Web(config).get(url, "a", LIMIT)
        assert server.seen == []


@pytest.mark.parametrize("host", ["0x7f.1", "2130706433", "127.1", "0177.0.0.1"])
def test_odd_spellings_of_an_address_are_judged_by_what_they_mean(host: str) -> None:
    config = HttpConfig(allow_hosts=(host,), allow_plain_http=True, retries=0)
    with pytest.raises(ImageFetchError, match="not public"):
        Web(config).get(f"http://{host}/a.png", "a", LIMIT)


@pytest.mark.parametrize(
    "address",
    [
        *("10.1.2.3", "172.16.0.1", "192.168.1.1", "127.0.0.1", "169.254.169.254", "0.0.0.0"),
        *("100.64.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1"),
        *("198.18.0.1", "::", "::1", "fe80::1", "fc00::1", "fd12::1", "fec0::1", "ff02::1"),
        *("::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001:db8::1"),
        *("192.0.0.192", "192.0.0.8", "192.0.0.9", "168.63.129.16", "::ffff:168.63.129.16"),
        *("2001:0:4136:e378:8000:63bf:3fff:fdd2", "fd00:ec2::254"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (body(b"", 404), ImageNotFoundError, "no such file"),
        (body(b"", 410), ImageNotFoundError, "no such file"),
        (body(b"", 403), ImageFetchError, "answered 403"),
        (body(b"", 500), ImageFetchError, "answered 500"),
        (body(b"", 204), ImageFetchError, "answered 204"),
        (body(bytes(LIMIT + 1)), ImageTooLargeError, "max_image_bytes"),
        (body(b"x", length=10**15), ImageTooLargeError, "max_image_bytes"),
        (endless, ImageTooLargeError, "max_image_bytes"),
        (body(b"short", length=50), ImageFetchError, "a.png: "),
        (reset, ImageFetchError, "the connection failed"),
        (lambda request: request.wfile.write(b"junk\r\n\r\n"), ImageFetchError, "failed"),
        (lambda request: None, ImageFetchError, "the connection failed"),
    ],
)
def test_answers_that_are_no_picture(answer: Any, error: type[ImageError], says: str) -> None:
    with serving({"/a.png": answer}) as server:
        with pytest.raises(error, match=says) as refused:
            web().get(f"{server.url}/a.png", "a.png", LIMIT)
        assert type(refused.value) is error
        assert str(server.port) not in str(refused.value)


def test_a_server_that_is_not_there_is_refused() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(ImageFetchError, match="cannot be reached"):
            web().get(f"http://localhost:{port}/a.png", "a", LIMIT)


def test_silence_ends_with_the_read_timeout(stop: threading.Event) -> None:
    with serving({"/a.png": silent(stop)}) as server:
        with pytest.raises(ImageFetchError, match="the connection failed"):
            web(read_timeout_s=0.1).get(f"{server.url}/a.png", "a", LIMIT)
        stop.set()


@pytest.mark.parametrize("headers", [True, False])
def test_a_drip_ends_with_the_total_timeout(headers: bool, stop: threading.Event) -> None:
    with serving({"/a.png": dripping(stop, headers)}) as server:
        with pytest.raises(ImageFetchError, match="took longer"):
            web(total_timeout_s=0.3).get(f"{server.url}/a.png", "a", LIMIT)
        stop.set()


@pytest.mark.parametrize("passing", [reset, body(b"", 503), body(b"", 429), body(b"x", length=9)])
def test_what_may_pass_is_tried_again(passing: Any) -> None:
    with serving({"/a.png": in_turn(passing, passing, body(DATA))}) as server:
        assert web(retries=2).get(f"{server.url}/a.png", "a", LIMIT) == DATA
        assert len(server.seen) == 3


@pytest.mark.parametrize("final", [body(b"", 404), body(b"", 403), body(bytes(LIMIT + 1))])
def test_what_will_not_pass_is_tried_once(final: Any) -> None:
    with serving({"/a.png": final}) as server:
        with pytest.raises(ImageError):
            web(retries=5).get(f"{server.url}/a.png", "a", LIMIT)
        assert len(server.seen) == 1


def test_plain_http_needs_to_be_allowed() -> None:
    with pytest.raises(ImageFetchError, match="not https"):
        web(allow_plain_http=False).get("http://localhost/a.png", "a", LIMIT)


def certificate(folder: Path, host: str) -> tuple[ssl.SSLContext, Path]:
    """A server's context, and the file that vouches for it."""
    cryptography = pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    assert cryptography
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    today = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    (folder / "both.pem").write_bytes(private + public)
    (folder / "public.pem").write_bytes(public)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context, folder / "public.pem"


def test_a_certificate_is_checked_against_the_hosts_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, public = certificate(tmp_path, "localhost")
    with serving({"/a.png": body(DATA)}, context) as server:
        fetch = web(allow_plain_http=False)
        url = f"{server.url}/a.png"
        with pytest.raises(ImageFetchError, match="certificate is not valid"):
            fetch.get(url, "a", LIMIT)
        monkeypatch.setenv("SSL_CERT_FILE", str(public))
        assert fetch.get(url, "a", LIMIT) == DATA
        with pytest.raises(ImageFetchError, match="certificate is not valid"):
            fetch.get(url.replace("localhost", "127.0.0.1"), "a", LIMIT)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("example.org", True),
        ("EXAMPLE.org.", True),
        ("www.example.org", False),
        ("a.images.net", True),
        ("b.a.images.net", True),
        ("images.net", False),
        ("badimages.net", False),
        ("images.net.evil.test", False),
    ],
)
def test_the_list_of_hosts(host: str, allowed: bool) -> None:
    assert HttpConfig(allow_hosts=("example.org", "*.images.net")).allows(host) is allowed


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"allow_hosts": []},
        {"allow_hosts": ["*"]},
        {"allow_hosts": ["https://example.org"]},
        {"allow_hosts": ["a.*.org"]},
        {"allow_hosts": ["example.org"], "accepts": "loopback"},
        {"allow_hosts": ["example.org"], "allow_private": True},
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        InputConfig.model_validate({"path": "x", "http": settings})


def test_it_is_off_unless_written() -> None:
    assert InputConfig(path="x").http is None
    with pytest.raises(ImageFetchError, match=r"unless the setting http allows it"):
        Fetcher(LIMIT).fetch({"uri": "https://example.org/a.png"})


def test_it_travels_to_workers() -> None:
    assert pickle.loads(pickle.dumps(web())).accepts is accept_loopback
