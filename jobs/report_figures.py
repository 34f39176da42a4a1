"""The figures of a report in words: what its page and its Markdown both say."""

from dataclasses import dataclass

from pipeline.report.facts import Facts
from pipeline.report.money import LargeOnly
from pipeline.report.quality import Yardstick
from sgl.statistics import Estimate

_YARDSTICKS = {
    Yardstick.ACCURACY: "accuracy",
    Yardstick.AGREEMENT: "agreement with the large model alone",
    Yardstick.SAME: "same answer as in this run",
}
_RIGHT = {
    Yardstick.ACCURACY: "right",
    Yardstick.AGREEMENT: "agrees with the large model",
    Yardstick.SAME: "the same as in this run",
}
ROUTES = {"small": "exited", "large": "escalated"}
LATENCIES = {
    "small": "block in the small model",
    "large": "batch in the large model",
    "exited": "exited record, start to answer",
    "escalated": "escalated record, start to answer",
}
PARTS = {
    "rows": "rows",
    "probe": "probe",
    "startup": "start-up",
    "idle": "idle",
    "recomputed": "recomputed",
}


@dataclass(frozen=True)
class Figure:
    """One line of a report.

    Attributes:
        name: what it is of.
        value: formatted, with its unit.
        note: what has to be known with it; may be empty.
    """

    name: str
    value: str
    note: str = ""


def percent(share: float | None) -> str:
    """A share."""
    return "-" if share is None else f"{share:.1%}"


def interval(estimate: Estimate | None) -> str:
    """A share with its 95 % interval."""
    if estimate is None:
        return "-"
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"


def number(value: float | None) -> str:
    """Three significant digits, thousands apart, the large ones in powers of ten."""
    if value is None:
        return "-"
    if abs(value) >= 1e7:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def seconds(value: float | None) -> str:
    """A time in the unit that fits."""
    if value is None:
        return "-"
    if value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} s" if value < 600 else f"{value / 60:,.1f} min"


def span(low: float, high: float) -> str:
    """A figure, or the range that it lies in."""
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def quality_name(facts: Facts) -> str:
    """What its answers are held against."""
    return _YARDSTICKS[Yardstick(facts.quality.yardstick)]


def right_name(facts: Facts) -> str:
    """What is said of an answer that scores 1."""
    return _RIGHT[Yardstick(facts.quality.yardstick)]


def prices_of(facts: Facts) -> str:
    """Currency of all its prices, and the day of the run that paid them."""
    day = facts.money.priced_on
    return f"{facts.money.currency}, run of {day}" if day else facts.money.currency


def price_lines(facts: Facts) -> list[str]:
    """Of each pool's device, with currency, date and source, as the latest run told them."""
    models = {"small": facts.settings.small, "large": facts.settings.large}
    return [f"{role} pool: {one.price}" for role, one in models.items() if one.price]


def tiles(facts: Facts) -> list[Figure]:
    """What to know of a run at one glance."""
    summary, money = facts.summary, facts.money
    total = summary.records
    failed = sum(summary.failed.values())
    found = [Figure("records", f"{total:,}", f"of {facts.expected:,}, {facts.state}")]
    if facts.quality.overall is not None and facts.quality.yardstick != Yardstick.SAME:
        one = facts.quality.overall
        note = f"95 %: {one.low:.1%} to {one.high:.1%}, {facts.quality.judged:,} records"
        found.append(Figure(quality_name(facts), percent(one.value), note))
    if total:
        exits, asked = summary.exits / total, summary.escalated / total
        found.append(Figure("settled by the small model", percent(exits), f"{summary.exits:,}"))
        found.append(Figure("escalated", percent(asked), f"{summary.escalated:,}"))
    if money.per_1k_records:
        usd = sum(v for name, v in money.per_1k_records.items() if name != "overhead")
        note = f"{prices_of(facts)}; forward passes only"
        found.append(Figure("cost of 1k records", number(usd), note))
    else:
        spent = (summary.small_gpu_s + summary.large_gpu_s) / (total or 1) * 1000
        found.append(Figure("device-seconds of 1k records", number(spent), "no prices were set"))
    found += _saved(facts)
    found.append(Figure("failed", percent(failed / total if total else 0.0), f"{failed:,} records"))
    return found


