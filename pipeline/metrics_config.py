"""Settings of the live metrics."""

from pydantic import Field

from actors.config import StrictModel


class MetricsConfig(StrictModel):
    """Where the driver serves metrics for Prometheus while it runs, under /metrics.

    Attributes:
        port: 0 takes any free one, which the log tells.
        host: address to listen at. There is no password: another one than the default is for
            networks in which everybody may know how the job does.
    """

    port: int = Field(ge=0, le=65535)
    host: str = "127.0.0.1"
