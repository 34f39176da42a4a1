import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from infra.device_kinds import DeviceKind
from infra.price_table import Plan, PriceTable, built_in

QUOTE: dict[str, Any] = {
    "kind": "h100",
    "plan": "spot",
    "provider": "A",
    "instance": "big",
    "region": "here",
    "devices": 8,
    "usd_per_instance_hour": 16.0,
    "date": "2026-10-10",
    "source": "list",
}
SOURCES = {"list": {"text": "a list", "url": "https://example.org"}}


def test_every_kind_has_a_price_on_demand_and_spot_is_cheaper() -> None:
    on_demand, spot = built_in().of(Plan.ON_DEMAND), built_in().of(Plan.SPOT)
    assert set(on_demand) == set(DeviceKind)
    for kind, quote in spot.items():
        assert quote.usd_per_device_hour < on_demand[kind].usd_per_device_hour


def test_figures_are_of_the_past() -> None:
    assert all(quote.date <= datetime.date.today() for quote in built_in().quotes)


def test_the_devices_of_an_instance_share_its_price() -> None:
    table = PriceTable.model_validate({"sources": SOURCES, "quotes": [QUOTE]})
    assert table.of(Plan.SPOT)[DeviceKind.H100].usd_per_device_hour == 2.0
    assert table.of(Plan.ON_DEMAND) == {}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"usd_per_instance_hour": -1.0}, "greater than 0"),
        ({"devices": 0}, "greater than or equal to 1"),
        ({"source": "rumour"}, "told without being used"),
        ({"date": None}, "date"),
    ],
)
def test_a_quote_that_cannot_be_checked_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PriceTable.model_validate({"sources": SOURCES, "quotes": [QUOTE | changed]})


def test_two_prices_of_one_kind_and_plan_are_refused() -> None:
    with pytest.raises(ValidationError, match="more than one price of h100 spot"):
        PriceTable.model_validate({"sources": SOURCES, "quotes": [QUOTE, QUOTE]})
