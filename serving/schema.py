"""The endpoint's own description, as OpenAPI."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from serving.completions import Chunk
from serving.protocol import ChatRequest

_COMPONENT = "#/components/schemas/{model}"
REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {"schema": {"$ref": _COMPONENT.format(model=ChatRequest.__name__)}}
    },
}
"""Of a chat completion: bodies are parsed from their bytes, so FastAPI does not know of them."""
EVENTS: dict[str, Any] = {
    "itemSchema": {
        "type": "object",
        "properties": {
            "event": {"type": "string"},
            "data": {
                "type": "string",
                "description": "A Chunk or, of an event `error`, an ErrorReply, as JSON; or [DONE]",
            },
        },
        "required": ["data"],
    }
}
"""Of a stream; the key is OpenAPI 3.2's, older readers pass over it."""


def _components(model: type[BaseModel], mode: JsonSchemaMode) -> dict[str, Any]:
    """The schemas of a model and its parts, by name."""
    schema = model.model_json_schema(ref_template=_COMPONENT, mode=mode)
    parts: dict[str, Any] = schema.pop("$defs", {})
    return parts | {model.__name__: schema}


def document(app: FastAPI) -> dict[str, Any]:
    """The whole description; made once."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title,
            version=app.version,
            description="An OpenAI-compatible endpoint for a pair of vision-language models.",
            routes=app.routes,
        )
        found["components"]["schemas"] |= _components(ChatRequest, "validation")
        found["components"]["schemas"] |= _components(Chunk, "serialization")
        # FastAPI's own kind of refusal, which is never used here.
        for name in ("HTTPValidationError", "ValidationError"):
            found["components"]["schemas"].pop(name, None)
        for path in found["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        app.openapi_schema = found
    return app.openapi_schema
