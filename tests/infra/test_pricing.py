import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from infra.device_kinds import DeviceKind
from infra.price_table import Plan, built_in
from infra.pricing import PriceBook, PricingConfig, price_book
from infra.s3 import StorageConfig
from infra.storage import write_bytes
from tests.s3 import Server

OWN = """
date: 2026-11-01
source: our contract
on_demand: {h100: 2.1, cpu: 0.03}
spot: {h100: 1.05}
"""


def book(text: str | None, tmp_path: Path, **settings: Any) -> PriceBook:
    path = tmp_path / "prices.yaml"
    if text is not None:
        path.write_text(text)
    return price_book(PricingConfig(file=str(path), **settings))


def per_hour(of: PriceBook, kind: DeviceKind) -> float:
    price = of.of(kind)
    assert price is not None
    return price.per_hour


def test_without_settings_the_tables_prices_on_demand_count() -> None:
    prices = price_book(PricingConfig())
    for kind, quote in built_in().of(Plan.ON_DEMAND).items():
        price = prices.of(kind)
        assert price is not None
        assert price.per_hour == quote.usd_per_device_hour
        assert (price.currency, price.plan, price.date) == ("USD", quote.plan, quote.date)


def test_a_price_is_told_with_currency_terms_date_and_source() -> None:
    quote = built_in().of(Plan.ON_DEMAND)[DeviceKind.H100]
    said = f"USD 6.88 per hour on demand (AWS p5.48xlarge us-east-1, {quote.date})"
    assert str(price_book(PricingConfig()).of(DeviceKind.H100)) == said


def test_a_plan_without_a_price_has_none_and_says_what_to_write() -> None:
    prices = price_book(PricingConfig(plan=Plan.SPOT))
    assert prices.of(DeviceKind.V100) is None
    assert prices.remedy(DeviceKind.V100).startswith("there is no spot price of v100, only of b200")
    assert "--price v100=AMOUNT" in prices.remedy(DeviceKind.V100)


def test_ones_own_file_wins_over_the_table_and_single_prices_over_both(tmp_path: Path) -> None:
    prices = book(OWN, tmp_path, overrides={"cpu": 0.01})
    own = prices.of(DeviceKind.H100)
    assert own is not None
    assert (own.per_hour, own.date) == (2.1, datetime.date(2026, 11, 1))
    assert str(own) == "USD 2.1 per hour on demand (our contract, 2026-11-01)"
    assert str(prices.of(DeviceKind.CPU)) == "USD 0.01 per hour (as given)"
    assert prices.of(DeviceKind.L4) == price_book(PricingConfig()).of(DeviceKind.L4)


def test_the_plan_chooses_within_ones_own_file(tmp_path: Path) -> None:
    assert per_hour(book(OWN, tmp_path, plan="spot"), DeviceKind.H100) == 1.05


def test_a_single_price_holds_on_any_plan() -> None:
    prices = price_book(PricingConfig.model_validate({"plan": "spot", "overrides": {"l4": 0.0}}))
    assert per_hour(prices, DeviceKind.L4) == 0.0


def test_the_files_name_is_the_source_where_it_tells_none(tmp_path: Path) -> None:
    price = book("{date: 2026-11-01, on_demand: {l4: 0.5}}", tmp_path).of(DeviceKind.L4)
    assert price is not None
    assert price.source == str(tmp_path / "prices.yaml")


def test_another_currency_replaces_the_table_and_never_meets_it(tmp_path: Path) -> None:
    prices = book("currency: EUR" + OWN, tmp_path, overrides={"t4": 0.3})
    assert {price.currency for price in prices.prices.values()} == {"EUR"}
    assert str(prices.of(DeviceKind.T4)) == "EUR 0.3 per hour (as given)"
    with pytest.raises(ValueError, match=r"in EUR and has no on_demand price of l4.*--price l4="):
        prices.of(DeviceKind.L4)


def test_what_nobody_has_a_price_of_is_no_mixture(tmp_path: Path) -> None:
    assert book("currency: EUR" + OWN, tmp_path, plan="spot").of(DeviceKind.V100) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("on_demand: [", "not YAML"),
        ("date: 2026-13-45", "not YAML: month must be in"),
        ("just words", "valid dictionary"),
        ("on_demand: {h100: 2.1}", "date: Field required"),
        (OWN.replace("h100: 2.1", "h1000: 2.1"), "on_demand.h1000: Input should be 'b200', 'h200'"),
        (OWN.replace("2.1", "-2.1"), "on_demand.h100: Input should be greater than or equal to 0"),
        (OWN.replace("2.1", ".nan"), "on_demand.h100: Input should be a finite number"),
        (OWN.replace("2.1", "yes"), "on_demand.h100: Input should be a valid number"),
        ("currency: euro" + OWN, "currency: String should match"),
        ("reserved: {h100: 1}" + OWN, "reserved: Extra inputs are not permitted"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(
    text: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"pricing\.file .*prices\.yaml: ") as caught:
        book(text, tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"overrides": {"h1000": 1.0}}, "Input should be 'b200', 'h200'"),
        ({"overrides": {"h100": -1.0}}, "greater than or equal to 0"),
        ({"plan": "reserved"}, "'on_demand' or 'spot'"),
        ({"currency": "EUR"}, "Extra inputs"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PricingConfig.model_validate(settings)


def test_a_file_may_lie_on_s3(bucket: str, s3_server: Server) -> None:
    storage = StorageConfig(endpoint_url=s3_server.url, region="us-east-1")
    write_bytes(f"{bucket}/prices.yaml", OWN.encode(), storage)
    prices = price_book(PricingConfig(file=f"{bucket}/prices.yaml"), storage)
    assert per_hour(prices, DeviceKind.H100) == 2.1
