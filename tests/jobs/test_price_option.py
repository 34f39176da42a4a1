import argparse
import subprocess
import sys

import pytest

from infra.device_kinds import DeviceKind
from infra.pricing import PricingConfig, price_book
from jobs.price_option import add_price_option, price_flags


def flags(*arguments: str) -> dict[str, float]:
    parser = argparse.ArgumentParser()
    add_price_option(parser)
    return price_flags(parser.parse_args(arguments))


def test_given_prices_are_settings() -> None:
    assert flags() == {}
    given = flags("--price", "h100=2.49", "--price", "a100-80gb=1", "--price", "h100=2")
    assert given == {"pricing.overrides.h100": 2.0, "pricing.overrides.a100-80gb": 1.0}


def test_they_reach_the_book() -> None:
    overrides = {name.rpartition(".")[2]: value for name, value in flags("--price", "l4=0").items()}
    prices = price_book(PricingConfig.model_validate({"overrides": overrides}))
    assert prices.prices[DeviceKind.L4].per_hour == 0.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("h100", "write KIND=AMOUNT"),
        ("h1000=2", "there is no kind 'h1000'; known are b200, h200, h100"),
        ("h100=", "must be a number, 0 or more"),
        ("h100=two", "must be a number, 0 or more"),
        ("h100=-2", "must be a number, 0 or more"),
        ("h100=nan", "must be a number, 0 or more"),
        ("h100=inf", "must be a number, 0 or more"),
    ],
)
def test_what_is_no_price_is_refused(
    text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        flags(f"--price={text}")
    assert exit_.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_option_is_light_to_import() -> None:
    loaded = "import sys, jobs.price_option; print({'ray', 'torch', 'pyarrow'} & set(sys.modules))"
    told = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "set()"
