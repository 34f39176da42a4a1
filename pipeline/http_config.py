"""Settings of fetching over http(s); off unless written."""

import re

from pydantic import Field, field_validator

from actors.config import StrictModel

_HOST = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")


class HttpConfig(StrictModel):
    """What may be fetched over http(s), and for how long.

    Only public addresses are ever connected to, whatever the hosts are called; there is no setting
    for that.

    Attributes:
        allow_hosts: exact names, or "*.example.org" for everything below one.
        allow_plain_http: http:// too, not only https://.
        max_redirects: each goes through all checks again.
        connect_timeout_s: for a connection, to each address of a host.
        read_timeout_s: the longest silence of a server.
        total_timeout_s: for one picture, redirects and retries included.
        retries: after what may pass: lost connections, silence, answers 429, 500, 502, 503, 504.
        backoff_s: pause before the first retry; each next one is twice as long.
    """

    allow_hosts: tuple[str, ...] = Field(min_length=1)
    allow_plain_http: bool = False
    max_redirects: int = Field(default=3, ge=0)
    connect_timeout_s: float = Field(default=5.0, gt=0)
    read_timeout_s: float = Field(default=10.0, gt=0)
    total_timeout_s: float = Field(default=60.0, gt=0)
    retries: int = Field(default=2, ge=0)
    backoff_s: float = Field(default=0.5, ge=0)

    @field_validator("allow_hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        lowered = tuple(host.lower().rstrip(".") for host in hosts)
        for host in lowered:
            if not _HOST.fullmatch(host):
                raise ValueError(f"'{host}' is no host; write images.example.org or *.example.org")
        return lowered

    def allows(self, host: str) -> bool:
        """Whether a host name is on the list."""
        name = host.lower().rstrip(".")
        return any(
            name.endswith(allowed[1:]) if allowed.startswith("*.") else name == allowed
            for allowed in self.allow_hosts
        )
