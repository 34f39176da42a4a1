"""What the devices of a deployment cost: as its settings say, or as the price book has them."""

from collections.abc import Mapping, Sequence

from infra.deploy.workload import Group, Pool
from infra.device_kinds import DeviceKind
from infra.price_table import Plan
from infra.pricing import PricingConfig, price_book
from pipeline.config import JobConfig
from pipeline.prices import USD
from serving.config import ServeConfig
from sgl.errors import ConfigurationError


def device_prices(
    pools: Sequence[Pool], source: JobConfig | ServeConfig
) -> dict[str, float] | None:
    """US dollars of one device for an hour, by role; None where one of them has no price.

    Args:
        pools: of the deployment.
        source: whose `pools.*.usd_per_hour` win over `deploy.*.accelerator`.

    Raises:
        ConfigurationError: the price file is wrong.
    """
    found = {pool.role: _price(pool, source) for pool in pools}
    known = {role: price for role, price in found.items() if price is not None}
    return known if len(known) == len(found) else None


def hourly(
    groups: Sequence[Group], prices: Mapping[str, float] | None
) -> tuple[float, float] | None:
    """US dollars of the devices of all nodes for an hour, at least and at most; None is unknown."""
    if prices is None:
        return None
    devices = {group.role: group.gpus or group.nodes.cpus for group in groups}
    least, most = (
        sum(count * devices[role] * prices[role] for role, count in counts.items())
        for counts in ({g.role: g.least for g in groups}, {g.role: g.most for g in groups})
    )
    return least, most


def _price(pool: Pool, source: JobConfig | ServeConfig) -> float | None:
    written: float | None = getattr(source.pools, pool.role).usd_per_hour
    if written is not None:
        return written
    assert source.deploy is not None
    nodes = source.deploy.nodes[pool.role]
    kind = nodes.accelerator if pool.num_gpus else DeviceKind.CPU
    if kind is None:
        return None
    plan = Plan.SPOT if nodes.spot and pool.num_gpus else Plan.ON_DEMAND
    config = (source.pricing or PricingConfig()).model_copy(update={"plan": plan})
    try:
        book = price_book(config, source.storage)
        price = book.of(kind)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    if price is None or book.currency != USD:
        return None
    return price.per_hour
