"""Two or more outputs side by side: figures, and how far each is from the first, with intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import hypot

from pipeline.report.facts import Facts
from pipeline.report.quality import Yardstick
from sgl.statistics import Estimate


@dataclass(frozen=True)
class Cell:
    """One figure of one run.

    Attributes:
        value: as text.
        difference: to the first run's, as text; empty for the first one.
        direction: "good", "bad", or empty where neither can be said.
    """

    value: str
    difference: str = ""
    direction: str = ""


@dataclass(frozen=True)
class Line:
    """One figure of all runs."""

    name: str
    note: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Comparison:
    """All figures.

    Attributes:
        names: of the runs.
        lines: by figure.
        remark: what has to be known to read them.
    """

    names: tuple[str, ...]
    lines: tuple[Line, ...]
    remark: str


_REMARK = "Intervals take runs for independent samples: too wide for runs on the same records."


def difference(first: Estimate, other: Estimate) -> Estimate:
    """Of two independent means, other minus first, by Newcombe's method."""
    low = hypot(other.value - other.low, first.high - first.value)
    high = hypot(other.high - other.value, first.value - first.low)
    by = other.value - first.value
    return Estimate(by, by - low, by + high)


def compare(every: Sequence[Facts]) -> Comparison:
    """Hold all runs against the first.

    Args:
        every: at least two.
    """
    alike = len({(one.quality.yardstick, one.quality.metric) for one in every}) == 1
    # Against its own answers every run is perfect.
    measured = alike and every[0].quality.yardstick != Yardstick.SAME.value
    lines = []
    if measured:
        lines = [
            _means("quality", every, lambda one: one.quality.overall),
            _means("quality of the small model alone", every, lambda one: one.quality.small),
        ]
    lines += [_numbers(*figure, every) for figure in _FIGURES]
    remark = _REMARK if alike else f"{_REMARK} Quality is not compared: it is measured differently."
    known = tuple(line for line in lines if any(cell.value != "-" for cell in line.cells))
    return Comparison(tuple(one.name for one in every), known, remark)


def _means(name: str, every: Sequence[Facts], of: Callable[[Facts], Estimate | None]) -> Line:
    first = of(every[0])
    cells = [_mean(of(one), None if place == 0 else first) for place, one in enumerate(every)]
    told = every[0].quality
    return Line(name, f"{told.yardstick}, {told.metric}", tuple(cells))


def _mean(one: Estimate | None, first: Estimate | None) -> Cell:
    if one is None:
        return Cell("-")
    value = f"{one.value:.1%} [{one.low:.1%}, {one.high:.1%}]"
    if first is None:
        return Cell(value)
    by = difference(first, one)
    told = f"{by.value * 100:+.1f} [{by.low * 100:+.1f}, {by.high * 100:+.1f}] points"
    return Cell(value, told, "good" if by.low > 0 else "bad" if by.high < 0 else "")


def _numbers(
    name: str,
    of: Callable[[Facts], float | None],
    less_is_better: bool | None,
    every: Sequence[Facts],
) -> Line:
    first = of(every[0])
    cells = [
        _number(of(one), None if place == 0 else first, less_is_better)
        for place, one in enumerate(every)
    ]
    note = ""
    if name.endswith("USD"):
        note = ", ".join(dict.fromkeys(f"run of {one.money.priced_on}" for one in every))
    return Line(name, note, tuple(cells))


def _number(value: float | None, first: float | None, less_is_better: bool | None) -> Cell:
    if value is None:
        return Cell("-")
    told = f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"
    if not first:
        return Cell(told)
    change = value / first - 1
    direction = ""
    if less_is_better is not None and abs(change) >= 0.0005:
        direction = "good" if (change < 0) == less_is_better else "bad"
    return Cell(told, f"{change:+.1%}", direction)


def _per_record(total: float, facts: Facts) -> float | None:
    return total / facts.summary.records if facts.summary.records else None


def _usd_per_1k(facts: Facts) -> float | None:
    parts = facts.money.per_1k_records
    return parts["small"] + parts["large"] if parts else None


def _bill_per_1k(facts: Facts) -> float | None:
    usd = facts.money.pools_usd
    return None if usd is None else _per_record(usd * 1000, facts)


def _small_s(facts: Facts) -> float | None:
    return _per_record(facts.summary.small_gpu_s, facts)


def _large_s(facts: Facts) -> float | None:
    return _per_record(facts.summary.large_gpu_s, facts)


def _flops(facts: Facts) -> float | None:
    return _per_record(facts.summary.small_flops + facts.summary.large_flops, facts)


def _p95(kind: str) -> Callable[[Facts], float | None]:
    def of(facts: Facts) -> float | None:
        found = facts.latency.get(kind)
        return found.percentiles["p95"] if found else None

    return of


_Figure = tuple[str, Callable[[Facts], float | None], bool | None]
_FIGURES: tuple[_Figure, ...] = (
    ("threshold", lambda one: one.settings.threshold, None),
    ("records", lambda one: float(one.summary.records), None),
    ("escalation rate", lambda one: _per_record(one.summary.escalated, one), None),
    ("average retention", lambda one: one.summary.average_retention, None),
    ("failed", lambda one: float(sum(one.summary.failed.values())), True),
    ("1k records, forward passes, USD", _usd_per_1k, True),
    ("1k records, whole bill, USD", _bill_per_1k, True),
    ("one right answer, USD", lambda one: one.money.per_correct, True),
    (
        "small model, device-seconds per record",
        _small_s,
        True,
    ),
    (
        "large model, device-seconds per record",
        _large_s,
        True,
    ),
    (
        "FLOPs per record",
        _flops,
        True,
    ),
    ("exited, p95 seconds", _p95("exited"), True),
    ("escalated, p95 seconds", _p95("escalated"), True),
)
