"""What web pages may make a browser do to the endpoint.

An endpoint on loopback is out of reach for the network, and not for a page in a browser on the same
machine: it may post to it, and it may give its own name the address 127.0.0.1 (DNS rebinding), so
that the endpoint counts as its own server.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from serving.api_errors import ApiError
from serving.config import ListenConfig

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""They change nothing and cost next to nothing, and no page can read the answer of another one."""
_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Whether a host, or an address to listen on, is of this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """The host of a Host header, without its port; "" where it cannot be read."""
    return _place(f"//{header}", 0)[0]


def check_host(headers: Headers, listen: ListenConfig) -> None:
    """Refuse requests to a name that is not the endpoint's.

    Raises:
        ApiError: 403.
    """
    if not listen.allowed_hosts and not is_loopback(listen.host):
        return
    for given in headers.getlist("host") or [""]:
        host = host_of(given)
        if not is_loopback(host) and _bare(host) not in map(_bare, listen.allowed_hosts):
            raise ApiError(
                403,
                "this endpoint is not called so; its operator can add the name to "
                "listen.allowed_hosts",
                code="host_not_allowed",
            )


def check_origin(method: str, headers: Headers, listen: ListenConfig) -> None:
    """Refuse what another site's page asks for.

    Browsers say with every request that may change something which page it comes from; other
    clients say nothing.

    Raises:
        ApiError: 403.
    """
    if method in SAFE_METHODS:
        return
    for origin in headers.getlist("origin"):
        if "*" in listen.cors_origins or origin in listen.cors_origins:
            continue
        port = _PORTS.get(origin.partition(":")[0].lower(), 0)
        if not port or _place(origin, port) != _place(f"//{headers.get('host', '')}", port):
            raise ApiError(
                403,
                "pages of this origin may not call the endpoint; its operator can add it to "
                "listen.cors_origins",
                code="origin_not_allowed",
            )


def _place(url: str, port: int) -> tuple[str, int]:
    """Host and port; what cannot be read has no host."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "", parts.port or port)
    except ValueError:
        return ("", -1)


def _bare(host: str) -> str:
    return host.strip("[]").rstrip(".")
