"""Options of the commands that name a criterion or compare them; light to import."""

import argparse

from sgl.types import Criterion


def add_criterion(parser: argparse.ArgumentParser) -> None:
    """Of a job: by what its records exit."""
    parser.add_argument(
        "--criterion",
        choices=[one.value for one in Criterion],
        help="what the exit score is; default: mean, the paper's",
    )


def add_comparison(parser: argparse.ArgumentParser) -> None:
    """Of `sgl evaluate`: the criteria side by side."""
    parser.add_argument(
        "--criteria", action="store_true", help="compare what records could exit by"
    )
    parser.add_argument(
        "--figures", metavar="DIR", help="with --criteria: write criteria.png and .json there"
    )
