"""What one client may ask for in a minute.

Requests are counted as they come, tokens are charged when the answer is known. Each process that
parses requests counts for itself, with its share of the limit.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network

from serving.api_errors import ApiError
from serving.config import LimitsConfig
from serving.key_file import KeyEntry
from serving.token_bucket import TokenBucket

_MAX_CLIENTS = 10_000
"""That are remembered; of more, a tenth is forgotten: those that would soonest be as if new."""
_KEPT = 0.9
_IPV6_OF_ONE = 64
"""Bits of an address that one client cannot change."""


@dataclass(frozen=True)
class Account:
    """The buckets of one client; None is no limit."""

    requests: TokenBucket | None
    tokens: TokenBucket | None

    def admit(self) -> None:
        """Count one request.

        Raises:
            ApiError: 429, and how long it takes until one is admitted.
        """
        for what, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            wait_s = 0.0 if bucket is None else bucket.wait_s(1.0)
            if wait_s > 0:
                raise ApiError(
                    429,
                    f"more {what} per minute than this client may ask for",
                    kind="rate_limit_error",
                    code="rate_limit_exceeded",
                    retry_after_s=math.ceil(wait_s),
                )
        if self.requests is not None:
            self.requests.take(1)

    def charge(self, tokens: int) -> None:
        """Take an answer's tokens off, also where there are fewer."""
        if self.tokens is not None:
            self.tokens.take(tokens)

    @property
    def full_in_s(self) -> float:
        """Seconds until it is as if its client had never asked, if nothing more is asked."""
        buckets = [one for one in (self.requests, self.tokens) if one is not None]
        return max((one.wait_s(one.size) for one in buckets), default=0.0)

    def headers(self) -> dict[str, str]:
        """How matters stand, as OpenAI tells it."""
        told: dict[str, str] = {}
        for what, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            if bucket is not None:
                told[f"x-ratelimit-limit-{what}"] = str(math.floor(bucket.size))
                told[f"x-ratelimit-remaining-{what}"] = str(max(0, math.floor(bucket.level)))
                told[f"x-ratelimit-reset-{what}"] = duration(bucket.wait_s(bucket.size))
        return told


UNLIMITED = Account(None, None)
"""Of what costs nothing."""


class RateLimits:
    """The accounts of all clients.

    Args:
        limits: for clients that have none of their own.
        share: of this process; 1 where there is one alone.
        clock: in seconds.
    """

    def __init__(
        self, limits: LimitsConfig, share: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._share = share
        self._clock = clock
        self._accounts: OrderedDict[tuple[str, float | None, float | None], Account] = OrderedDict()

    def of(self, client: KeyEntry | str) -> Account:
        """The account of a key or, without keys, of an address."""
        requests, tokens = self._limits.requests_per_minute, self._limits.tokens_per_minute
        if isinstance(client, KeyEntry):
            requests = client.requests_per_minute or requests
            tokens = client.tokens_per_minute or tokens
        name = client.name if isinstance(client, KeyEntry) else client
        # With the figures: a key whose limits are changed begins anew.
        key = (name, requests, tokens)
        account = self._accounts.get(key)
        if account is None:
            if len(self._accounts) >= _MAX_CLIENTS:
                self._forget()
            account = Account(self._bucket(requests), self._bucket(tokens))
            self._accounts[key] = account
        self._accounts.move_to_end(key)
        return account

    def _forget(self) -> None:
        """Never debts while there is anything else: names are free, and would pay them off."""
        # Stable: of those that are alike, the ones that asked last stay.
        by_wait = sorted(self._accounts.items(), key=lambda one: one[1].full_in_s)
        gone = len(by_wait) - int(_MAX_CLIENTS * _KEPT)
        for key, _ in by_wait[:gone]:
            del self._accounts[key]

    def _bucket(self, per_minute: float | None) -> TokenBucket | None:
        return None if per_minute is None else TokenBucket(per_minute * self._share, self._clock)


def client_at(address: str | None) -> str:
    """Whom an address stands for: one of IPv6 for its whole network, which is one client's."""
    try:
        parsed = ip_address((address or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ip_network((parsed, _IPV6_OF_ONE), strict=False))
    return str(parsed)


def duration(seconds: float) -> str:
    """A time as OpenAI's headers have it: "250ms", "8.64s", "6m0s"."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{math.ceil(rest)}s" if minutes else f"{rest:.2f}s"
