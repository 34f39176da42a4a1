"""The playground: a page at / that asks this endpoint, and nobody else.

Its files are a fixed list, read once, so no path of a request ever becomes one of a file. The page
needs no build step and works offline, under the Content-Security-Policy of every answer.
"""

import gzip
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).with_name("playground")
PAGE = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def mount(app: Starlette) -> None:
    """Serve the page at / and its parts under /playground/; none of it is in an API schema."""
    for path in sorted(FOLDER.iterdir()):
        url = "/" if path.name == PAGE else f"/playground/{path.name}"
        app.add_route(url, _serving(path), methods=["GET"], include_in_schema=False)


def _serving(path: Path) -> Callable[[Request], Awaitable[Response]]:
    data = path.read_bytes()
    packed = gzip.compress(data, mtime=0)
    # Weak, as it is of both encodings.
    etag = f'W/"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {
        "content-type": _TYPES[path.suffix],
        "etag": etag,
        "vary": "accept-encoding",
        # Kept by the browser, and asked for each time: files of two versions never meet.
        "cache-control": "no-cache",
    }

    async def serve(request: Request) -> Response:
        if _has(request, etag):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(packed, headers={**headers, "content-encoding": "gzip"})
        return Response(data, headers=headers)

    return serve


def _has(request: Request, etag: str) -> bool:
    """Whether the client has this very version."""
    known = request.headers.get("if-none-match", "").split(",")
    return any(one.strip() in (etag, "*") for one in known)
