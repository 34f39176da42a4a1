"""What the answers cost: by part, by unit, and against the large model alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.bill import Bill, PoolBill
from pipeline.report.quality import unpruned
from pipeline.report.rows import Chunk
from pipeline.summary import Summary
from sgl.statistics import Estimate

PARTS = ("rows", "probe", "startup", "idle", "recomputed")
"""Of a pool's device-seconds, see pipeline.bill."""
TOLERANCE = 0.01
"""Of a pool's device-seconds that may stay unexplained."""
_TOKENS = tuple(
    f"{role}_{kind}_tokens" for role in ("small", "large") for kind in ("prompt", "completion")
)


@dataclass(frozen=True)
class PoolCost:
    """Of one pool, over all runs.

    Attributes:
        pool_s: device-seconds reserved.
        parts_s: what they went into, by PARTS.
        unexplained_s: what is missing to the sum.
        adds_up: whether that is within 1 %.
        usd: price of all; None where none is known.
    """

    pool_s: float
    parts_s: dict[str, float]
    unexplained_s: float
    adds_up: bool
    usd: float | None


@dataclass(frozen=True)
class Tokens:
    """Of both models, prompt and completion."""

    small_prompt: int
    small_completion: int
    large_prompt: int
    large_completion: int

    @property
    def total(self) -> int:
        """All that a model read or wrote."""
        return self.small_prompt + self.small_completion + self.large_prompt + self.large_completion


@dataclass(frozen=True)
class LargeOnly:
    """What one record would have cost with the large model alone, unpruned.

    Attributes:
        basis: "measured" on probed records, or "modelled" by FLOPs.
        records: that it was measured on.
        saved_flops: share of its FLOPs that this run did not spend; None where modelled.
        device_s: per record, low and high: equal where measured.
        usd: likewise; None without prices.
        flops: likewise.
    """

    basis: str
    records: int
    saved_flops: Estimate | None
    device_s: tuple[float, float]
    usd: tuple[float, float] | None
    flops: tuple[float, float]


@dataclass(frozen=True)
class Money:
    """The costs of an output; US dollars at the prices of its runs, None without prices.

    Attributes:
        currency: of all prices.
        priced_on: the day of the first run, whose prices they are; ISO 8601.
        rows_usd: of the forward passes that the rows are of.
        pools_usd: of all that was reserved: start-up, idle and lost time too.
        per_1k_records: by part, in dollars: small and large of the rows, and overhead.
        per_1m_tokens: of the pools, by all tokens of both models.
        per_correct: of the pools, by answers that are right.
        tokens: of all rows.
        pools: by role.
        nodes: replica-seconds times devices, by node and role.
        without_record: runs whose time nobody kept.
        large_only: what it is held against; None in a run without the large model.
    """

    currency: str
    priced_on: str | None
    rows_usd: float | None
    pools_usd: float | None
    per_1k_records: dict[str, float] | None
    per_1m_tokens: float | None
    per_correct: float | None
    tokens: Tokens
    pools: dict[str, PoolCost]
    nodes: dict[str, dict[str, float]]
    without_record: Sequence[str]
    large_only: LargeOnly | None


class Spending:
    """Sums of the rows that money is made of."""

    def __init__(self) -> None:
        names = ("visual", "kept", "large_rows", "probed", "probed_s", "probed_usd", "probed_flops")
        self.sums = dict.fromkeys((*names, *_TOKENS), 0.0)

    def add(self, chunk: Chunk) -> None:
        """More rows."""
        for name in _TOKENS:
            self.sums[name] += float(np.nansum(chunk.floats(name)))
        large = chunk.escalated & chunk.known("large_prompt_tokens")
        visual, kept = (chunk.floats(name)[large] for name in ("visual_tokens", "kept_tokens"))
        self.sums["large_rows"] += float(large.sum())
        self.sums["visual"] += float(np.nansum(visual))
        # Where nothing was pruned, all are kept.
        self.sums["kept"] += float(np.nansum(np.where(np.isnan(kept), visual, kept)))
        for one in unpruned(chunk):
            if one is not None:
                self.sums["probed"] += 1
                self.sums["probed_s"] += one["gpu_s"] or 0.0
                self.sums["probed_usd"] += one["cost_usd"] or 0.0
                self.sums["probed_flops"] += one["flops"] or 0.0

    @property
    def tokens(self) -> Tokens:
        """Of all rows."""
        return Tokens(*(int(self.sums[name]) for name in _TOKENS))


