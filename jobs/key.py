"""`sgl key`: makes and revokes the API keys of an endpoint."""

import argparse
import sys
from datetime import date


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `sgl key` takes."""
    parser.set_defaults(command=run)
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the new key's owner, for logs")
    parser.add_argument("--file", required=True, metavar="FILE", help="`keys` of the endpoint")
    parser.add_argument("--revoke", metavar="NAME", help="take this key back instead")
    for what in ("requests", "tokens"):
        parser.add_argument(
            f"--{what}-per-minute",
            type=float,
            metavar="N",
            help=f"default: the endpoint's limits.{what}_per_minute",
        )
    parser.add_argument(
        "--expires",
        type=date.fromisoformat,
        metavar="DATE",
        help="the last day on which it counts, in UTC, as in 2027-06-30; default: never ends",
    )


def run(options: argparse.Namespace) -> int:
    """Print the new key, once and alone on standard output, or revoke one."""
    from serving.key_file import add_key, revoke_key
    from sgl.errors import ConfigurationError

    if (options.name is None) == (options.revoke is None):
        raise ConfigurationError("name: write NAME for a new key, or --revoke NAME")
    if options.revoke is not None:
        revoke_key(options.file, options.revoke)
        print(f"revoked {options.revoke}; a running endpoint knows in a second", file=sys.stderr)
        return 0
    key = add_key(
        options.file,
        options.name,
        requests_per_minute=options.requests_per_minute,
        tokens_per_minute=options.tokens_per_minute,
        expires=options.expires,
    )
    print(key)
    print("this key is shown now and never again", file=sys.stderr)
    return 0
