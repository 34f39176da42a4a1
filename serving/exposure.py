"""What an operator should know of the endpoint's settings before somebody else finds out."""

import os
import stat
from pathlib import Path

from serving.browsers import is_loopback
from serving.config import ServeConfig
from serving.proxy import CALLBACK, MIDDLEWARES


def warnings_of(config: ServeConfig) -> list[str]:
    """What is open, one sentence each, the worst first; none where all is well."""
    wide = not is_loopback(config.listen.host)
    anyone = config.keys is None
    open_to_pages = "*" in config.listen.cors_origins
    found = {
        f"ANYBODY who reaches {config.listen.host}:{config.listen.port} may use this endpoint: it "
        "listens beyond this machine and has no keys; make some by sgl key and write keys: FILE, "
        "or listen on 127.0.0.1": wide and anyone,
        "ANYBODY who reaches Ray's ports may run code on this machine: RAY_AUTH_MODE is disabled; "
        "unset it": os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled",
        "any page that anybody here opens in a browser may use this endpoint: listen.cors_origins "
        "is * and there are no keys": open_to_pages and anyone,
        "listen.cors_origins is *: pages of all origins may send requests with a key that they "
        "have": open_to_pages and not anyone,
        "keys and questions travel unencrypted: put a proxy that speaks TLS in front": wide,
        "one client may ask for as much as it likes: limits.requests_per_minute and "
        "limits.tokens_per_minute are not written": wide and _is_unlimited(config),
        f"{config.keys} is readable by others; chmod 600 it": _is_readable(config.keys),
        "http.allow_plain_http: pictures may be changed on their way": config.http is not None
        and config.http.allow_plain_http,
    }
    return [warning for warning, holds in found.items() if holds]


def bounds_warning(callback: str | None) -> str | None:
    """What is open where Ray Serve's proxies do not call our middlewares.

    Args:
        callback: of the environment of a node that has a proxy; None where it has none.
    """
    if callback == MIDDLEWARES:
        return None
    return (
        "Ray Serve's proxies take headers and bodies of any size, and answer below /-/ to "
        f"anybody: {CALLBACK} is not {MIDDLEWARES} in the environment of the cluster's nodes; "
        "start Ray there with it (docs/SERVING.md)"
    )


def _is_unlimited(config: ServeConfig) -> bool:
    limits = config.limits
    return limits.requests_per_minute is None and limits.tokens_per_minute is None


def _is_readable(path: str | None) -> bool:
    try:
        return path is not None and bool(Path(path).stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    except OSError:
        return False
