"""How the endpoint does: for those who watch it and those who route to it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TypeAlias

from fastapi import APIRouter, Response

from serving.api_errors import ApiError
from serving.backend import Backend, PoolState
from serving.completions import ErrorReply, Health, PoolReport, Ready, Version
from serving.config import Degrade
from serving.metrics import Metrics, Snapshot, render

DISTRIBUTION = "sgl-cascade"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Gather: TypeAlias = Callable[[], Awaitable[Sequence[Snapshot]]]
"""The metrics of all processes of an endpoint."""


@dataclass
class Lifecycle:
    """Where the endpoint is in its life.

    Attributes:
        draining: it ends, and finishes what is under way.
    """

    draining: bool = field(default=False)


def status_routes(
    backend: Backend,
    degrade: Degrade,
    lifecycle: Lifecycle,
    metrics: Metrics,
    gather: Gather | None,
) -> APIRouter:
    """Health, readiness, version and metrics.

    Args:
        backend: both models.
        degrade: whether the small one alone will do.
        lifecycle: of the endpoint.
        metrics: of this process.
        gather: of all of them; None where there is only this one.
    """
    router = APIRouter(tags=["status"])

    # Some load balancers probe by HEAD.
    @router.head("/health", include_in_schema=False)
    @router.get("/health")
    async def health() -> Health:
        """This process lives."""
        return Health()

    @router.head("/ready", include_in_schema=False)
    @router.get("/ready", responses={503: {"model": ErrorReply}})
    async def ready() -> Ready:
        """Requests can be answered."""
        states = await _states(backend)
        if reason := _unready(states, degrade, lifecycle):
            raise ApiError(503, reason, kind="server_error", code="not_ready", retry_after_s=5)
        pools = {n: PoolReport(replicas=s.replicas, wanted=s.wanted) for n, s in states.items()}
        return Ready(pools=pools)

    @router.get("/version", name="version")
    async def installed() -> Version:
        """Of this software."""
        return Version(version=software_version())

    @router.get(
        "/metrics", response_class=Response, responses={200: {"content": {METRICS_TYPE: {}}}}
    )
    async def exported() -> Response:
        """For Prometheus."""
        snapshots = [metrics.snapshot()] if gather is None else await gather()
        return Response(render(snapshots), headers={"content-type": METRICS_TYPE})

    return router


async def _states(backend: Backend) -> dict[str, PoolState]:
    try:
        return await backend.states()
    except Exception:
        # Whoever cannot be asked cannot answer either.
        return {}


def _unready(states: dict[str, PoolState], degrade: Degrade, lifecycle: Lifecycle) -> str | None:
    if lifecycle.draining:
        return "the endpoint is ending"
    needed = ("small",) if degrade is Degrade.SMALL else ("small", "large")
    missing = [name for name in needed if name not in states or states[name].replicas < 1]
    return f"no replica yet of: {', '.join(missing)}" if missing else None


def software_version() -> str:
    """Of what is installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        # On a cluster the code may travel without being installed.
        return "unknown"
