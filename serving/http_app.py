"""The endpoint as a web application: OpenAI's chat completions, models, and how it does.

It knows nothing of Ray: whoever starts it gives it a backend.
"""

import time
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from pipeline.policy import Policy
from serving.api_errors import ApiError
from serving.backend import Backend
from serving.completions import Completion, ErrorReply, ModelCard, ModelList
from serving.config import ServeConfig
from serving.exchange import Exchange
from serving.gateway import Gateway
from serving.metrics import Metrics
from serving.models import Catalogue
from serving.policies import policies_of
from serving.request_ids import RequestIds
from serving.schema import EVENTS, REQUEST_BODY, document
from serving.service import Service
from serving.status import Gather, Lifecycle, software_version, status_routes
from serving.surroundings import Pictures, Prices

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": told}
    for status, told in {
        400: "the request cannot be answered; says why",
        401: "no valid API key",
        403: "not from here",
        404: "there is no such thing",
        405: "not by this method",
        408: "the request took too long to arrive",
        413: "the request is too large",
        415: "the request is no JSON",
        429: "too many requests; see Retry-After",
        500: "a fault of the endpoint",
        503: "no room, or no model, now; see Retry-After",
        504: "no answer in time",
    }.items()
}


def create_app(
    config: ServeConfig,
    backend: Backend,
    pictures: Pictures,
    *,
    policies: Mapping[str, Policy] | None = None,
    prices: Prices | None = None,
    metrics: Metrics | None = None,
    gather: Gather | None = None,
    lifecycle: Lifecycle | None = None,
) -> FastAPI:
    """The application.

    Args:
        config: of the endpoint.
        backend: both models.
        pictures: fetches and decodes.
        policies: by name; None reads those of the config, and the model files with them.
        prices: of device time; None is unpriced.
        metrics: where this process counts.
        gather: those of all processes, where there are several.
        lifecycle: to tell of the end.

    Raises:
        ConfigurationError: a policy cannot be read, or is not for these models and settings.
    """
    metrics = metrics or Metrics()
    catalogue = Catalogue(config, policies_of(config) if policies is None else policies)
    service = Service(
        catalogue=catalogue,
        gateway=Gateway(backend, config.degrade, config.pruning),
        pictures=pictures,
        limits=config.limits,
        criterion=config.guidance.criterion,
        prices=prices or Prices(),
        metrics=metrics,
    )
    app = FastAPI(
        title="SGL",
        version=software_version(),
        responses=_ERRORS,
        # The pages of the documentation would load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # To where the client's own Host header says.
        redirect_slashes=False,
    )
    _add_completions(app, service)
    _add_models(app, catalogue)
    app.include_router(
        status_routes(backend, config.degrade, lifecycle or Lifecycle(), metrics, gather)
    )
    _add_errors(app)
    # Starlette itself would answer in plain text where a handler fails.
    app.add_middleware(RequestIds)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return app


def _add_completions(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/chat/completions",
        response_model=Completion,
        openapi_extra={"requestBody": REQUEST_BODY},
        responses={200: {"content": {"text/event-stream": EVENTS}}},
        tags=["openai"],
    )
    async def chat_completions() -> Response:
        """Answer a conversation: by the small model where it is sure, else by the large one."""
        return Exchange(service)


def _add_models(app: FastAPI, catalogue: Catalogue) -> None:
    begun = int(time.time())

    @app.head("/v1/models", include_in_schema=False)
    @app.get("/v1/models", tags=["openai"])
    async def models() -> ModelList:
        """Names that requests may ask for."""
        return ModelList(data=[ModelCard(id=name, created=begun) for name in catalogue.names()])

    @app.get("/v1/models/{model}", tags=["openai"])
    async def model(model: str) -> ModelCard:
        """One of them, or the pair at a threshold."""
        return ModelCard(id=catalogue.choose(model).name, created=begun)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def known(_: Request, error: ApiError) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def of_http(_: Request, error: HTTPException) -> Response:
        told = {404: "there is nothing here", 405: "this cannot be asked by that method"}
        message = told.get(error.status_code, str(error.detail))
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code)
        answer = ApiError(error.status_code, message, code=code).response()
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return ApiError(400, str(first["msg"]), param=str(first["loc"][-1])).response()
