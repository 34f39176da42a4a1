"""The report in short, as Markdown for a pull request."""

from collections.abc import Iterable, Sequence

from jobs import report_figures as figures
from pipeline.report.compare import Comparison
from pipeline.report.facts import Facts


def markdown(every: Sequence[Facts], comparison: Comparison | None = None) -> str:
    """The whole text.

    Args:
        every: of each output.
        comparison: of several outputs.
    """
    parts = [_compared(comparison)] if comparison else []
    return "\n\n".join([*parts, *(_told(one) for one in every)]) + "\n"


def _compared(comparison: Comparison) -> str:
    heads = ["", comparison.names[0]]
    for name in comparison.names[1:]:
        heads += [name, "difference"]
    rows = []
    for line in comparison.lines:
        cells = [line.name + (f" ({line.note})" if line.note else ""), line.cells[0].value]
        for cell in line.cells[1:]:
            cells += [cell.value, cell.difference]
        rows.append(cells)
    title = "## " + " / ".join(map(_plain, comparison.names))
    return "\n\n".join([title, _table(heads, rows), comparison.remark])


def _told(facts: Facts) -> str:
    parts = [f"## {_plain(facts.name)}: {facts.state}", _table(["", "", ""], _rows(facts))]
    if means := figures.quality_figures(facts):
        heads = [figures.quality_name(facts), "95 % interval"]
        parts.append(_table(heads, [[name, figures.interval(one)] for name, one in means]))
    costs = [[one.name, one.value, one.note] for one in figures.cost_figures(facts)]
    parts.append(_table(["cost", "", ""], costs))
    if facts.money.pools:
        parts.append(_pools(facts))
    if facts.errors:
        rows = [[kind.type, kind.stage, f"{kind.rows:,}"] for kind in facts.errors]
        parts.append(_table(["error", "stage", "records"], rows))
    if lines := figures.price_lines(facts):
        parts.append("Prices: " + "; ".join(map(_plain, lines)) + ".")
    parts.append(f"Made {facts.made_at}, latest run {facts.settings.run_id}.")
    return "\n\n".join(parts)


def _rows(facts: Facts) -> list[list[str]]:
    some = [*figures.tiles(facts), *figures.tokens_and_pruning(facts)]
    return [[one.name, one.value, one.note] for one in some]


def _pools(facts: Facts) -> str:
    pools = facts.money.pools
    rows = [
        [name, *(f"{pool.parts_s[part]:,.1f}" for pool in pools.values())]
        for part, name in figures.PARTS.items()
    ]
    rows.append(["unexplained", *(f"{pool.unexplained_s:,.1f}" for pool in pools.values())])
    rows.append(["reserved", *(f"{pool.pool_s:,.1f}" for pool in pools.values())])
    rows.append(["adds up within 1 %", *("yes" if p.adds_up else "NO" for p in pools.values())])
    return _table(["device-seconds", *(f"{role} pool" for role in pools)], rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(map(_plain, heads)), ["---", *(["---:"] * (len(heads) - 1))]]
    lines += [list(map(_plain, row)) for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """A text that cannot break a table, nor be taken for HTML or a link."""
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
