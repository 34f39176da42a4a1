"""The option `--set NAME=VALUE`, for the commands that take settings."""

import argparse


def add_set_option(parser: argparse._ActionsContainer) -> None:
    """Add the option; the parsed ones are named `assignments`."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="assignments",
        help="one setting, as in pools.large.replicas=2; may be repeated",
    )
