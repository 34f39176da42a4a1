"""What the pools' devices cost: as the job says, or as the price book has their kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.device_kinds import DeviceKind, device_kind
from infra.pricing import PriceBook, PricingConfig, price_book
from pipeline.config import JobConfig
from pipeline.pool_config import PoolConfig
from pipeline.preflight import Resources
from sgl.errors import ConfigurationError

USD = "USD"
"""Of every figure in the rows."""
_ACCELERATOR = "accelerator_type:"


@dataclass(frozen=True)
class Priced:
    """A job whose pools have prices, or none of them has.

    Attributes:
        job: with `usd_per_hour` in all its pools, or in none.
        told: by role, the price with its currency, date and source; or why there is none.
    """

    job: JobConfig
    told: dict[str, str]

    def line(self) -> str:
        """For the start of a run."""
        return "prices: " + "; ".join(f"{role}: {text}" for role, text in self.told.items())


def priced(job: JobConfig, resources: Resources, nodes: Sequence[Mapping[str, Any]]) -> Priced:
    """Find the prices of a job's pools.

    Args:
        job: its own prices win.
        resources: GPUs of each pool.
        nodes: as ray.nodes() tells them; their accelerator types are what the GPUs are.

    Raises:
        ConfigurationError: the price file is wrong, or is not in US dollars.
    """
    book = _book(job)
    kinds = _gpu_kinds(nodes)
    found: dict[str, float | None] = {}
    told: dict[str, str] = {}
    for role, placement in resources.placements.items():
        pool: PoolConfig = getattr(job.pools, role)
        if pool.usd_per_hour is not None:
            found[role] = pool.usd_per_hour
            told[role] = f"USD {pool.usd_per_hour:g} per hour (pools.{role}.usd_per_hour)"
        else:
            found[role], told[role] = _of_kinds(book, kinds if placement.num_gpus else {"cpu"})
    if None in found.values():
        # A sum of which a part has no price is no price.
        without = ", ".join(role for role, price in found.items() if price is None)
        for role, price in found.items():
            if price is not None:
                told[role] += f", not used: no price of the {without} pool"
        found = dict.fromkeys(found)
    data = job.model_dump(exclude_unset=True)
    for role, price in found.items():
        data.setdefault("pools", {}).setdefault(role, {})["usd_per_hour"] = price
    return Priced(JobConfig.model_validate(data), told)


def _book(job: JobConfig) -> PriceBook:
    try:
        book = price_book(job.pricing or PricingConfig(), job.storage)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    if book.currency != USD:
        raise ConfigurationError(
            f"pricing.file: its prices are in {book.currency}, and rows have a cost_usd; write "
            "them in US dollars"
        )
    return book


def _gpu_kinds(nodes: Sequence[Mapping[str, Any]]) -> set[str]:
    """Names of the accelerators of all nodes with GPUs; an empty one where a node tells none."""
    names: set[str] = set()
    for node in nodes:
        resources = node.get("Resources", {}) if node.get("Alive") else {}
        if resources.get("GPU"):
            types = {name for name in resources if name.startswith(_ACCELERATOR)}
            names |= types or {""}
    return {name.removeprefix(_ACCELERATOR) for name in names}


def _of_kinds(book: PriceBook, names: set[str]) -> tuple[float | None, str]:
    """The one price of devices with these names, and what is to be said about it."""
    if len(names) != 1:
        listed = ", ".join(sorted(name or "unknown" for name in names)) or "none"
        return None, f"no price, as nodes have several kinds of GPUs ({listed}): {_REMEDY}"
    (name,) = names
    kind: DeviceKind | None = device_kind(name)
    if kind is None:
        return None, f"no price of {name or 'GPUs that Ray has no name of'}: {_REMEDY}"
    price = book.of(kind)
    return (None, book.remedy(kind)) if price is None else (price.per_hour, str(price))


_REMEDY = "write pools.*.usd_per_hour"
