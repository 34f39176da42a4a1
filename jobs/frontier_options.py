"""The options of `sgl evaluate` that are about the frontier; light to import."""

import argparse

from sgl.errors import ConfigurationError


def add_frontier_options(parser: argparse.ArgumentParser) -> None:
    """Of an output of sgl calibrate."""
    parser.add_argument(
        "--frontier",
        action="store_true",
        help="cost and quality of every cascade; OUTPUT is that of sgl calibrate",
    )
    parser.add_argument(
        "--figures", metavar="DIR", help="with --frontier: write frontier.png and .json there"
    )


def check_frontier_options(options: argparse.Namespace) -> None:
    """Refuse what does not go together.

    Raises:
        ConfigurationError: names the option.
    """
    if not options.frontier:
        if options.figures:
            raise ConfigurationError("--figures: is for --frontier, which is missing")
        return
    for name in ("by", "reference"):
        if getattr(options, name) is not None:
            raise ConfigurationError(
                f"--{name}: not with --frontier, which takes all records together, and the column "
                "answers or, without it, the large model's own answers"
            )
    if len(options.metric) > 1:
        raise ConfigurationError("--metric: one only with --frontier")