def money_of(
    spending: Spending,
    summary: Summary,
    bill: Bill,
    *,
    right: float | None,
    small_usd: float,
    priced_on: str | None,
    saved: Estimate | None,
) -> Money:
    """Put the costs together.

    Args:
        spending: of all rows.
        summary: likewise.
        bill: of all runs.
        right: answers that are right, all rows taken; None where nothing tells.
        small_usd: of the small model's forward passes.
        priced_on: see Money.
        saved: see LargeOnly.
    """
    pools = {role: _pool_cost(one) for role, one in bill.pools.items()}
    known = [one.usd for one in pools.values()]
    pools_usd = sum(one for one in known if one is not None) if _all_known(known) else None
    whole = pools_usd if pools_usd is not None else summary.cost_usd
    tokens = spending.tokens
    return Money(
        currency="USD",
        priced_on=priced_on,
        rows_usd=summary.cost_usd,
        pools_usd=pools_usd,
        per_1k_records=_per_1k(summary, pools_usd, small_usd),
        per_1m_tokens=_per(whole, tokens.total / 1e6),
        per_correct=_per(whole, right),
        tokens=tokens,
        pools=pools,
        nodes=bill.nodes,
        without_record=bill.without_record,
        large_only=_large_only(spending, summary, small_usd, saved),
    )


def _all_known(prices: Sequence[float | None]) -> bool:
    return bool(prices) and all(one is not None for one in prices)


def _per(usd: float | None, units: float | None) -> float | None:
    return usd / units if usd is not None and units else None


def _per_1k(summary: Summary, pools_usd: float | None, small_usd: float) -> dict[str, float] | None:
    if summary.cost_usd is None or not summary.records:
        return None
    parts = {"small": small_usd, "large": max(0.0, summary.cost_usd - small_usd)}
    if pools_usd is not None:
        parts["overhead"] = max(0.0, pools_usd - summary.cost_usd)
    return {name: usd / summary.records * 1000 for name, usd in parts.items()}


def _pool_cost(pool: PoolBill) -> PoolCost:
    return PoolCost(
        pool_s=pool.pool_s,
        parts_s={part: getattr(pool, f"{part}_s") for part in PARTS},
        unexplained_s=pool.unexplained_s,
        adds_up=abs(pool.unexplained_s) <= TOLERANCE * pool.pool_s,
        usd=pool.usd,
    )


def _large_only(
    spending: Spending, summary: Summary, small_usd: float, saved: Estimate | None
) -> LargeOnly | None:
    sums = spending.sums
    priced = summary.cost_usd is not None
    if probed := sums["probed"]:
        means = {name: sums[f"probed_{name}"] / probed for name in ("s", "usd", "flops")}
        return LargeOnly(
            basis="measured",
            records=int(probed),
            saved_flops=saved,
            device_s=(means["s"], means["s"]),
            usd=(means["usd"], means["usd"]) if priced else None,
            flops=(means["flops"], means["flops"]),
        )
    rows = sums["large_rows"]
    if not rows:
        return None
    # The visual tokens that pruning dropped, put back: too much, as the vision tower had all.
    dropped = (1 - (summary.average_retention or 1.0)) * sums["visual"]
    tokens = sums["large_prompt_tokens"] + sums["large_completion_tokens"]
    factor = tokens / max(1.0, tokens - dropped)
    low = {"s": summary.large_gpu_s / rows, "flops": summary.large_flops / rows}
    usd = ((summary.cost_usd or 0.0) - small_usd) / rows
    return LargeOnly(
        basis="modelled",
        records=0,
        saved_flops=None,
        device_s=(low["s"], low["s"] * factor),
        usd=(usd, usd * factor) if priced else None,
        flops=(low["flops"], low["flops"] * factor),
    )
