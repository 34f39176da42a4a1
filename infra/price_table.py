"""The built-in table: what providers have published, with date and source, in US dollars."""

import datetime
from collections import Counter
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.device_kinds import DeviceKind

CURRENCY = "USD"
_FILE = Path(__file__).with_name("prices.yaml")


class Plan(StrEnum):
    """On which terms a device is rented."""

    ON_DEMAND = "on_demand"
    SPOT = "spot"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Quote(_Strict):
    """One published price.

    Attributes:
        kind: of the devices.
        plan: on which terms.
        provider: who rents them out.
        instance: the provider's name of what is rented.
        region: the provider's name; "all" where the price is the same in all of them.
        devices: GPUs of one instance; of a machine without any, its vCPUs.
        usd_per_instance_hour: as published.
        date: of the figure.
        source: name of where it was read, in the table's `sources`.
    """

    kind: DeviceKind
    plan: Plan
    provider: str
    instance: str
    region: str
    devices: int = Field(ge=1)
    usd_per_instance_hour: float = Field(gt=0)
    date: datetime.date
    source: str

    @property
    def usd_per_device_hour(self) -> float:
        """The whole instance's price, shared by its devices."""
        return self.usd_per_instance_hour / self.devices


class Source(_Strict):
    """Where figures were read.

    Attributes:
        text: what it is.
        url: of the very version that was read.
    """

    text: str
    url: str = Field(pattern="^https://")


class PriceTable(_Strict):
    """Quotes, at most one per kind and plan.

    Attributes:
        sources: by name.
        quotes: in the order of the page.
    """

    sources: dict[str, Source]
    quotes: tuple[Quote, ...]

    @model_validator(mode="after")
    def _is_one_of_each(self) -> "PriceTable":
        twice = [key for key, n in Counter((q.kind, q.plan) for q in self.quotes).items() if n > 1]
        if twice:
            raise ValueError(f"more than one price of {' and of '.join(map(' '.join, twice))}")
        unknown = {quote.source for quote in self.quotes} ^ set(self.sources)
        if unknown:
            raise ValueError(f"told without being used, or the reverse: {', '.join(unknown)}")
        return self

    def of(self, plan: Plan) -> dict[DeviceKind, Quote]:
        """The quotes of one plan."""
        return {quote.kind: quote for quote in self.quotes if quote.plan is plan}


@lru_cache(maxsize=1)
def built_in() -> PriceTable:
    """The table that comes with this package."""
    return PriceTable.model_validate(yaml.safe_load(_FILE.read_text(encoding="utf-8")))
