"""The endpoint's own description, as OpenAPI."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serving.protocol import ChatRequest

_COMPONENT = "#/components/schemas/{model}"
REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {"schema": {"$ref": _COMPONENT.format(model=ChatRequest.__name__)}}
    },
}
"""Of a chat completion: bodies are parsed from their bytes, so FastAPI does not know of them."""


def document(app: FastAPI) -> dict[str, Any]:
    """The whole description; made once."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title,
            version=app.version,
            description="An OpenAI-compatible endpoint for a pair of vision-language models.",
            routes=app.routes,
        )
        schema = ChatRequest.model_json_schema(ref_template=_COMPONENT)
        parts = schema.pop("$defs", {})
        found["components"]["schemas"] |= parts | {ChatRequest.__name__: schema}
        # FastAPI's own kind of refusal, which is never used here.
        for name in ("HTTPValidationError", "ValidationError"):
            found["components"]["schemas"].pop(name, None)
        for path in found["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        app.openapi_schema = found
    return app.openapi_schema
