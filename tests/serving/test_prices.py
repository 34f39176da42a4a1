"""What a second of a replica is: as a batch job has it."""

from typing import Any

import pytest

from serving.prices import priced
from tests.serving.fakes import config_of, usage

MODELS: dict[str, Any] = {
    "small": {"path": "small", "cpu_threads": 3},
    "large": {"path": "large"},
}


def test_a_replicas_seconds_are_those_of_all_its_devices() -> None:
    pools = {
        "small": {"num_gpus": 0, "usd_per_hour": 0.36},
        "large": {"num_gpus": 4, "usd_per_hour": 3.6},
    }
    found = priced(config_of(models=MODELS, pools=pools), [])
    spent = usage(20, 6, 4, 1.5)
    assert found.small.device_seconds(spent) == pytest.approx(3 * 1.5)
    assert found.large.device_seconds(spent) == pytest.approx(4 * 1.5)
    assert found.small.usd(spent) == pytest.approx(3 * 1.5 * 0.0001)
    assert found.large.usd(spent) == pytest.approx(4 * 1.5 * 0.001)


def test_devices_are_known_where_prices_are_not() -> None:
    found = priced(config_of(models=MODELS, pools={"large": {"num_gpus": 0.5}}), [])
    assert (found.large.devices, found.large.usd_per_hour) == (0.5, None)
