"""Pictures over http(s), from hosts that are allowed and addresses that are public.

A host's name is resolved here, every address it has is judged, and the connection goes to one of
the addresses that were judged: a name that changes between the check and the connection (DNS
rebinding) gains nothing. Each redirect starts over. No proxy, cookie or credential is used.
"""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from ssl import SSLCertVerificationError
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from pipeline.http_config import HttpConfig
from sgl.errors import ImageFetchError, ImageNotFoundError, ImageTooLargeError, RecordError

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MISSING = frozenset({404, 410})
_PASSING = frozenset({429, 500, 502, 503, 504})
_READ_BYTES = 1 << 16
_LONGEST_PAUSE_S = 10.0
_NAT64 = IPv6Network("64:ff9b::/96")
_PROTOCOL_ASSIGNMENTS = IPv4Network("192.0.0.0/24")
"""Oracle's cloud answers in it with its metadata; Python calls most of it global."""
_AZURES_HOST = IPv4Address("168.63.129.16")
"""A global address by the registry; within Azure it is the host's own service."""
_SAFE = "/%:@!$&'()*+,;=~?-._"
"""Left as they are in a path and a query; what was escaped stays so."""
_HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "sgl-cascade"}

Address = IPv4Address | IPv6Address


class _PassingError(Exception):
    """A failure that may be gone at the next try."""


