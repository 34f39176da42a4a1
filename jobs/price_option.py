"""The option `--price KIND=AMOUNT`, for the commands that tell costs."""

import argparse
import math

from infra.device_kinds import DeviceKind


def add_price_option(parser: argparse.ArgumentParser) -> None:
    """Add the option; `price_flags` of the parsed options makes settings of it."""
    parser.add_argument(
        "--price",
        action="append",
        default=[],
        type=parsed_price,
        metavar="KIND=AMOUNT",
        dest="prices",
        help="of one device for an hour, as in h100=2.49; may be repeated; see docs/PRICING.md",
    )


def price_flags(options: argparse.Namespace) -> dict[str, float]:
    """The given prices as settings, by dotted name; of one kind the last counts."""
    return {f"pricing.overrides.{kind}": amount for kind, amount in options.prices}


def parsed_price(text: str) -> tuple[DeviceKind, float]:
    """The kind and the amount of `KIND=AMOUNT`.

    Raises:
        argparse.ArgumentTypeError: says what is wrong, and names the known kinds.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: write KIND=AMOUNT, as in h100=2.49")
    if name not in list(DeviceKind):
        known = ", ".join(DeviceKind)
        raise argparse.ArgumentTypeError(f"there is no kind {name!r}; known are {known}")
    try:
        amount = float(value)
    except ValueError:
        amount = math.nan
    if not 0 <= amount < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: the amount must be a number, 0 or more")
    return DeviceKind(name), amount
