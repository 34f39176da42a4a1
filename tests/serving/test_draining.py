"""What an endpoint answers while it ends."""

import httpx
import pytest
from fastapi import FastAPI

from serving.draining import RefusesAtTheEnd
from serving.status import Lifecycle

pytestmark = pytest.mark.anyio


def app_of(lifecycle: Lifecycle) -> RefusesAtTheEnd:
    app = FastAPI()

    @app.api_route("/", methods=["GET", "POST"])
    async def root() -> str:
        return "here"

    return RefusesAtTheEnd(app, lifecycle)


async def test_nothing_new_is_taken_at_the_end() -> None:
    lifecycle = Lifecycle()
    transport = httpx.ASGITransport(app_of(lifecycle))
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        assert (await client.post("/")).status_code == 200
        lifecycle.draining = True
        refused = await client.post("/")
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "not_ready"
        assert int(refused.headers["retry-after"]) > 0
        assert (await client.get("/")).status_code == 200