def is_public(address: Address) -> bool:
    """Whether an address belongs to the open internet, and to one machine there."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None or address.is_site_local:
            return False
    elif address in _PROTOCOL_ASSIGNMENTS or address == _AZURES_HOST:
        return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_loopback
    )


@dataclass(frozen=True)
class Web:
    """Fetches by the rules of its settings.

    Attributes:
        config: the rules.
        accepts: judges addresses. Only tests, whose server is on loopback, give another one.
    """

    config: HttpConfig
    accepts: Callable[[Address], bool] = is_public

    def get(self, url: str, name: str, max_bytes: int) -> bytes:
        """The body behind a URL.

        Args:
            url: as the record has it.
            name: of the picture, for messages.
            max_bytes: of the body.

        Raises:
            ImageNotFoundError: the server says so.
            ImageTooLargeError: the body is larger.
            ImageFetchError: refused, or failed for good.
        """
        deadline = time.monotonic() + self.config.total_timeout_s
        for attempt in range(self.config.retries + 1):
            try:
                return self._follow(url, name, max_bytes, deadline)
            except _PassingError as error:
                pause = min(self.config.backoff_s * 2**attempt, _LONGEST_PAUSE_S)
                pause *= random.uniform(0.5, 1)
                last = attempt == self.config.retries
                if last or time.monotonic() + pause >= deadline:
                    raise ImageFetchError(f"{name}: {error}") from error
                time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _follow(self, url: str, name: str, max_bytes: int, deadline: float) -> bytes:
        for _ in range(self.config.max_redirects + 1):
            parts = self._checked(url, name)
            with self._response(parts, name, deadline) as response:
                if response.status not in _REDIRECTS:
                    return _body(response, name, max_bytes, deadline)
                url = _joined(url, response.headers.get("Location", ""))
        raise ImageFetchError(f"{name}: more redirects than http.max_redirects")

    def _checked(self, url: str, name: str) -> SplitResult:
        """A URL that may be asked for, as far as its text can tell."""
        try:
            parts = urlsplit(url)
            host = _ascii(parts.hostname)
            _ = parts.port
        except ValueError as error:
            raise ImageFetchError(f"{name}: not a URL that can be read") from error
        if parts.scheme not in _PORTS or not host:
            raise ImageFetchError(f"{name}: not an http(s) URL")
        if parts.scheme == "http" and not self.config.allow_plain_http:
            raise ImageFetchError(f"{name}: not https, and http.allow_plain_http is false")
        if parts.username is not None or parts.password is not None:
            raise ImageFetchError(f"{name}: the URL holds credentials, which are never sent")
        if not self.config.allows(host):
            raise ImageFetchError(f"{name}: its host is not in http.allow_hosts")
        return parts

    def _addresses(self, host: str, port: int, name: str) -> list[str]:
        """Every address of a host, all of them good."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise _PassingError("its host cannot be looked up") from error
            raise ImageFetchError(f"{name}: its host is not known") from error
        except (OSError, UnicodeError) as error:
            raise ImageFetchError(f"{name}: its host is not known") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not all(self.accepts(ip_address(one.partition("%")[0])) for one in addresses):
            raise ImageFetchError(f"{name}: its host has an address that is not public")
        return addresses

    @contextmanager
    def _response(
        self, parts: SplitResult, name: str, deadline: float
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        host = _ascii(parts.hostname)
        port = parts.port or _PORTS[parts.scheme]
        addresses = self._addresses(host, port, name)
        try:
            connection = self._connected(parts.scheme, host, addresses, port, deadline)
        except SSLCertVerificationError as error:
            raise ImageFetchError(f"{name}: its host's certificate is not valid") from error
        target = quote(parts.path or "/", safe=_SAFE)
        if parts.query:
            target += "?" + quote(parts.query, safe=_SAFE)
        named = host if port == _PORTS[parts.scheme] else f"{host}:{port}"
        with _watched(connection, deadline):
            try:
                connection.timeout = self.config.read_timeout_s
                connection.request(
                    "GET",
                    target,
                    headers=_HEADERS | {"Host": named},
                    preload_content=False,
                    decode_content=False,
                )
                yield connection.getresponse()
            except RecordError:
                raise
            except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
                late = time.monotonic() >= deadline
                why = "took longer than http allows" if late else "the connection failed"
                raise _PassingError(why) from error
            finally:
                connection.close()

    def _connected(
        self, scheme: str, host: str, addresses: list[str], port: int, deadline: float
    ) -> HTTPConnection:
        """A connection to one of the addresses; a certificate is checked against the host.

        Raises:
            SSLCertVerificationError: it is another's, or nobody vouches for it.
        """
        failure: Exception | None = None
        for address in addresses:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            timeout = min(self.config.connect_timeout_s, left)
            connection = (
                HTTPSConnection(address, port, timeout=timeout, server_hostname=host)
                if scheme == "https"
                else HTTPConnection(address, port, timeout=timeout)
            )
            try:
                with _watched(connection, deadline):
                    connection.connect()
            except SSLCertVerificationError:
                connection.close()
                raise
            except (urllib3.exceptions.HTTPError, OSError) as error:
                connection.close()
                failure = error
            else:
                return connection
        raise _PassingError("the server cannot be reached") from failure


def _joined(url: str, location: str) -> str:
    """Where a redirect leads; what is no URL is left to the check of the next round."""
    try:
        return urljoin(url, location)
    except ValueError:
        return location


def _ascii(host: str | None) -> str:
    """A host name as it goes over the wire.

    Raises:
        UnicodeError: there is no such form of it.
    """
    return "" if host is None else host.encode("idna").decode()


def _body(response: urllib3.BaseHTTPResponse, name: str, max_bytes: int, deadline: float) -> bytes:
    if response.status in _MISSING:
        raise ImageNotFoundError(f"{name}: the server has no such file")
    if response.status in _PASSING:
        raise _PassingError(f"the server answered {response.status}")
    if response.status != 200:
        raise ImageFetchError(f"{name}: the server answered {response.status}")
    too_large = ImageTooLargeError(f"{name}: more bytes than max_image_bytes ({max_bytes})")
    promised = response.headers.get("Content-Length", "")
    if promised.isdecimal() and int(promised) > max_bytes:
        raise too_large
    body = bytearray()
    # read1, because read waits for all that was asked for, however slowly it drips.
    while data := response.read1(_READ_BYTES):
        body += data
        if len(body) > max_bytes:
            raise too_large
        if time.monotonic() >= deadline:
            break
    # Also behind the last byte: a connection that was shut down looks like one that ended.
    if time.monotonic() >= deadline:
        raise TimeoutError
    if promised.isdecimal() and len(body) != int(promised):
        raise _PassingError("the server sent less than it promised")
    return bytes(body)


@contextmanager
def _watched(connection: HTTPConnection, deadline: float) -> Iterator[None]:
    """Shut a connection down at the deadline, whatever a thread waits for on it.

    Timeouts of a socket start again with every byte, so that a server could send a header for days.
    """
    timer = threading.Timer(max(deadline - time.monotonic(), 0), _shut_down, [connection])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut_down(connection: HTTPConnection) -> None:
    if connection.sock is not None:
        with suppress(OSError):
            # The plain socket's, also below TLS, whose own shutdown takes its state away from the
            # thread that reads.
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)
