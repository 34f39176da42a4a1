"""The grammar of `pipeline.chat` as a JSON schema: what it excludes is refused there.

Not the other way round: texts of blanks alone, and a conversation whose last turn is not the
user's, are refused and no schema says so.
"""

from typing import Any

_ADDRESS = {
    "type": "string",
    "pattern": "^([Dd][Aa][Tt][Aa]:|[Hh][Tt][Tt][Pp][Ss]?://)",
    "description": "A data: address; https:// as the endpoint allows.",
}
_BASE64 = {"type": "string", "pattern": "^[\\x00-\\x7f]*$"}
_MIME = {"type": "string", "pattern": "^image/[A-Za-z0-9.+-]{1,60}$"}


def _object(**properties: Any) -> dict[str, Any]:
    """All of whose properties are required."""
    return {"type": "object", "properties": properties, "required": list(properties)}


_TEXT = _object(type={"const": "text"}, text={"type": "string"})
_PICTURES = [
    _object(
        type={"const": "image_url"},
        image_url={"anyOf": [_ADDRESS, _object(url=_ADDRESS)]},
    ),
    # As LangChain writes it.
    _object(type={"const": "image"}, url=_ADDRESS),
    _object(type={"const": "image"}, base64=_BASE64, mime_type=_MIME),
    _object(type={"const": "image"}, data=_BASE64, mime_type=_MIME),
]


def _said(roles: list[str], parts: list[Any], least: int) -> dict[str, Any]:
    contents = [
        {"type": "string", "minLength": least},
        {"type": "array", "items": {"anyOf": parts}, "minItems": least},
    ]
    return _object(role={"enum": roles}, content={"anyOf": contents})


def _answered() -> dict[str, Any]:
    """An answer may be empty, and then clients leave its content out, or send null."""
    said = _said(["assistant"], [_TEXT], 0)
    said["properties"]["content"]["anyOf"].append({"type": "null"})
    return {**said, "required": ["role"]}


MESSAGES: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "description": "The conversation; the user has the last turn.",
    "items": {
        "anyOf": [
            _said(["user"], [_TEXT, *_PICTURES], 1),
            _answered(),
            _said(["system", "developer"], [_TEXT], 0),
        ]
    },
}
