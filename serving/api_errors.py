"""What the endpoint says when it cannot answer: OpenAI's shape, and nothing of its insides."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from sgl.errors import CrashError

_NOT_AGAIN = CrashError.__name__
"""A request that ends replicas would end more of them."""


class ApiError(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        message: what is wrong and what to do.
        kind: as OpenAI's clients know it ("type"), such as "invalid_request_error".
        code: one word for programs.
        param: the part of the request that is at fault.
        retry_after_s: when it is worth trying again; None says nothing of it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """As JSON."""
        told = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        return {"error": told}

    def headers(self) -> Mapping[str, str]:
        """Beside it; Retry-After is in whole seconds, at least one."""
        if self.code == _NOT_AGAIN:
            return {"x-should-retry": "false"}  # OpenAI's clients would, after any 500
        if self.retry_after_s is None:
            return {}
        return {"retry-after": str(max(1, round(self.retry_after_s)))}

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body(), self.status, dict(self.headers()))
