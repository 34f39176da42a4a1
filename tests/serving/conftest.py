"""What asynchronous tests of the endpoint run on."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
