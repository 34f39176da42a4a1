import re

import pytest
import yaml

from infra.device_kinds import DeviceKind
from infra.price_page import PAGE, rendered, renewed
from infra.price_table import built_in
from infra.pricing import PriceFile, PricingConfig, price_book

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_has_the_tables_figures() -> None:
    assert renewed(TEXT, built_in()) == TEXT, "run python -m infra.price_page"


def test_every_row_has_its_figures_and_an_address() -> None:
    lines = rendered(built_in()).splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert len(rows) == len(built_in().quotes)
    for row, quote in zip(rows, built_in().quotes, strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert float(cells[2]) * int(cells[4]) == pytest.approx(float(cells[5]), abs=1e-3)
        assert cells[6] == str(quote.date)
        assert f"{cells[7]}: https://" in "\n".join(lines)


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="<!-- prices -->"):
        renewed("# Prices", built_in())


def test_the_pages_examples_are_valid() -> None:
    settings, own = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    config = PricingConfig.model_validate(yaml.safe_load(settings)["pricing"])
    assert config.overrides == {DeviceKind.H100: 2.49}
    assert PriceFile.model_validate(yaml.safe_load(own)).currency == "EUR"
    assert f"`{price_book(PricingConfig()).of(DeviceKind.H100)}`" in " ".join(TEXT.split())
