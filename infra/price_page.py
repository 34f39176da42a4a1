"""The built-in prices as a table for people, in docs/PRICING.md.

`python -m infra.price_page` renews it.
"""

import re
from pathlib import Path

from infra.price_table import PriceTable, Quote, built_in

PAGE = Path(__file__).parents[1] / "docs" / "PRICING.md"
_PLACE = re.compile(r"(<!-- prices -->\n).*(?=<!-- end of prices -->)", re.DOTALL)
_COLUMNS = (
    *("device", "plan", "USD per device-hour", "rented as", "devices", "USD per instance-hour"),
    *("date", "source"),
)


def rendered(table: PriceTable) -> str:
    """The quotes as a Markdown table, with the sources' addresses below it."""
    lines = [_COLUMNS, ("---",) * len(_COLUMNS), *map(_cells, table.quotes)]
    rows = "".join(f"| {' | '.join(map(str, cells))} |\n" for cells in lines)
    sources = "".join(f"\n[{name}]: {one.url}" for name, one in table.sources.items())
    told = "; ".join(f"[{name}] is {one.text}" for name, one in table.sources.items())
    return f"{rows}\nSources: {told}.\n{sources}\n"


def renewed(page: str, table: PriceTable) -> str:
    """The page with this table in its place.

    Raises:
        ValueError: the page has no place for it.
    """
    if not _PLACE.search(page):
        raise ValueError("the page has no line '<!-- prices -->' before '<!-- end of prices -->'")
    return _PLACE.sub(lambda found: f"{found[1]}\n{rendered(table)}\n", page)


def _cells(quote: Quote) -> tuple[object, ...]:
    return (
        f"`{quote.kind}`",
        quote.plan.replace("_", " "),
        f"{quote.usd_per_device_hour:.4f}",
        f"{quote.provider} {quote.instance}, {quote.region}",
        quote.devices,
        quote.usd_per_instance_hour,
        quote.date,
        f"[{quote.source}]",
    )


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), built_in()), encoding="utf-8")
