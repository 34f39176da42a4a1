"""How the page is served: fixed files, with their types, and nothing else."""

import asyncio
import re
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from serving.playground_files import FOLDER, PAGE, mount
from serving.security_headers import SecurityHeaders

PARTS = sorted(path.name for path in FOLDER.iterdir() if path.name != PAGE)


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = Starlette()
    mount(app)
    return TestClient(SecurityHeaders(app))


def url_of(name: str) -> str:
    return "/" if name == PAGE else f"/playground/{name}"


@pytest.mark.parametrize("name", [PAGE, *PARTS])
def test_every_file_has_its_type_and_the_policy(client: TestClient, name: str) -> None:
    response = client.get(url_of(name))
    types = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg"}
    assert response.headers["content-type"].startswith(types[name.rsplit(".", 1)[1]])
    assert response.headers["content-security-policy"].split("; ") == [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.content == (FOLDER / name).read_bytes()


def test_what_the_browser_has_is_not_sent_again(client: TestClient) -> None:
    first = client.get("/")
    headers = {"if-none-match": f'"other", {first.headers["etag"]}'}
    again = client.get("/", headers=headers)
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/", headers={"if-none-match": '"other"'}).status_code == 200
    assert "no-cache" in first.headers["cache-control"]


def test_it_is_packed_for_those_who_can_read_it(client: TestClient) -> None:
    packed = client.get("/", headers={"accept-encoding": "gzip"})
    plain = client.get("/", headers={"accept-encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])


def test_the_whole_page_is_small(client: TestClient) -> None:
    headers = {"accept-encoding": "gzip"}
    sent = [client.get(url_of(name), headers=headers).headers for name in [PAGE, *PARTS]]
    assert sum(int(one["content-length"]) for one in sent) < 40_000


@pytest.mark.parametrize(
    "path",
    [
        "/playground/",
        "/playground/..",
        "/playground/../config.py",
        "/playground/../playground/index.html",
        "/playground//etc/passwd",
        "/playground/index.html",
        "/playground/playground.js\0.css",
        "/config.py",
    ],
)
def test_no_other_path_is_a_file(client: TestClient, path: str) -> None:
    """As a server hands it on, decoded; clients would take the dots out before."""
    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    asyncio.run(client.app(scope, None, send))  # type: ignore[arg-type]
    assert told[0]["status"] == 404


def test_it_can_only_be_read(client: TestClient) -> None:
    assert client.post("/").status_code == 405
    assert client.head("/").status_code == 200


def test_it_needs_nothing_from_elsewhere_and_nothing_inline() -> None:
    for path in FOLDER.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z]+\.[a-z]+/", text), path.name
    page = (FOLDER / PAGE).read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*src=)", page)
    for name in re.findall(r'(?:src|href)="(?!#)([^"]+)"', page):
        assert name.removeprefix("playground/") in PARTS
