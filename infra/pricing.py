"""What an hour of a device costs: the built-in table, a file of one's own, single prices over both.

The later wins. Whatever is printed of a price says its currency, its date and where it is from.
"""

import datetime
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.device_kinds import DeviceKind
from infra.price_table import CURRENCY, Plan, Quote, built_in
from infra.s3 import DEFAULT, StorageConfig
from infra.storage import read_bytes

_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]


class PricingConfig(BaseModel):
    """Which prices count.

    Attributes:
        file: YAML with prices of one's own, local or a URI; `docs/PRICING.md` tells its form.
        plan: on which terms devices are rented.
        overrides: price of one device for an hour, by kind, over file and table, on any plan. In
            the file's currency; in US dollars where there is no file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str | None = None
    plan: Plan = Plan.ON_DEMAND
    overrides: dict[DeviceKind, _Amount] = {}


class PriceFile(BaseModel):
    """Prices of one's own.

    Attributes:
        currency: ISO 4217 code of all prices in the file.
        date: since when, or from when, they are.
        source: where they are from; None means the file's name.
        on_demand: price of one device for an hour, by kind.
        spot: likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: str = Field(default=CURRENCY, pattern="^[A-Z]{3}$")
    date: datetime.date
    source: str | None = None
    on_demand: dict[DeviceKind, _Amount] = {}
    spot: dict[DeviceKind, _Amount] = {}

    def of(self, plan: Plan) -> dict[DeviceKind, float]:
        """The prices of one plan."""
        return self.spot if plan is Plan.SPOT else self.on_demand


@dataclass(frozen=True)
class Price:
    """What one device costs.

    Attributes:
        per_hour: of one GPU or one vCPU, in `currency`.
        currency: ISO 4217 code.
        plan: on which terms; None for a price that was given by itself.
        date: of the figure; None likewise.
        source: where it is from, for people.
    """

    per_hour: float
    currency: str
    plan: Plan | None
    date: datetime.date | None
    source: str

    def __str__(self) -> str:
        terms = f" {self.plan.replace('_', ' ')}" if self.plan else ""
        dated = f", {self.date}" if self.date else ""
        return f"{self.currency} {self.per_hour:.4g} per hour{terms} ({self.source}{dated})"


@dataclass(frozen=True)
class PriceBook:
    """The prices that count, all in one currency.

    Attributes:
        currency: ISO 4217 code.
        plan: on which terms devices are rented.
        prices: by kind.
        foreign: kinds that the built-in table has a price of, in another currency.
    """

    currency: str
    plan: Plan
    prices: Mapping[DeviceKind, Price]
    foreign: Set[DeviceKind] = frozenset()

    def of(self, kind: DeviceKind) -> Price | None:
        """The price of a kind; None where nobody has told one, and `remedy` says what to do.

        Raises:
            ValueError: the only price is in another currency, and sums would mix the two.
        """
        if kind in self.foreign:
            raise ValueError(
                f"pricing: the file is in {self.currency} and has no {self.plan} price of {kind}, "
                f"and the built-in one is in {CURRENCY}; add it to the file, or write "
                f"--price {kind}=AMOUNT in {self.currency}"
            )
        return self.prices.get(kind)

    def remedy(self, kind: DeviceKind) -> str:
        """What to write where a kind has no price."""
        known = ", ".join(self.prices) or "none"
        return (
            f"there is no {self.plan} price of {kind}, only of {known}; write "
            f"--price {kind}=AMOUNT, or pricing.overrides or pricing.file"
        )


def price_book(config: PricingConfig, storage: StorageConfig = DEFAULT) -> PriceBook:
    """The prices of a job.

    Args:
        config: which prices count.
        storage: how a file on S3 is reached.

    Raises:
        ValueError: the file cannot be read, or is none of prices; says what is wrong with it.
    """
    own = None if config.file is None else _read(config.file, storage)
    quotes = built_in().of(config.plan)
    currency = CURRENCY if own is None else own.currency
    own_prices = {} if own is None else _own_prices(own, config)
    given = {
        kind: Price(amount, currency, None, None, "as given")
        for kind, amount in config.overrides.items()
    }
    if currency != CURRENCY:
        prices = own_prices | given
        return PriceBook(currency, config.plan, prices, frozenset(quotes.keys() - prices.keys()))
    published = {kind: _published(quote) for kind, quote in quotes.items()}
    return PriceBook(currency, config.plan, published | own_prices | given)


def _published(quote: Quote) -> Price:
    source = f"{quote.provider} {quote.instance} {quote.region}"
    return Price(quote.usd_per_device_hour, CURRENCY, quote.plan, quote.date, source)


def _own_prices(own: PriceFile, config: PricingConfig) -> dict[DeviceKind, Price]:
    source = own.source or str(config.file)
    return {
        kind: Price(amount, own.currency, config.plan, own.date, source)
        for kind, amount in own.of(config.plan).items()
    }


def _read(file: str, storage: StorageConfig) -> PriceFile:
    try:
        data = read_bytes(file, storage)
    except OSError as error:
        raise ValueError(f"pricing.file {file}: cannot be read") from error
    try:
        return PriceFile.model_validate(yaml.safe_load(data))
    except ValidationError as error:
        raise ValueError(f"pricing.file {file}: {_explained(error)}") from error
    except (yaml.YAMLError, ValueError) as error:
        # A date that does not exist is a plain ValueError of PyYAML's.
        said = " ".join(str(error).split())
        raise ValueError(f"pricing.file {file}: not YAML: {said}") from error


def _explained(error: ValidationError) -> str:
    lines = []
    for one in error.errors():
        name = ".".join(str(part) for part in one["loc"] if part != "[key]")
        lines.append(f"{name}: {one['msg']}" if name else one["msg"])
    return "; ".join(lines)