def _saved(facts: Facts) -> list[Figure]:
    only = facts.money.large_only
    if only is None or facts.settings.mode != "cascade" or not facts.summary.records:
        return []
    spent = (facts.summary.small_flops + facts.summary.large_flops) / facts.summary.records
    if only.saved_flops is not None:
        one = only.saved_flops
        note = f"95 %: {one.low:.1%} to {one.high:.1%}; {basis_of(only)}"
        return [Figure("FLOPs saved against large only", percent(one.value), note)]
    low = 1 - spent / only.flops[0]
    return [Figure("FLOPs saved against large only", f"at least {low:.1%}", basis_of(only))]


def basis_of(only: LargeOnly) -> str:
    """How it is known what the large model alone would have cost."""
    if only.basis == "measured":
        return f"measured on {only.records:,} probed records"
    return "modelled by FLOPs, nothing was probed"


def cost_figures(facts: Facts) -> list[Figure]:
    """What it cost, by unit."""
    money, total = facts.money, facts.summary.records or 1
    prices = prices_of(facts)
    spent = facts.summary
    found = [
        Figure("small model, device-seconds per record", number(spent.small_gpu_s / total)),
        Figure("of these, the consistency pass", number(spent.consistency_gpu_s / total)),
        Figure("large model, device-seconds per record", number(spent.large_gpu_s / total)),
        Figure("FLOPs per record", number((spent.small_flops + spent.large_flops) / total)),
        Figure("tokens per record", number(money.tokens.total / total), "both models"),
    ]
    if money.per_1k_records:
        names = {"small": "small model", "large": "large model", "overhead": "all else"}
        notes = {"overhead": "start-up, idle, probe, recomputed; "}
        found += [
            Figure(f"1k records, {names[part]}", number(usd), f"{notes.get(part, '')}{prices}")
            for part, usd in money.per_1k_records.items()
        ]
    whole = "all that was reserved" if money.pools_usd is not None else "forward passes only"
    if money.pools_usd is not None:
        found.append(Figure("whole bill", number(money.pools_usd), f"{whole}; {prices}"))
    if money.per_1m_tokens is not None:
        found.append(Figure("1M tokens", number(money.per_1m_tokens), f"{whole}; {prices}"))
    if money.per_correct is not None:
        found.append(Figure("one right answer", number(money.per_correct), f"{whole}; {prices}"))
    return found + _large_only(facts)


def _large_only(facts: Facts) -> list[Figure]:
    only = facts.money.large_only
    if only is None:
        return []
    basis = basis_of(only)
    found = [
        Figure("large only, device-seconds per record", span(*only.device_s), basis),
        Figure("large only, FLOPs per record", span(*only.flops), basis),
    ]
    if only.usd is not None:
        low, high = (usd * 1000 for usd in only.usd)
        note = f"{basis}; {prices_of(facts)}"
        found.append(Figure("large only, 1k records", span(low, high), note))
    return found


def quality_figures(facts: Facts) -> list[tuple[str, Estimate]]:
    """Every mean with its interval, by name."""
    quality = facts.quality
    if quality.yardstick == Yardstick.SAME:
        return [("small model alone", quality.small)] if quality.small else []
    found = [("this run", quality.overall), ("small model alone", quality.small)]
    found.append(("large model alone, on probed records", quality.large))
    found += [(f"{ROUTES[route]} records", one) for route, one in quality.by_route.items()]
    return [(name, one) for name, one in found if one is not None]


def tokens_and_pruning(facts: Facts) -> list[Figure]:
    """What the large model saw."""
    kept = facts.retention
    if kept is None:
        return []
    if kept.average is None:
        return [Figure("pruning", "none", "all visual tokens are kept in every layer")]
    return [
        Figure("prune layer", number(kept.prune_layer), "share of the layers below the cut"),
        Figure("keep ratio", number(kept.keep_ratio), "share of the visual tokens kept above it"),
        Figure("average retention", percent(kept.average), "of visual token-layers computed"),
        Figure("visual tokens", number(kept.visual_tokens), "mean of the escalated records"),
        Figure("kept tokens", number(kept.kept_tokens), "mean, above the prune layer"),
    ]
